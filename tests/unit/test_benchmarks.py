"""The benchmarks' own plumbing. What they measure is measured by `make bench`, never asserted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
from measuring import take_turns  # noqa: E402
from run import SCRIPTS, table  # noqa: E402


def contestant(factor, turn):
    return {"value": float(factor * turn), "loss": 1.0}


@pytest.mark.slow
def test_contestants_take_turns_and_their_medians_spreads_and_memory_are_told():
    found = take_turns({"a": (contestant, 1), "b": (contestant, 10)}, turns=3)
    assert found["b"]["value"] == {"median": 10.0, "spread": [0.0, 20.0]}
    assert found["a"]["peak_mb"]["median"] > 50


def test_a_line_becomes_a_section():
    side = {"value": {"median": 2.0, "spread": [1.0, 3.0]}}
    row = {"case": "small", "unit": "s", "ours": side, "theirs": side, "ratio": 1.0, "target": "at most 2"}
    line = {
        "what": "a thing",
        "figures": [row],
        "repeats": "twice",
        "device": "d",
        "versions": {"torch": "2"},
    }
    text = table(line)
    assert "## A thing" in text and "| ours | 2 [1, 3] |" in text and "**1.00** (target: at most 2)" in text


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="here the figure can be measured")
def test_without_a_gpu_its_figure_stays_open():
    script = FOLDER / "gpu_utilisation.py"
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    line = json.loads(ran.stdout)
    assert "no CUDA GPU" in line["figures"]["open"] and "Open: there is no CUDA GPU" in table(line)


def test_the_results_tell_of_every_script():
    results = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    assert results.count("\n## ") == len(SCRIPTS) and results.startswith("# Benchmarks")
