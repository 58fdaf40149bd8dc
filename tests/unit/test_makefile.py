"""make in a folder with a blank in its name, such as Google's "My Drive"."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def drive(tmp_path):
    """A copy of what make reads, whose python and bwrap write down what they are asked; no other script."""
    folder = tmp_path / "My Drive" / "It's a book"
    (folder / "book" / "vendor").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "book/vendor/package.json",
                 "book/vendor/package-lock.json"):  # fmt: skip
        shutil.copy(ROOT / name, folder / name)
    (folder / "book/vendor/node_modules").mkdir()
    log = tmp_path / "log"
    log.touch()
    for place in (
        folder / ".venv/bin/python",
        tmp_path / "with blanks" / "python 3",
        tmp_path / "bin" / "bwrap",
    ):
        place.parent.mkdir(parents=True)
        place.write_text(STUB.format(python=sys.executable, log=str(log)))
        place.chmod(0o755)
    return folder, log


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("setup", ["-m", "pip", "install", "--quiet", "-r", "requirements.txt"]),
        ("book", "from jupyter_book.cli.main import main"),
        ("check", ["-m", "ruff", "check", "."]),
        ("unit", "tests/unit"),
        ("nbval", "--nbval-lax"),
        ("grading", "tests/grading"),
        ("test", "tests/site"),
        ("assignments", ["-m", "grading.build", "my masters"]),
    ],
)
def test_a_blank_in_the_path_stops_no_target(drive, tmp_path, target, asked):
    folder, log = drive
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment = {
        name: value for name, value in environment.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }
    command = ["make", target, "MASTERS=my masters", f"PYTHON={tmp_path / 'with blanks' / 'python 3'}"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    if isinstance(asked, list):
        assert asked in calls
    else:
        assert any(asked in argument for call in calls for argument in call)
