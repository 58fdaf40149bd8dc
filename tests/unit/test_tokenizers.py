import json
import math
import os

import pytest
import tokenizers as hf
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlib.corpora import Corpus, Document
from gptlib.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    WordTokenizer,
    bits_per_character,
    cut,
    encode_corpus,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # surrogates are no characters of their own
BPE = BPETokenizer.train("the cat sat on the mat, the cat sat on the hat. " * 10, 300)


@given(ANY_TEXT)
def test_characters_come_back_as_they_went_in(text):
    tokenizer = CharTokenizer.train(text + "x")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(ANY_TEXT)
def test_bpe_writes_any_text_and_gives_it_back(text):
    assert BPE.decode(BPE.encode(text)) == text


def test_bpe_spends_fewer_tokens_on_what_it_was_trained_on():
    assert len(BPE.encode("the cat sat")) <= 4
    assert len(BPE.encode("xyzzy")) == 5


def test_tensors_decode_like_lists():
    assert BPE.decode(torch.tensor(BPE.encode("the mat"))) == "the mat"


def test_a_text_that_spells_a_special_token_is_text_unless_asked_otherwise():
    text = "a<|endoftext|>b <|endoftext|>"
    assert BPE.end_of_text == 0 and 0 not in BPE.encode(text)
    assert BPE.decode(BPE.encode(text)) == text
    special = BPE.encode(text, special_tokens=True)
    assert special == [*BPE.encode("a"), 0, *BPE.encode("b "), 0] and BPE.decode(special) == text
    assert 0 not in BPE.encode(text)  # asking once changes nothing later


@given(ANY_TEXT, ANY_TEXT)
def test_no_text_ends_the_text(before, after):
    assert 0 not in BPE.encode(f"{before}<|endoftext|>{after}")


def changed(tmp_path, change):
    """Let the library save a tokenizer after a change, and load it here."""
    library = hf.Tokenizer.from_str(BPE._tokenizer.to_str())
    change(library)
    library.save(str(tmp_path / "tokenizer.json"))
    return BPETokenizer.load(tmp_path / "tokenizer.json")


TEMPLATE = hf.processors.TemplateProcessing("<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
LONG = "the cat sat on the mat, the hat sat. " * 100


@pytest.mark.parametrize(
    "change",
    [
        lambda library: library.enable_truncation(16),
        lambda library: library.enable_truncation(5, stride=2, direction="left"),
        lambda library: library.enable_padding(length=5000),
        lambda library: library.enable_padding(pad_to_multiple_of=64, pad_token="<|endoftext|>"),
        lambda library: setattr(library, "post_processor", TEMPLATE),
        lambda library: setattr(library.model, "dropout", 0.5),
        lambda library: setattr(library, "encode_special_tokens", True),
    ],
    ids=["truncated", "truncated left", "padded", "multiples", "template", "dropout", "as text"],
)
def test_what_a_file_says_of_training_batches_changes_no_ids(tmp_path, change):
    loaded = changed(tmp_path, change)
    for text in (LONG, "the cat", "", "<|endoftext|>"):
        assert loaded.encode(text) == BPE.encode(text)
    loaded.save(tmp_path / "again.json")
    assert hf.Tokenizer.from_file(str(tmp_path / "again.json")).truncation is None


def test_a_tokenizer_taken_over_from_the_library_stays_as_it_is():
    library = hf.Tokenizer.from_str(BPE._tokenizer.to_str())
    library.enable_truncation(2)
    assert BPETokenizer(library).encode(LONG) == BPE.encode(LONG)
    assert len(library.encode(LONG).ids) == 2


def test_other_special_tokens_of_a_file_are_text_too(tmp_path):
    names = ["<|im_start|>", "</s>", "[MASK]", "<|fim|> x"]
    loaded = changed(tmp_path, lambda library: library.add_special_tokens(names))
    assert loaded.vocab_size == BPE.vocab_size + 4
    for name in names:
        assert loaded.encode(f"a {name} b") == BPE.encode(f"a {name} b")
        assert max(loaded.encode(f"a {name} b", special_tokens=True)) >= BPE.vocab_size
    assert loaded.decode([loaded.vocab_size - 1]) == "<|fim|> x"


def test_the_vocabulary_reaches_to_the_highest_id_also_with_gaps(tmp_path):
    saved = json.loads(BPE._tokenizer.to_str())
    saved["model"]["vocab"] |= {"ab": 500}
    (tmp_path / "gaps.json").write_text(json.dumps(saved), encoding="utf-8")
    loaded = BPETokenizer.load(tmp_path / "gaps.json")
    assert loaded.vocab_size == 501 and loaded.decode([500, 499]) == "ab"


def test_without_an_end_of_text_the_error_says_so(tmp_path):
    saved = json.loads(BPE._tokenizer.to_str().replace("<|endoftext|>", "</s>"))
    (tmp_path / "other.json").write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(ValueError, match=r"no token <\|endoftext\|>"):
        BPETokenizer.load(tmp_path / "other.json").end_of_text  # noqa: B018


ODD = ("\ud800", "a\udcffb", "\ude00\ud83d", "x" * 300 + "\udfff")  # halves of characters


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    "use",
    [
        BPE.encode,
        CharTokenizer.train,
        lambda text: BPETokenizer.train(text, 300),
        CharTokenizer("ab").encode,
        WordTokenizer(["a"]).encode,
    ],
    ids=["encode", "collect", "learn", "characters", "words"],
)
def test_half_a_character_is_refused_with_the_remedy(use, text):
    with pytest.raises(ValueError, match=r"lone surrogate.*errors='replace'"):
        use(text)


