import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlib.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    WordTokenizer,
    bits_per_character,
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


def test_end_of_text_is_one_token():
    assert BPE.encode("<|endoftext|>") == [BPE.end_of_text] == [0]


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer.train("hello, world\n\"'\\"), BPE], ids=["characters", "bpe"]
)
def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = type(tokenizer).load(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode("hello") == tokenizer.encode("hello")


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
