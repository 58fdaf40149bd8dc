"""The messages that book/how-to.md quotes are those of the code."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gptlib import checkpoints
from gptlib.budget import Budget
from gptlib.claims import claim
from gptlib.corpora import shakespeare
from gptlib.in_context import evaluate_pretrained
from gptlib.training import TrainConfig, train

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "book" / "how-to.md").read_text(encoding="utf-8").split())
CONFIG = TrainConfig(steps=2, batch_size=4, eval_every=0)
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make(folder, *arguments):
    """Run make in a folder; return how it ended and what it said."""
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


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


def test_a_model_that_the_hub_does_not_give(tmp_path, monkeypatch, capsys):
    pytest.importorskip("huggingface_hub", reason="needs the hub extra")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    evaluate_pretrained(["openai-community/gpt2"], ["English to French"], (0,), n=1)
    begins, _, rest = capsys.readouterr().out.partition(" (")
    assert begins in PAGE and rest.strip().endswith("save_pretrained wrote")


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


@needs_make
@pytest.mark.parametrize("target", ["setup", "book", "serve", "notebooks", "test", "colab"])
def test_make(target):
    assert f"`make {target}" in PAGE
    planned = make(ROOT, "--dry-run", target)  # says what it would do, and does nothing
    assert planned.returncode == 0 and planned.stdout, planned.stderr


@needs_make
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("sys.exit(1)", "Python 3.11 or later is needed; say which one with: make PYTHON=python3.12 ..."),
        (
            "sys.exit('ensurepip' in sys.argv[-1])",
            "This Python cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv",
        ),
    ],
)
def test_what_make_says_of_a_python_that_will_not_do(tmp_path, broken, message):
    for file in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport sys\n{broken}\n", encoding="utf-8")
    python.chmod(0o755)
    said = make(tmp_path, f"PYTHON={python}", "setup")
    assert said.returncode and said.stdout.strip() == message and message in PAGE


@needs_make
def test_what_make_says_without_a_site(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    said = make(tmp_path, "serve")
    assert said.returncode and said.stdout.strip() in PAGE and "make book" in said.stdout
