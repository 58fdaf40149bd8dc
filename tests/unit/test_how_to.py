"""The messages that book/how-to.md quotes are those of the code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gptlib import checkpoints
from gptlib.budget import Budget
from gptlib.claims import claim
from gptlib.corpora import shakespeare
from gptlib.training import TrainConfig, train

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "book" / "how-to.md").read_text(encoding="utf-8").split())
CONFIG = TrainConfig(steps=2, batch_size=4, eval_every=0)


def test_a_claim_that_fails():
    text = "the last rung needs fewer bits than the counted bigram, by a share of"
    with pytest.raises(AssertionError) as failed:
        claim("ladder", text, 0.28, at_least=0.3)
    assert f"AssertionError: {failed.value}" in PAGE


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path))
    with pytest.raises(OSError) as failed:
        shakespeare(url="file:///there/is/no/such/file")
    begins, _, rest = str(failed.value).partition("<urlopen error ")
    assert f"OSError: {begins}<urlopen error " in PAGE
    assert "Try again later; or fetch" in rest and "Try again later; or fetch …" in PAGE
    assert rest.endswith(end := "; or use python_docs(), which needs no network.") and end in PAGE


def test_a_model_that_the_hub_does_not_give(monkeypatch):
    source = (ROOT / "gptlib" / "pretrained.py").read_text(encoding="utf-8")
    assert "and the hub did not give a model of that name" in source
    assert "and the hub did not give a model of that name" in PAGE


def test_checkpoints_of_a_run(tmp_path, tiny, data, cpu):
    train(tiny, data, CONFIG, cpu, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError) as failed:
        train(tiny, data, CONFIG, cpu, checkpoint_dir=tmp_path)
    assert str(failed.value).replace(str(tmp_path), "ValueError: …") in PAGE
    with pytest.raises(ValueError) as failed:
        train(tiny, data, replace(CONFIG, batch_size=8), cpu, checkpoint_dir=tmp_path, resume=True)
    for part in str(failed.value).partition(" batch_size: ")[::2]:
        assert part.removeprefix(f"the run in {tmp_path} ") in PAGE
    for file in tmp_path.rglob("model.safetensors"):
        file.write_bytes(b"cut")
    with pytest.raises(ValueError, match="cannot be used"):
        train(tiny, data, CONFIG, cpu, checkpoint_dir=tmp_path, resume=True)
    assert "*cannot be used*" in PAGE


def test_drive_outside_colab():
    with pytest.raises(RuntimeError) as failed:
        checkpoints.on_drive("my-run")
    assert f"RuntimeError: {failed.value}" in PAGE


def test_a_loss_that_is_not_a_number(tiny, data, cpu):
    with torch.no_grad():
        next(tiny.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError) as failed:
        train(tiny, data, CONFIG, cpu)
    assert f"ValueError: {failed.value}" in PAGE


def test_a_budget_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "tpu")
    with pytest.raises(ValueError) as failed:
        Budget.detect()
    assert f"ValueError: {failed.value}" in PAGE


@pytest.mark.parametrize("target", ["setup", "book", "serve", "notebooks", "test", "colab"])
def test_make(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n{target}:" in makefile and f"`make {target}" in PAGE


@pytest.mark.parametrize(
    "message",
    [
        "Python 3.11 or later is needed; say which one with: make PYTHON=python3.12 ...",
        "This Python cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv",
        "There is no site yet: run make book first",
    ],
)
def test_what_make_says(message):
    assert message in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert message in PAGE
