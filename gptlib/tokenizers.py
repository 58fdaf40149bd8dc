"""From text to token ids and back: one id per character, per word, or byte-pair encoding.

Losses are only comparable across tokenizers when they count the same thing: `bits_per_character`
turns nats per token into bits per character of the text itself.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers as hf
import torch
from torch import Tensor

from gptlib.corpora import Corpus


class CharTokenizer:
    """One id per character, in the order of their code points."""

    def __init__(self, characters: str):
        if not characters:
            raise ValueError(
                "a CharTokenizer needs at least one character: train it on a text that is not empty"
            )
        if len(set(characters)) != len(characters):
            raise ValueError(
                "each character may be named once: use CharTokenizer.train(text) to collect them"
            )
        self.characters = characters
        self._id_of = {character: i for i, character in enumerate(characters)}

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Collect the characters of a text. Raises ValueError when the text is empty."""
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
        Path(path).write_text(
            json.dumps({"type": "characters", "characters": self.characters}), encoding="utf-8"
        )

    @classmethod
    def load(cls, path: str | Path) -> "CharTokenizer":
        """Read a tokenizer that `save` wrote. Raises ValueError when the file holds another kind."""
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found.get("type") != "characters":
            raise ValueError(
                f"{path} holds no CharTokenizer; if it is a BPE tokenizer, use BPETokenizer.load"
            )
        return cls(found["characters"])


WORD = r"\n|:|[^\s:]+"  # a line break, a colon, or what stands between blanks


class WordTokenizer:
    """One id per word of a given list, for texts that we make up ourselves.

    Blanks part words; a line break and a colon are words of their own, so list them if they occur.
    """

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
    of their own. Id 0 is ``<|endoftext|>``. A thin layer over the `tokenizers` library.
    """

    END_OF_TEXT = "<|endoftext|>"
    N_BYTES = 256

    def __init__(self, tokenizer: hf.Tokenizer):
        self._tokenizer = tokenizer

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
        tokenizer = hf.Tokenizer(hf.models.BPE())
        tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = hf.decoders.ByteLevel()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[cls.END_OF_TEXT],
            initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, V."""
        return self._tokenizer.get_vocab_size()

    @property
    def end_of_text(self) -> int:
        """The id of the token that ends a text."""
        return self._tokenizer.token_to_id(self.END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: the merges of training applied to its bytes."""
        return self._tokenizer.encode(text).ids

    def decode(self, ids: list[int] | Tensor) -> str:
        """Return the text that the ids, a list or a tensor of shape (T,), stand for."""
        return self._tokenizer.decode(_as_list(ids, self.vocab_size), skip_special_tokens=False)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, in the format of the `tokenizers` library."""
        self._tokenizer.save(str(path))

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Read a tokenizer that `save` wrote. Raises ValueError when the file holds another kind."""
        text = Path(path).read_text(encoding="utf-8")
        if (json.loads(text).get("model") or {}).get("type") != "BPE":
            raise ValueError(
                f"{path} holds no BPE tokenizer; if it is a CharTokenizer, use CharTokenizer.load"
            )
        return cls(hf.Tokenizer.from_str(text))


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
    train, validation = (torch.tensor(tokenizer.encode(text)) for text in (corpus.train, corpus.validation))
    return EncodedCorpus(
        train,
        validation,
        characters_per_token=len(corpus.validation) / len(validation),
        train_characters_per_token=len(corpus.train) / len(train),
        vocab_size=tokenizer.vocab_size,
    )


def bits_per_character(nats_per_token: float, characters_per_token: float) -> float:
    """Return a loss in bits per character of text, which does not depend on the tokenizer."""
    return nats_per_token / math.log(2) / characters_per_token


def _as_list(ids: list[int] | Tensor, vocab_size: int) -> list[int]:
    ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    unknown = [i for i in ids if not 0 <= i < vocab_size]
    if unknown:
        raise ValueError(f"ids run from 0 to {vocab_size - 1}; found {unknown[:5]}")
    return ids
