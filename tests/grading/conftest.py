"""The toy assignment, built once, and the class, graded once."""

import csv
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from classroom import write_class
from toy import master

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from grading.build import build  # noqa: E402
from grading.grade import grade_folder  # noqa: E402
from grading.sandbox import Limits, has_bubblewrap  # noqa: E402

SHORT = Limits(cell=2, test=2, waits=6, total=600, megabytes=8192, memory=1200, files=64, processes=24)
OF_THE_CLASS = replace(SHORT, processes=23)  # no other test has these: its processes are known by them


def pytest_sessionstart(session):
    """Say at once what is missing, rather than fail in every test."""
    if why := has_bubblewrap():
        pytest.exit(why, returncode=1)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The toy assignment: where it was built, its student's and its solved notebook."""
    folder = tmp_path_factory.mktemp("dist")
    path = folder / "99_toy.ipynb"
    nbformat.write(master(), path)
    results = build(path, folder, None)
    notebooks = [nbformat.read(folder / "99_toy" / kind / path.name, 4) for kind in ("student", "solution")]
    package = folder / "99_toy" / "autograder.zip"
    return SimpleNamespace(package=package, student=notebooks[0], solution=notebooks[1], results=results)


@pytest.fixture(scope="session")
def graded(toy, tmp_path_factory):
    """The whole class, graded: its folder, the rows by student, what was there before and is there after."""
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("grades")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        words = dict(here=str(folder), grader=str(ROOT / "grading"), address="127.0.0.1", port=port)
        write_class(folder, toy.student, words)
        before = fingerprint(folder, ROOT / "grading")
        scores = grade_folder(folder, toy.package, out, OF_THE_CLASS, workers=2)
    with scores.open(newline="", encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    after = fingerprint(folder, ROOT / "grading")
    return SimpleNamespace(folder=folder, out=out, rows=rows, before=before, after=after)


def fingerprint(*folders: Path) -> dict[str, bytes]:
    """Return what is in every file of some folders."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if path.suffix != ".pyc"}
