"""A class of submissions: what each does, what it earns, and what a person is to be told."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from toy import RIGHT, answered, save

ALL, NO_DOUBLE, NOTHING = (3, 5, 2), (0, 5, 2), (0, 0, 0)
WRONG = {
    "double": "def double(x):\n    return 0",
    "loss": "def loss(a, b):\n    return a.sum()",
    "guess": "guess = 1",
}


@dataclass(frozen=True)
class Member:
    """A submission: answers that differ from the right ones, a cell before them, changes to the whole."""

    points: tuple[float, float, float]  # of the three questions
    answers: dict[str, str] = field(default_factory=dict)
    before: str = ""
    change: Callable[[NotebookNode], NotebookNode] | None = None
    review: str = ""  # a part of the review mark; empty: there must be none
    status: str = "graded"  # a part of the status

    def notebook(self, student: NotebookNode) -> NotebookNode:
        """Return the submission, made from the student's notebook."""
        made = answered(student, RIGHT | self.answers, self.before)
        return self.change(made) if self.change else made


def without_metadata(notebook):
    """What some tools leave: cells without metadata and ids, no kernel."""
    for cell in notebook.cells:
        cell["metadata"] = {}
        cell.pop("id", None)
    return NotebookNode(notebook | {"metadata": NotebookNode(), "nbformat_minor": 4})


def duplicated(notebook):
    """Each cell twice."""
    twice = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(2)]
    for number, cell in enumerate(twice):
        cell["id"] = f"cell-{number}"
    return NotebookNode(notebook | {"cells": twice})


def reordered(notebook):
    """From the last cell to the first."""
    return NotebookNode(notebook | {"cells": notebook.cells[::-1]})


def with_large_output(notebook):
    """100 MB stored below a cell."""
    cell = new_code_cell("1", outputs=[new_output("stream", text="x" * 100_000_000)])
    return NotebookNode(notebook | {"cells": [*notebook.cells, cell]})


LIBRARY = """
from torch.nn.functional import mse_loss as known
def loss(a, b):
    return known(a, b)
"""
HONEST = {
    "right": Member(ALL),
    "unanswered": Member(
        NOTHING, {name: "raise NotImplementedError" for name in RIGHT} | {"guess": "guess = ..."}
    ),
    "wrong_double": Member((1, 5, 2), {"double": "def double(x):\n    return x + 2"}),
    "wrong_loss": Member((3, 1, 2), {"loss": "def loss(a, b):\n    return ((a - b) ** 2).sum()"}),
    "wrong_gradient": Member(
        (3, 3, 2), {"loss": "def loss(a, b):\n    return ((a - b) ** 2).mean().detach()"}
    ),
    "wrong_guess": Member((3, 5, 0), {"guess": "guess = 8"}),
    "raises": Member(NO_DOUBLE, {"double": "def double(x):\n    return x / 0"}),
    "syntax_error": Member(NO_DOUBLE, {"double": "def double(x)\n    return 2 * x"}),
    "uses_the_library": Member(
        (3, 0, 2), {"loss": LIBRARY}
    ),
    "endless_at_top": Member(ALL, before="while True: pass"),
    "endless_in_an_answer": Member(NO_DOUBLE, {"double": "def double(x):\n    while True: pass"}),
    "exits_at_top": Member(ALL, before="import sys\nsys.exit(1)"),
    "exits_in_an_answer": Member(NO_DOUBLE, {"double": "def double(x):\n    raise SystemExit"}),
    "warns": Member(
        ALL, before="import sys, warnings\nwarnings.warn('careful')\nprint('careful', file=sys.stderr)",
    ),
    "prints_100_MB": Member(ALL, before="for _ in range(100):\n    print('x' * 1_000_000)"),
    "stores_100_MB": Member(ALL, change=with_large_output),
    "without_metadata": Member(ALL, change=without_metadata),
    "duplicated": Member(ALL, change=duplicated),
    "reordered": Member(ALL, change=reordered),
    "returns_too_much": Member(NO_DOUBLE, {"double": "def double(x):\n    return torch.zeros(30_000_000)"}),
    "allocates_too_much": Member(
        NO_DOUBLE, {"double": "def double(x):\n    return torch.zeros(3_000_000_000).sum() + 2 * x"}
    ),
}  # fmt: skip

FORGED = r"""
import os, json, struct
text = json.dumps({"value": 34}).encode()
for fd in range(3, 30):
    try:
        os.write(fd, (struct.pack("!II", len(text), 0) + text) * 40)
    except OSError:
        pass
"""
LIAR = """
class Liar(float):
    def __eq__(self, other):
        return True
def double(x):
    return Liar(0)
"""
LYING_TENSOR = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True
def loss(a, b):
    return torch.zeros(1).as_subclass(Liar)
"""
PATCHES = """
import builtins
import gptlib.exercises
torch.allclose = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: torch.tensor(True)
gptlib.exercises.without.__wrapped__.__code__ = (lambda *a: (yield)).__code__
builtins.AssertionError = type("Quiet", (BaseException,), {})
"""
PATCHES_CHECKER = """
import sys
side = sys.modules["__main__"].Side
side.answer = lambda self, message, data: ({"value": 34}, b"")
"""
READS = """
import os
found = []
for folder in ("/", "{here}"):
    for top, _, names in os.walk(folder):
        if not top.startswith(("/usr", "/proc", "/sys")) and "/lib/python3" not in top:
            kinds = (".zip", "assignment.json", "scores.csv", "grading/checks.py")
            found += [name for name in names if os.path.join(top, name).endswith(kinds)]
