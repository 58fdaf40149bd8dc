import errno
import json
import os
import subprocess
import sys

import pytest

from gptlib import checkpoints
from gptlib.history import Interrupted
from gptlib.pretrain import main

TINY = ["--layers=1", "--heads=2", "--width=16", "--context=16", "--vocabulary=270", "--batch=4"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "cats.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log.\n" * 60)
    return path


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")


def test_a_run_leaves_a_model_a_tokenizer_and_its_losses_and_goes_on_when_asked_again(text, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [f"--corpus={text}", f"--out={out}", "--steps=6", "--checkpoint-every=2", *TINY]
    main(arguments)
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["loss"] < 6 and first["out"] == str(out)
    model = checkpoints.load_model(out)
    assert model.config.n_layer == 1 and model.config.positions == "rope"
    assert len(json.loads((out / "history.json").read_text())["train"]) == 6
    assert len(list(out.glob("tokenizer-*.json"))) == 1
    main(arguments)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--corpus=nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["--steps=0"], "steps must be above 0"),
        (["--heads=3"], "multiple of n_head"),
        (["--vocabulary=10"], "at least 257"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(text, tmp_path, wrong, says):
    with pytest.raises(SystemExit) as stop:
        main([f"--corpus={text}", f"--out={tmp_path / 'run'}", *TINY, *wrong])
    assert says in stop.value.code and "\n" not in stop.value.code


def test_another_recipe_in_the_same_folder_is_refused(text, tmp_path):
    arguments = [f"--corpus={text}", f"--out={tmp_path / 'run'}", *TINY]
    main([*arguments, "--steps=2"])
    with pytest.raises(SystemExit, match="another steps"):
        main([*arguments, "--steps=3"])


@pytest.mark.slow
def test_two_processes_pretrain_as_one(text, tmp_path):
    def run(name, *launcher):
        arguments = [f"--corpus={text}", f"--out={tmp_path / name}", "--steps=6", *TINY]
        command = [sys.executable, *launcher, "-m", "gptlib.pretrain", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])["loss"]

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert run("two", *torchrun) == pytest.approx(run("one"), abs=2e-3)  # bfloat16 where the CPU has it


def test_help_says_how_to_use_several_gpus(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "torchrun --nproc-per-node=8" in told and "Out of memory? Halve it" in told


def test_a_stopped_run_leaves_no_losses_and_says_how_to_go_on(text, tmp_path, stop_after):
    out = tmp_path / "run"
    arguments = [f"--corpus={text}", f"--out={out}", "--steps=6", "--checkpoint-every=2", *TINY]
    stop_after(3)
    with (
        pytest.warns(Interrupted),
        pytest.raises(SystemExit, match=r"after step 3.*the same command goes on"),
    ):
        main(arguments)
    assert not (out / "history.json").exists()
    main(arguments)
    assert len(json.loads((out / "history.json").read_text())["train"]) == 6


@pytest.mark.parametrize("what", ["the terminal", "the sample"])
def test_what_cannot_be_shown_loses_no_run(text, tmp_path, monkeypatch, capsys, what):
    class Closed:
        encoding = "utf-8"

        def write(self, _=""):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

        flush = write

    def no_sample(*_, **__):
        raise RuntimeError("out of memory")

    if what == "the terminal":
        monkeypatch.setattr(sys, "stdout", Closed())
    else:
        monkeypatch.setattr("gptlib.pretrain.generate", no_sample)
    main([f"--corpus={text}", f"--out={tmp_path / 'run'}", "--steps=2", *TINY])
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["train"]) == 2
    if what == "the sample":
        *_, sample, result = capsys.readouterr().out.splitlines()
        assert "out of memory" in sample and json.loads(result)["loss"] > 0


def test_text_and_folder_may_lie_at_home(text, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    main(["--corpus=~/cats.txt", "--out=~/run", "--steps=2", *TINY])
    assert (tmp_path / "run" / "history.json").exists()
