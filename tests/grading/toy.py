"""A small master, and the notebooks that students make of it."""

import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

CONFIG = """# ASSIGNMENT CONFIG
init_cell: false
export_cell: false
tests: {ok_format: false}
generate: {show_hidden: false, show_stdout: false}"""
POINTS = {"q1_double": 3, "q2_loss": 5, "q3_guess": 2}
RIGHT = {
    "double": "def double(x):\n    return x * 2",
    "loss": "def loss(a, b):\n    return ((a - b) ** 2).mean()",
    "guess": "guess = 7",
}


def check(source: str, points: float, hidden: bool = False) -> NotebookNode:
    """Return the cell of a test: its configuration, its function, its call."""
    call = source.strip().split("\n")[0].removeprefix("def ").rstrip(":")
    head = (
        '""" # BEGIN TEST CONFIG\n' + "hidden: true\n" * hidden + f'points: {points}\n""" # END TEST CONFIG\n'
    )
    return new_code_cell(f"{head}{source.strip()}\n\n{call}")


def question(name: str, points: float, solution: str, *tests: NotebookNode) -> list[NotebookNode]:
    """Return the cells of a question."""
    return [
        new_raw_cell(f"# BEGIN QUESTION\nname: {name}\npoints: {points}\ncheck_cell: false"),
        new_markdown_cell(f"## Question {name}"),
        new_raw_cell("# BEGIN SOLUTION"),
        new_code_cell(solution),
        new_raw_cell("# END SOLUTION"),
        new_raw_cell("# BEGIN TESTS"),
        *tests,
        new_raw_cell("# END TESTS"),
        new_raw_cell("# END QUESTION"),
    ]


DOUBLE = """def double(x):
    # BEGIN SOLUTION
    return x * 2  # a comment of the solution
    # END SOLUTION"""
LOSS = """def loss(a, b):
    # BEGIN SOLUTION
    return ((a - b) ** 2).mean()
    # END SOLUTION"""
PUBLIC_DOUBLE = """def test_two(double):
    assert double(2) == 4, "twice two is four\""""
HIDDEN_DOUBLE = """def test_secret_seventeen(double):
    assert double(17) == 34, "a hidden message\""""
PUBLIC_LOSS = """def test_zero(loss):
    import torch
    from gptlib.exercises import without

    x = torch.randn(3)
    with without("torch.nn.functional.mse_loss"):
        value = loss(x, x)
    assert torch.allclose(value, torch.tensor(0.0)), "the loss of the truth is 0\""""
HIDDEN_LOSS = """def test_secret_values(loss):
    import torch
    from gptlib.exercises import without

    a, b = torch.randn(2, 8)
    expected = torch.nn.functional.mse_loss(a, b)
    with without("torch.nn.functional.mse_loss"):
        value = loss(a, b)
    assert torch.allclose(value, expected)"""
HIDDEN_GRADIENT = """def test_secret_gradient(loss):
    import torch
    from gptlib.exercises import without

    a = torch.randn(4, requires_grad=True)
    with without("torch.nn.functional.mse_loss"):
        loss(a, torch.zeros(4)).backward()
    assert torch.allclose(a.grad, a.detach() / 2)"""
AFTER = "more = guess + 1"
HIDDEN_GUESS = """def test_secret_number(guess):
    assert guess == 7"""
SECRETS = (
    "test_secret",
    "double(17)",
    "a hidden message",
    "guess == 7",
    "a comment of the solution",
    "mark well",
)


def master() -> NotebookNode:
    """Return the master: a function, a loss to be written by oneself, a number, a text."""
    text = [
        new_raw_cell("# BEGIN QUESTION\nname: q4_why\npoints: 2\nmanual: true\ncheck_cell: false"),
        new_markdown_cell("## Question q4_why"),
        new_raw_cell("# BEGIN SOLUTION"),
        new_markdown_cell("Because it is convex.\n\n**Rubric.**\n- 2 points: mark well"),
        new_raw_cell("# END SOLUTION"),
        new_raw_cell("# END QUESTION"),
    ]
    cells = [
        new_raw_cell(CONFIG),
        new_markdown_cell("# Toy"),
        new_code_cell("import math\n\nimport torch"),
        *question("q1_double", 3, DOUBLE, check(PUBLIC_DOUBLE, 1), check(HIDDEN_DOUBLE, 2, hidden=True)),
        *question(
            "q2_loss", 5, LOSS, check(PUBLIC_LOSS, 1),
            check(HIDDEN_LOSS, 2, hidden=True), check(HIDDEN_GRADIENT, 2, hidden=True),
        ),
        *question("q3_guess", 2, "guess = 7  # SOLUTION", check(HIDDEN_GUESS, 2, hidden=True)),
        new_code_cell(AFTER),
        *text,
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def answered(student: NotebookNode, answers: dict[str, str], before: str = "") -> NotebookNode:
    """Return a student's notebook with answers by the name they define, after a cell of the student's own."""
    notebook = copy.deepcopy(student)
    for cell in notebook.cells:
        for name, answer in answers.items():
            if cell.source.startswith((f"def {name}(", f"{name} = ...")):
                cell["source"] = answer
    if before:
        notebook.cells.insert(2, new_code_cell(before))
    return notebook


def save(folder: Path, name: str, notebook: NotebookNode, change: Callable[[str], str] = str) -> Path:
    """Write a submission, its text changed last of all."""
    path = folder / name
    path.write_text(change(nbformat.writes(notebook)), encoding="utf-8")
    return path