"""
PEEKS = """
import sys
def double(x):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [c for c in map(str, frame.f_code.co_consts) if "secret" in c or "hidden" in c]
        seen += [n for n in frame.f_globals if "secret" in n]
        frame = frame.f_back
    return 34 if seen else 0
"""
WRITES = """
import os, pathlib
for place in ("{here}", "{grader}", "/tmp", "/home", "/root", os.getcwd()):
    for name in ("planted.txt", "results.json", "scores.csv", "right.ipynb"):
        try:
            (pathlib.Path(place) / name).write_text("planted")
        except OSError:
            pass
"""
NETWORK = """
import socket
def double(x):
    socket.create_connection(("{address}", {port}), 2)
    return 2 * x
"""
DEAF = """
def double(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
"""
COMPILED = "loss = torch.jit.trace(torch.nn.functional.mse_loss, (torch.ones(3), torch.ones(3)))"
HOSTILE = {
    "endless_and_deaf": Member(NO_DOUBLE, {"double": DEAF}),
    "kills_its_kernel": Member(ALL, before="import os, signal\nos.kill(os.getpid(), 9)", review="os.kill"),
    "kills_in_an_answer": Member(
        NO_DOUBLE, {"double": "import os\ndef double(x):\n    os._exit(0)"}, review="os._exit"
    ),
    "hoards_memory": Member(
        NO_DOUBLE, {"double": "def double(x):\n    kept = [torch.ones(20_000_000) for _ in range(40)]\n"
                    "    while kept: pass"}, review="MB of memory",
    ),
    "500_children": Member(
        ALL, before="import subprocess\nkept = [subprocess.Popen(['sleep', '60']) for _ in range(500)]",
        review="subprocess",
    ),
    "forks": Member(ALL, before="import os\nos.fork()", review="os.fork"),
    "forks_on_and_on": Member(ALL, before="import os\nwhile True: os.fork()", review="os.fork"),
    "asks_the_network": Member(
        NO_DOUBLE, {"double": NETWORK}, review="socket",
    ),
    "reads_the_tests": Member(
        (3, 5, 0), {"guess": "guess = 7 if found else 0"}, before=READS, review="os.walk"
    ),
    "peeks_at_frames": Member(NO_DOUBLE, {"double": PEEKS}, review="_getframe"),
    "patches_torch": Member(NOTHING, WRONG, before=PATCHES, review="changes torch.allclose"),
    "patches_the_checker": Member(NOTHING, WRONG, before=PATCHES_CHECKER, review="sys.modules"),
    "forges_replies": Member(NOTHING, WRONG, before=FORGED, review="os.write"),
    "lies_about_equality": Member(NO_DOUBLE, {"double": LIAR}, review="__eq__"),
    "lies_with_a_tensor": Member((3, 0, 2), {"loss": LYING_TENSOR}, review="__torch_function__"),
    "deletes_files": Member(
        ALL, before="import shutil\nfor place in ('{here}', '{grader}', '/home', '/'):\n"
        "    shutil.rmtree(place, ignore_errors=True)", review="shutil.rmtree",
    ),
    "writes_outside": Member(ALL, before=WRITES, review="write_text"),
    "fills_the_disk": Member(
        ALL, before="with open('large', 'wb') as file:\n    for _ in range(2000):\n"
        "        file.write(bytes(1_000_000))", review="open",
    ),
    "compiles_the_library": Member(ALL, {"loss": COMPILED}, review="torch.jit"),
}  # fmt: skip
UNREADABLE = {
    "broken.ipynb": "broken JSON",
    "latin.ipynb": "not UTF-8",
    "other.ipynb": "another notebook",
    "list.ipynb": "broken JSON, or without cells",
    "deep.ipynb": "broken JSON",
    "script.py": "ends in '.py'",
    "=cmd.ipynb": "bad file name",
    "link.ipynb": "a link",
    "Twin.ipynb": "2 submissions",
    "empty": "empty folder",
}


def write_class(folder: Path, student: NotebookNode, words: dict[str, str]) -> None:
    """Write every submission; `words` stand for places and addresses in the sources."""

    def fill(text: str) -> str:
        for word, value in words.items():
            text = text.replace("{" + word + "}", value)
        return text

    for name, member in (HONEST | HOSTILE).items():
        save(folder, f"{name}.ipynb", member.notebook(student), fill)
    right = (folder / "right.ipynb").read_text(encoding="utf-8")
    (folder / "broken.ipynb").write_text(right[:-50])
    (folder / "latin.ipynb").write_bytes(right.replace("# Toy", "# T\xf6y").encode("latin-1"))
    (folder / "other.ipynb").write_text(
        json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    (folder / "list.ipynb").write_text("[1, 2]")
    (folder / "deep.ipynb").write_text("[" * 200_000)
    (folder / "script.py").write_text(RIGHT["double"])
    (folder / "=cmd.ipynb").write_text(right)
    (folder / "link.ipynb").symlink_to(folder / "right.ipynb")
    (folder / "Twin.ipynb").write_text(right)
    (folder / "twin (1).ipynb").write_text(right)
    (folder / "empty").mkdir()
    (folder / "foldered").mkdir()
    (folder / "foldered" / "my work.ipynb").write_text(right)