# -- long texts --------------------------------------------------------------------------------------

WORDS = st.lists(st.one_of(ANY_TEXT.map(lambda text: text[:8]), st.sampled_from(["'s", "\r\n", " \n ", "9"])))


@given(WORDS, st.sampled_from(["a b", ". the", "é\nx", "1 \n", "'t '"]), st.integers(20, 40))
def test_a_text_encoded_in_parts_is_the_text_encoded_at_once(words, between, size):
    text = between.join([*words, "", ""]) * 3
    parts = list(cut(text, size))
    assert "".join(parts) == text and max(map(len, parts)) <= 2 * size
    ids = [i for part in parts for i in BPE._tokenizer.encode(part).ids]
    assert ids == BPE._tokenizer.encode(text).ids


@given(ANY_TEXT, ANY_TEXT, st.sampled_from([" ", "\n"]))
def test_no_token_crosses_the_blank_after_a_word(before, after, blank):
    before += "x"
    once = BPE._tokenizer.encode(before + blank + after).ids
    assert once == BPE._tokenizer.encode(before).ids + BPE._tokenizer.encode(blank + after).ids


def test_long_texts_are_cut():
    sizes, encode = [], hf.Tokenizer.encode

    class Watched:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def encode(self, text, **how):
            sizes.append(len(text))
            return encode(self.inner, text, **how)

    tokenizer = BPETokenizer(BPE._tokenizer)
    tokenizer._tokenizer = Watched(tokenizer._tokenizer)
    text = LONG * 140  # half a million characters
    assert tokenizer.encode(text) == BPE._tokenizer.encode(text).ids
    assert len(sizes) >= 4 and max(sizes) <= 200_000


@pytest.mark.parametrize("word", ["x", "的", "👩", " ", "\n", "\t", "ab"])
def test_a_word_without_an_end_is_encoded_and_learned_from(word):
    text = word * 210_000
    assert BPE.decode(BPE.encode(text)) == text
    learned = BPETokenizer.train(text, 300)
    alone = 1 if word == "\n" else 30  # characters in a token; merges are learned line by line
    assert len(learned.encode(text)) <= len(text) / alone


def test_words_of_usual_length_give_the_merges_that_the_library_learns_from_lines():
    text = "".join(
        f"{i} cats sat\r\n\n  on {i % 7} mats, {'-' * (i % 90)}\x0b\x85 it's\n" for i in range(20_000)
    )
    library = hf.Tokenizer(hf.models.BPE())
    library.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = hf.decoders.ByteLevel()
    alphabet = sorted(hf.pre_tokenizers.ByteLevel.alphabet())
    trainer = hf.trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(text.splitlines(keepends=True), trainer)
    assert BPETokenizer.train(text, 600)._tokenizer.to_str() == library.to_str()


