"""Every chapter ends with exercises, each with a folded solution whose code fits package and notebook."""

import ast
import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("0*.ipynb"))
LEAST = 4  # exercises of a chapter
ITEM = re.compile(r"^\*\*(\d+)\.\*\* ", re.M)
# With the blank lines, Jupyter, Colab and the book all read what is inside as Markdown.
FOLDED = re.compile(
    r"^<details><summary>Solution</summary>\n\n(.+?)\n\n</details>$", re.MULTILINE | re.DOTALL
)
CODE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def exercises(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return the exercises by number: all that stands under the heading, up to the end of the notebook."""
    markdown = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    _, *parts = ITEM.split(markdown.partition("\n## Exercises\n")[2])
    return dict(zip(parts[::2], parts[1::2], strict=True))


def code_of(notebook: nbformat.NotebookNode) -> ast.Module:
    """Return the code cells as one program, without the lines that are IPython's own."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return ast.parse(re.sub(r"^\s*%.*$", "    pass", "\n".join(sources), flags=re.M))


def bound(tree: ast.AST) -> set[str]:
    """Return the names that a program gives a value, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
    return names


def imported(tree: ast.AST) -> dict[str, object]:
    """Return what a program imports from gptlib, by the name it is given; None where there is no such."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gptlib":
            module = importlib.import_module(node.module)
            for alias in node.names:
                try:
                    value = getattr(module, alias.name, None) or importlib.import_module(
                        f"{node.module}.{alias.name}"
                    )
                except ModuleNotFoundError:
                    value = None
                found[alias.asname or alias.name] = value
    return found


def unknown_keywords(tree: ast.AST, known: dict[str, object]) -> Iterator[str]:
    """Name the keywords that a program passes to functions of gptlib which do not take them."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner, *attributes = ast.unparse(call.func).split(".")
        called = known.get(owner)
        for attribute in attributes:
            called = getattr(called, attribute, None)
        if not callable(called) or not (getattr(called, "__module__", None) or "").startswith("gptlib"):
            continue
        takes = inspect.signature(called).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes):
            continue
        names = {parameter.name for parameter in takes}
        for keyword in call.keywords:
            if keyword.arg is not None and keyword.arg not in names:
                yield f"{ast.unparse(call.func)} takes no {keyword.arg!r}"


def faults(solution: str, notebook: ast.Module) -> Iterator[str]:
    """Say what of a solution's code cannot run at the end of its notebook."""
    try:
        program = ast.parse("\n".join(CODE.findall(solution)))
    except SyntaxError as error:
        yield f"its code is no Python: {error}"
        return
    own, its = bound(program), imported(program)
    yield from (f"gptlib has no {name}" for name, value in its.items() if value is None)
    inherited = {name: value for name, value in imported(notebook).items() if name not in own}
    yield from unknown_keywords(program, inherited | its)
    read = {node.id for node in ast.walk(program) if isinstance(node, ast.Name)}
    missing = read - own - bound(notebook) - set(dir(builtins))
    yield from (f"{name} is defined nowhere" for name in sorted(missing))


CHAPTER = ast.parse("from gptlib.training import train\nfrom gptlib.model import GPTConfig\nmodel = 1")
BROKEN = {
    "no Python": "model = = 1",
    "defined nowhere": "print(modle)",
    "gptlib has no": "from gptlib.training import trian\ntrian(model)",
    "train takes no 'epochs'": "train(model, model, epochs=3)",
    "TrainConfig takes no": "from gptlib.training import TrainConfig\nTrainConfig(step=3)",
    "sampling.generate takes no": "from gptlib import sampling\nsampling.generate(model, 'a', maximum=3)",
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_solution_that_cannot_run_is_seen(complaint):
    [fault] = faults(f"```python\n{BROKEN[complaint]}\n```", CHAPTER)
    assert complaint in fault


def test_a_solution_may_use_the_notebook_and_itself():
    code = "train(model, model, budget=None)\nmine = [i for i in range(3)]\nGPTConfig.modern(9, n_layer=2)"
    assert not list(faults(f"```python\n{code}\n```", CHAPTER))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_ends_with_exercises_and_their_solutions(path):
    notebook = nbformat.read(path, as_version=4)
    found, program = exercises(notebook), code_of(notebook)
    assert list(found) == [str(i) for i in range(1, len(found) + 1)] and len(found) >= LEAST
    for number, text in found.items():
        [solution] = FOLDED.findall(text)
        assert CODE.search(solution), f"exercise {number} is solved without code"
        assert not [f"exercise {number}: {fault}" for fault in faults(solution, program)]


def test_there_are_chapters():
    assert NOTEBOOKS
