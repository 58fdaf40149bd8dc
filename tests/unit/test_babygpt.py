import pytest
import torch

from gptlib import babygpt as module
from gptlib.babygpt import babygpt
from gptlib.budget import Budget
from gptlib.corpora import Corpus, Document
from gptlib.tokenizers import encode_corpus
from gptlib.training import TrainConfig

CPU = Budget("cpu", torch.device("cpu"), torch.float32)


def corpus(word="file"):
    texts = [f"def read_{i}(self):\n    Return the {word} number {i}.\n" * 6 for i in range(12)]
    documents = [Document(text, "m", "text", "n", "", text) for text in texts]
    return Corpus("small", tuple(documents[:9]), tuple(documents[9:]))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        module, "TrainConfig", lambda **how: TrainConfig(**(how | dict(steps=3, batch_size=2)))
    )
    return tmp_path


def test_trained_once_and_fetched_afterwards(quick, monkeypatch):
    first = babygpt(corpus(), CPU)
    monkeypatch.setattr("gptlib.training._backward", lambda *rest: pytest.fail("trained again"))
    again = babygpt(corpus(), CPU)
    assert again.history.final == first.history.final
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_text_or_seed_is_another_model(quick):
    for arguments in ((corpus(), CPU), (corpus("line"), CPU), (corpus(), CPU, 1)):
        babygpt(*arguments)
    assert len(list(quick.iterdir())) == 3


def test_what_is_read_before_is_read_first_and_leads_to_another_model(quick, monkeypatch):
    read, train = [], module.train

    def watched(model, data, how, *rest, **kept):
        read.append((data.train, how.steps, how.decay))
        return train(model, data, how, *rest, **kept)

    monkeypatch.setattr(module, "train", watched)
    plain = babygpt(corpus(), CPU)
    reader = babygpt(corpus(), CPU, before=corpus("line"))
    assert [how for _, *how in read] == [[3, "linear"], [3 * module.BEFORE, "constant"], [3, "linear"]]
    before = encode_corpus(corpus("line"), plain.tokenizer).train  # in the tokens of the corpus itself
    for (ids, *_), expected in zip(read, [plain.data.train, before, plain.data.train], strict=True):
        assert torch.equal(ids, expected)
    assert not torch.equal(plain.model.tokens.weight, reader.model.tokens.weight)