@pytest.mark.parametrize(
    "change",
    [
        lambda library: setattr(library, "normalizer", hf.normalizers.Prepend("_")),
        lambda library: setattr(library, "pre_tokenizer", hf.pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda library: setattr(library, "pre_tokenizer", hf.pre_tokenizers.ByteLevel(use_regex=False)),
        lambda library: setattr(library, "pre_tokenizer", hf.pre_tokenizers.Metaspace()),
        lambda library: library.add_tokens([hf.AddedToken("x y")]),
        lambda library: library.add_special_tokens([hf.AddedToken("<s>", rstrip=True)]),
    ],
    ids=[
        "prepended",
        "first blank",
        "no words",
        "blanks apart",
        "token with a blank",
        "token that takes blanks",
    ],
)
def test_where_tokens_may_cross_a_blank_the_text_is_encoded_at_once(tmp_path, change):
    tokenizer = changed(tmp_path, change)
    text = "x y\n<s> x y " * 20_000
    special = tokenizer._tokenizer
    special.encode_special_tokens = False
    assert not tokenizer.may_cut
    assert tokenizer.encode(text, special_tokens=True) == special.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer.train("hello, world\n\"'\\"), BPE], ids=["characters", "bpe"]
)
def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = type(tokenizer).load(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode("hello") == tokenizer.encode("hello")


def test_a_tokenizer_is_saved_and_loaded_under_any_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for tokenizer in (CharTokenizer("ab"), BPE):
        for name in ("~/t.json", tmp_path / "with a blank 👩.json", tmp_path / os.fsdecode(b"no-utf-8-\xff")):
            tokenizer.save(name)
            assert type(tokenizer).load(name).encode("ab") == tokenizer.encode("ab")
    assert (tmp_path / "t.json").exists()


@pytest.mark.parametrize("loader", [CharTokenizer, BPETokenizer])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b'{"type": "characters", "chara', "cut or damaged"),
        (b"\xff\xfe", "cut or damaged"),
        (b"[]", "list"),
        (b"{}", "holds no"),
        (b'{"type": "characters", "characters": ["a"]}', "holds no"),
        (b'{"type": "characters"}', "holds no"),
        (b'{"model": "BPE"}', "holds no"),
    ],
)
def test_a_broken_file_is_named_with_the_remedy(loader, content, says, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"tokenizer.json .*{says}"):
        loader.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(("saved", "loader"), [(BPE, CharTokenizer), (CharTokenizer("ab"), BPETokenizer)])
def test_a_tokenizer_of_the_other_kind_is_refused(saved, loader, tmp_path):
    saved.save(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=f"use {type(saved).__name__}.load"):
        loader.load(tmp_path / "tokenizer.json")


def test_unknown_characters_are_named():
    with pytest.raises(ValueError, match=r"never seen \['!', 'z'\]"):
        CharTokenizer.train("abc").encode("cab z!".replace(" ", ""))


def test_words_come_back_with_a_blank_between_and_unknown_ones_are_named():
    words = WordTokenizer(["\n", ":", "=>", "sea", "mer", "add"])
    text = "add:\nsea => mer\nsea =>"
    assert words.encode(text) == [5, 1, 0, 3, 2, 4, 0, 3, 2] and words.decode(words.encode(text)) == text
    with pytest.raises(ValueError, match=r"does not know \['lake'\]"):
        words.encode("sea lake")
    for bad in (["sea", "sea"], ["sea lake"], ["sea:"], [""]):
        with pytest.raises(ValueError, match="once"):
            WordTokenizer(bad)


@pytest.mark.parametrize("bad", [[-1], [3], torch.tensor([0, 7])])
def test_ids_outside_the_vocabulary_are_refused(bad):
    with pytest.raises(ValueError, match="from 0 to 2"):
        CharTokenizer.train("abc").decode(bad)


def test_empty_texts_train_nothing():
    with pytest.raises(ValueError, match="not empty"):
        CharTokenizer.train("")
    with pytest.raises(ValueError, match="empty"):
        BPETokenizer.train("", 300)
    with pytest.raises(ValueError, match="257"):
        BPETokenizer.train("abc", 256)


def test_bits_per_character_do_not_depend_on_the_tokenizer(corpus):
    """A uniform guess over 2 characters, as characters and as the 4 pairs of them, is 1 bit a character."""
    assert bits_per_character(math.log(2), 1.0) == pytest.approx(1.0)
    assert bits_per_character(math.log(4), 2.0) == pytest.approx(1.0)


def test_an_encoded_corpus_covers_the_whole_text(corpus):
    encoded = encode_corpus(corpus, BPE)
    assert BPE.decode(encoded.validation) == corpus.validation
    assert BPE.decode(encoded.train) == corpus.train
    assert encoded.characters_per_token == len(corpus.validation) / len(encoded.validation)


def test_a_long_corpus_is_encoded_in_parts_by_every_tokenizer():
    text = "the cat sat on the mat\n" * 12_000
    document = Document(text=text, module="", kind="text", name="", signature="", body=text)
    for tokenizer in (BPE, CharTokenizer.train(text), WordTokenizer(["\n", *sorted(set(text.split()))])):
        encoded = encode_corpus(Corpus("cats", (document,), (document,)), tokenizer)
        assert encoded.train.dtype == torch.int64
        assert encoded.train.tolist() == tokenizer.encode(text)
