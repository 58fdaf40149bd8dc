import errno
import os
from pathlib import Path
from threading import Thread

import pytest
import torch
from filelock import FileLock

from gptlib import babygpt as module
from gptlib import checkpoints
from gptlib.babygpt import babygpt
from gptlib.budget import Budget
from gptlib.corpora import Corpus, Document
from gptlib.history import Interrupted
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


def test_another_process_that_trains_it_is_waited_for(quick):
    babygpt(corpus(), CPU)
    (folder,) = quick.iterdir()
    asking = Thread(target=babygpt, args=(corpus(), CPU), daemon=True)
    with FileLock(folder / ".lock"):
        asking.start()
        asking.join(1)
        assert asking.is_alive()
    asking.join(60)
    assert not asking.is_alive()


def test_a_training_that_is_stopped_gives_no_model_and_is_finished_by_the_next_call(quick, stop_after):
    stop_after(1)
    with pytest.warns(Interrupted), pytest.raises(KeyboardInterrupt, match="after step 1"):
        babygpt(corpus(), CPU)
    history = babygpt(corpus(), CPU).history
    assert not history.interrupted and history.final.step == 3


@pytest.mark.parametrize("call", [(Path, "mkdir"), (checkpoints, "save_file")], ids=["folder", "checkpoint"])
def test_a_cache_that_refuses_is_named_with_the_remedy(quick, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*call, full)
    with pytest.raises(OSError, match=r"No space left.*make room.*set GPTLIB_CACHE"):
        babygpt(corpus(), CPU)
