"""From text to token ids and back: one id per character, per word, or byte-pair encoding.

Losses are only comparable across tokenizers when they count the same thing: `bits_per_character`
turns nats per token into bits per character of the text itself.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers as hf
import torch
from torch import Tensor

from gptlib.corpora import Corpus

PART = 100_000  # characters that are encoded at once: what is known of their tokens takes 100 bytes each
LONGEST_WORD = 500  # characters; merges are learned in a time that grows with the square of a word's length


class CharTokenizer:
    """One id per character, in the order of their code points."""

    may_cut = True  # a text can be encoded in parts

    def __init__(self, characters: str):
        if not characters:
            raise ValueError(
                "a CharTokenizer needs at least one character: train it on a text that is not empty"
            )
        if len(set(characters)) != len(characters):
            raise ValueError(
                "each character may be named once: use CharTokenizer.train(text) to collect them"
            )
        check_characters(characters)
        self.characters = characters
        self._id_of = {character: i for i, character in enumerate(characters)}

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Collect the characters of a text. Raises ValueError when it is empty or has half a character."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """The number of characters, V."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Return one id per character. Raises ValueError when the vocabulary lacks one of them."""
        try:
            return [self._id_of[character] for character in text]
        except KeyError:
            check_characters(text)
            unknown = sorted(set(text) - set(self.characters))
            raise ValueError(
                f"this tokenizer has never seen {unknown}; it knows {self.characters!r}. "
                "Leave them out, or train a BPETokenizer, which can write any text"
            ) from None

    def decode(self, ids: list[int] | Tensor) -> str:
        """Return the text that the ids, a list or a tensor of shape (T,), stand for."""
        return "".join(self.characters[i] for i in _as_list(ids, self.vocab_size))

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON."""
        Path(path).expanduser().write_text(
            json.dumps({"type": "characters", "characters": self.characters}), encoding="utf-8"
        )

    @classmethod
    def load(cls, path: str | Path) -> "CharTokenizer":
        """Read a tokenizer that `save` wrote. Raises ValueError when the file is damaged, or another."""
        found = read_json(path)
        if found.get("type") != "characters" or not isinstance(found.get("characters"), str):
            raise ValueError(
                f"{path} holds no CharTokenizer; if it is a BPE tokenizer, use BPETokenizer.load"
            )
        return cls(found["characters"])


WORD = r"\n|:|[^\s:]+"  # a line break, a colon, or what stands between blanks


class WordTokenizer:
    """One id per word of a given list, for texts that we make up ourselves.

    Blanks part words; a line break and a colon are words of their own, so list them if they occur.
    """

    may_cut = True  # a text can be encoded in parts

    def __init__(self, words: Sequence[str]):
        if len(set(words)) != len(words) or any(re.findall(WORD, word) != [word] for word in words):
            raise ValueError("each word is named once, and has no blank and no colon in it")
        self.words = tuple(words)
        self._id_of = {word: i for i, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """The number of words, V."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return one id per word. Raises ValueError when the list lacks one of them."""
        check_characters(text)
        words = re.findall(WORD, text)
        if unknown := sorted(set(words) - set(self._id_of)):
            raise ValueError(
                f"this tokenizer does not know {unknown}: use only its words, {list(self.words)}"
            )
        return [self._id_of[word] for word in words]

    def decode(self, ids: list[int] | Tensor) -> str:
        """Return the text that the ids, a list or a tensor of shape (T,), stand for, blanks between."""
        text = " ".join(self.words[i] for i in _as_list(ids, self.vocab_size))
        return re.sub(r" ?\n ?", "\n", text).replace(" :", ":")


class BPETokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; over bytes as in GPT-2, Radford et al. 2019).

    Every text can be written, since every byte is a token; frequent byte sequences become tokens
    of their own. Id 0 is ``<|endoftext|>``. A thin layer over the `tokenizers` library, whose settings for
    training batches (truncation, padding, templates, dropout of merges) are not taken over.
    """

    END_OF_TEXT = "<|endoftext|>"
    N_BYTES = 256

    def __init__(self, tokenizer: hf.Tokenizer):
        self._tokenizer = hf.Tokenizer.from_str(tokenizer.to_str())  # the other one stays as it is
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.model.dropout = None

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BPETokenizer":
        """Learn merges from a text until there are `vocab_size` tokens, or no pair is left to merge.

        Raises ValueError when the text is empty or vocab_size leaves no room for the 256 bytes.
        """
        if not text:
            raise ValueError("byte-pair encoding needs a text to learn its merges from; this one is empty")
        if vocab_size < cls.N_BYTES + 1:
            raise ValueError(
                f"vocab_size must be at least {cls.N_BYTES + 1} (256 bytes and {cls.END_OF_TEXT})"
            )
        check_characters(text)
        tokenizer = hf.Tokenizer(hf.models.BPE())
        tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = hf.decoders.ByteLevel()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[cls.END_OF_TEXT],
            initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        lines = (line for part in cut(text) for line in part.splitlines(keepends=True))
        tokenizer.train_from_iterator((word for line in lines for word in cut(line, LONGEST_WORD)), trainer)
        return cls(tokenizer)

    @cached_property
    def vocab_size(self) -> int:
        """The number of ids, V: one more than the highest."""
        return max(self._tokenizer.get_vocab().values()) + 1

    @property
    def end_of_text(self) -> int:
        """The id of the token that ends a text. Raises ValueError when the tokenizer has none."""
        found = self._tokenizer.token_to_id(self.END_OF_TEXT)
        if found is None:
            raise ValueError(
                f"this tokenizer has no token {self.END_OF_TEXT}: train one with BPETokenizer.train"
            )
        return found

    @cached_property
    def may_cut(self) -> bool:
        """Whether no token crosses the places where `cut` cuts, so that a text can be encoded in parts."""
        split = self._tokenizer.pre_tokenizer
        plain = isinstance(split, hf.pre_tokenizers.ByteLevel) and split.use_regex
        plain = plain and not split.add_prefix_space and self._tokenizer.normalizer is None
        return plain and not any(
            token.lstrip or token.rstrip or token.single_word or re.search(r"\s", token.content)
            for token in self._tokenizer.get_added_tokens_decoder().values()
        )

    def encode(self, text: str, special_tokens: bool = False) -> list[int]:
        """Return the ids of a text: the merges of training applied to its bytes.

        What spells a special token, such as ``<|endoftext|>``, is text like any other, unless
        `special_tokens` says that it stands for the token. Raises ValueError when there is half a character.
        """
        check_characters(text)
        self._tokenizer.encode_special_tokens = not special_tokens
        parts = cut(text) if self.may_cut else [text]
        return [i for part in parts for i in self._tokenizer.encode(part, add_special_tokens=False).ids]

    def decode(self, ids: list[int] | Tensor) -> str:
        """Return the text that the ids, a list or a tensor of shape (T,), stand for."""
        return self._tokenizer.decode(_as_list(ids, self.vocab_size), skip_special_tokens=False)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, in the format of the `tokenizers` library."""
        Path(path).expanduser().write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Read a tokenizer that `save` wrote. Raises ValueError when the file is damaged, or another."""
        found = read_json(path)
        model = found.get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE":
            raise ValueError(
                f"{path} holds no BPE tokenizer; if it is a CharTokenizer, use CharTokenizer.load"
            )
        try:
            return cls(hf.Tokenizer.from_str(json.dumps(found)))
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"{path} holds no whole BPE tokenizer ({error}): {COPY_AGAIN}") from error


Tokenizer = CharTokenizer | WordTokenizer | BPETokenizer


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus as token ids: what training reads."""

    train: Tensor  # (number of tokens,), int64
    validation: Tensor  # (number of tokens,), int64
    characters_per_token: float  # measured on the validation text
    train_characters_per_token: float  # measured on the training text
    vocab_size: int


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer) -> EncodedCorpus:
    """Encode both texts of a corpus. Raises ValueError when a CharTokenizer lacks one of its characters."""
    train, validation = (_encode_compactly(text, tokenizer) for text in (corpus.train, corpus.validation))
    return EncodedCorpus(
        train,
        validation,
        characters_per_token=len(corpus.validation) / len(validation),
        train_characters_per_token=len(corpus.train) / len(train),
        vocab_size=tokenizer.vocab_size,
    )


def _encode_compactly(text: str, tokenizer: Tokenizer) -> Tensor:
    """Encode a text part by part, and keep four bytes a token until all are there: (T,), int64."""
    parts = cut(text) if tokenizer.may_cut else [text]
    return torch.cat([torch.tensor(tokenizer.encode(part), dtype=torch.int32) for part in parts]).long()


def cut(text: str, size: int = PART) -> Iterator[str]:
    """Cut a text into parts of `size` to twice as many characters, the last one shorter.

    A part begins with the blank or line break that follows a word, which no token of a byte-level tokenizer
    crosses: its words begin with their blank. A word that is longer than `size` is cut within.
    """
    start, between = 0, re.compile(r"(?<=\S)[ \n]")
    while len(text) - start > 2 * size:
        found = between.search(text, start + size, start + 2 * size)
        end = found.start() if found else start + 2 * size
        yield text[start:end]
        start = end
    yield text[start:]


def bits_per_character(nats_per_token: float, characters_per_token: float) -> float:
    """Return a loss in bits per character of text, which does not depend on the tokenizer."""
    return nats_per_token / math.log(2) / characters_per_token


def _as_list(ids: list[int] | Tensor, vocab_size: int) -> list[int]:
    ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    unknown = [i for i in ids if not 0 <= i < vocab_size]
    if unknown:
        raise ValueError(f"ids run from 0 to {vocab_size - 1}; found {unknown[:5]}")
    return ids


def check_characters(text: str) -> None:
    """Raise ValueError when a text has surrogates, halves of a character that no file in UTF-8 can hold."""
    if found := re.search("[\ud800-\udfff]", text):
        raise ValueError(
            f"character {found.start()} is a lone surrogate, {found[0]!r}, half of a character: read the "
            "text with errors='replace', or use text.encode('utf-8', 'replace').decode()"
        )


COPY_AGAIN = "copy or download it again"


def read_json(path: str | Path) -> dict:
    """Return the object, {...}, in a JSON file. Raises ValueError, naming the file, for anything else."""
    path = Path(path).expanduser()
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or too deep
        raise ValueError(f"{path} {what_is_wrong(path)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object, {{...}}, but a {type(found).__name__}: {COPY_AGAIN}")
    return found


def what_is_wrong(path: Path) -> str:
    """Say of a file that cannot be read what it is instead, and the remedy."""
    with path.open("rb") as file:
        head = file.read(200).lstrip()
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS in the file's place: run `git lfs pull` in its folder"
    if not head:
        return f"is empty: {COPY_AGAIN}"
    if head.startswith(b"<"):
        return "is a web page in the file's place: download the file itself, by its link to the raw content"
    return f"is cut or damaged: {COPY_AGAIN}"
