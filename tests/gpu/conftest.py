"""Scripts run in processes of their own: a fake GPU is for the whole process, and is there before torch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def on_fake_gpu() -> Callable[..., list]:
    """Return what runs a script of this folder and reads the lines of JSON that it prints."""
    if sys.platform != "linux" or torch.version.cuda:
        pytest.skip("the fake GPUs need Linux, and a torch that is built for CPUs alone")
    if not shutil.which("g++"):
        said = "the fake GPUs are compiled by g++, which is not here: on Debian and Ubuntu, apt install g++"
        (pytest.fail if "GPTLIB_TEST_ALL" in os.environ else pytest.skip)(said)

    def run(script: str, *arguments: str | Path) -> list:
        command = [sys.executable, "-W", "ignore", Path(__file__).with_name(script), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
        environment.pop("GPTLIB_BUDGET", None)
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return [json.loads(line) for line in ran.stdout.splitlines()]

    return run
