"""The task: write a docstring for a function's signature. Python's own functions, split by module, show how.

The prompt is the signature with the quotes that open a docstring, the response what follows, up to the token
that ends a text.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from gptlib.alignment.rollouts import MAX_PROMPT, MAX_RESPONSE, Responses, respond
from gptlib.babygpt import BabyGPT, babygpt
from gptlib.corpora import Document, python_docs
from gptlib.tokenizers import BPETokenizer

QUOTES = '"""'


@dataclass(frozen=True)
class Demonstration:
    """A function's signature, and the first paragraph of the docstring that its author wrote."""

    signature: str
    docstring: str


def demonstrations(documents: Sequence[Document]) -> list[Demonstration]:
    """Return the functions among documents, with the first paragraphs of their docstrings, on a line each."""
    return [
        Demonstration(d.signature, " ".join(d.body.split("\n\n")[0].split()))
        for d in documents
        if d.kind == "function"
    ]


def encode_prompt(tokenizer: BPETokenizer, signature: str) -> list[int]:
    """Return a signature as ids, with the quotes after it that open a docstring."""
    return tokenizer.encode(f"{signature}\n    {QUOTES}")


def encode_answer(tokenizer: BPETokenizer, docstring: str) -> list[int]:
    """Return a docstring as ids, with the token that ends an answer; cut off at MAX_RESPONSE tokens."""
    return [*tokenizer.encode(docstring), tokenizer.end_of_text][:MAX_RESPONSE]


def encode_responses(
    tokenizer: BPETokenizer, signatures: Sequence[str], docstrings: Sequence[str]
) -> Responses:
    """Return docstrings for signatures as ids."""
    return Responses(
        [encode_prompt(tokenizer, signature) for signature in signatures],
        [encode_answer(tokenizer, docstring) for docstring in docstrings],
    )


def decode_answers(tokenizer: BPETokenizer, responses: Responses) -> list[str]:
    """Return the docstrings of responses: up to the end of text, or the quotes that close a docstring."""
    end = (tokenizer.END_OF_TEXT, QUOTES)
    texts = [tokenizer.decode(answer) for answer in responses.answers]
    return [min((text.partition(mark)[0] for mark in end), key=len).strip() for text in texts]


def decode_responses(tokenizer: BPETokenizer, responses: Responses) -> tuple[list[str], list[str]]:
    """Return the signatures of responses, and their docstrings as people read them."""
    signatures = [tokenizer.decode(prompt).rpartition("\n")[0] for prompt in responses.prompts]
    return signatures, decode_answers(tokenizer, responses)


def fitting(tokenizer: BPETokenizer, given: Sequence[Demonstration]) -> list[Demonstration]:
    """Return the demonstrations whose signature and docstring are short enough to be read and written."""
    return [
        d
        for d in given
        if len(encode_prompt(tokenizer, d.signature)) <= MAX_PROMPT
        and len(tokenizer.encode(d.docstring)) < MAX_RESPONSE
    ]


def answer(
    model: nn.Module,
    tokenizer: BPETokenizer,
    signatures: Iterable[str],
    temperature: float = 1.0,
    seed: int = 0,
) -> Responses:
    """Let a model answer signatures, as ids."""
    prompts = [encode_prompt(tokenizer, signature) for signature in signatures]
    return respond(model, prompts, tokenizer.end_of_text, temperature=temperature, seed=seed)


def write_docstrings(
    model: nn.Module,
    tokenizer: BPETokenizer,
    signatures: Iterable[str],
    temperature: float = 1.0,
    seed: int = 0,
) -> list[str]:
    """Return a docstring that a model writes for each signature."""
    return decode_answers(tokenizer, answer(model, tokenizer, signatures, temperature, seed))


@dataclass(frozen=True)
class Setting:
    """What all methods start from: a base model, and demonstrations whose modules are trained or held out."""

    baby: BabyGPT
    train: list[Demonstration]
    held_out: list[Demonstration]

    @property
    def signatures(self) -> list[str]:
        """The signatures to learn on, each once."""
        return list(dict.fromkeys(d.signature for d in self.train))

    @property
    def held_out_signatures(self) -> list[str]:
        """The signatures to be judged on, each once."""
        return list(dict.fromkeys(d.signature for d in self.held_out))


@functools.cache
def setting() -> Setting:
    """Return chapter 2's model and Python's functions, the corpus's validation modules held out.

    What is held out shares no signature and no docstring with what is learned on.
    """
    corpus = python_docs()
    baby = babygpt()
    train, held_out = map(demonstrations, (corpus.train_documents, corpus.validation_documents))
    known = {d.signature for d in train} | {d.docstring for d in train}
    new = [d for d in held_out if not known & {d.signature, d.docstring}]
    return Setting(baby, fitting(baby.tokenizer, train), fitting(baby.tokenizer, new))
