"""Small things that several tests share: a text, its tokens, a tiny model."""

import matplotlib
import pytest
import torch

from gptlib import training
from gptlib.budget import Budget
from gptlib.corpora import Corpus, Document
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import CharTokenizer, encode_corpus

matplotlib.use("agg")

TEXT = "the cat sat on the mat and the dog sat on the log. " * 20


@pytest.fixture
def cpu():
    return Budget("cpu", torch.device("cpu"), torch.float32)


@pytest.fixture
def corpus():
    def document(text):
        return Document(text=text, module="", kind="text", name="", signature="", body=text)

    return Corpus("cats", (document(TEXT),), (document(TEXT[:200]),))


@pytest.fixture
def tokenizer(corpus):
    return CharTokenizer.train(corpus.train)


@pytest.fixture
def data(corpus, tokenizer):
    return encode_corpus(corpus, tokenizer)


@pytest.fixture
def tiny(tokenizer):
    return GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=16, n_layer=2, n_head=2, n_embd=16))


@pytest.fixture
def stop_after(monkeypatch):
    """Let a reader stop the training that comes next after so many steps, once."""

    def stop(steps):
        drawn, draw_batch = [], training.draw_batch

        def draw(*arguments):
            drawn.append(1)
            if len(drawn) == steps + 1:
                raise KeyboardInterrupt
            return draw_batch(*arguments)

        monkeypatch.setattr(training, "draw_batch", draw)

    return stop
