"""Every notebook follows every rule, and every rule can see what breaks it."""

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from rules import COLAB, RULES, asks_colab_for_a_gpu

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = sorted((ROOT / "notebooks" / "exercises").rglob("*.ipynb"))  # masters, and what students get
CLAIM = "application/vnd.gptlib.claim+json"
OPENING = "# What is it?\n\nAbout 4 minutes on two CPU cores, 2 on a Colab T4.\n" + "word " * 100
IMAGE = {"image/png": "aGVsbG8="}


def good():
    """A notebook that follows every rule."""
    setup = new_code_cell("import gptlib", execution_count=1)
    claimed = new_output("display_data", {CLAIM: {}, "text/plain": "ok"})
    figure = new_output("display_data", IMAGE, metadata={"image/png": {"alt": "a line"}})
    cells = [
        new_markdown_cell(OPENING),
        setup,
        new_markdown_cell("So."),
        new_code_cell("claim(1)", execution_count=2, outputs=[claimed, figure]),
    ]
    return new_notebook(cells=cells, metadata=copy.deepcopy(COLAB))


def spoil(rule):
    """Return notebooks that break one rule, each in its own way."""
    broken = []

    def variant(change, of="cells"):
        notebook = good()
        change(notebook[of])
        broken.append(notebook)

    def output(kind, **what):
        return lambda cells: cells[3].outputs.append(new_output(kind, **what))

    def stream(text, name="stdout"):
        return output("stream", name=name, text=text)

    match rule:
        case "executed_in_order":
            variant(lambda cells: cells[3].update(execution_count=5))
            variant(lambda cells: cells[1].update(execution_count=None))
        case "no_error_or_warning":
            variant(output("error", ename="E", evalue="", traceback=[]))
            variant(stream("careful", "stderr"))
        case "no_absolute_path":
            variant(stream("/home/me/file"))
            variant(lambda cells: cells[3].update(source="claim(open('/content/x'))"))
            variant(stream("C:\\Users\\me"))
        case "no_progress_bar":
            variant(stream(" 50%|#####     | 1/2"))
            variant(output("display_data", data={"text/plain": "training:   0%|  | 0/3 [00:00<?, ?step/s]"}))
        case "checked_cells_have_output":
            variant(lambda cells: cells[3].update(source="# NBVAL_CHECK_OUTPUT\n1", outputs=[]))
            tagged = new_code_cell("1", metadata={"tags": ["nbval-check-output"]})
            variant(lambda cells: cells.append(tagged))
        case "cells_are_short":
            variant(lambda cells: cells[3].update(source="x = 1\n" * 26))
            long = new_code_cell("x = 1\n" * 13)
            variant(lambda cells: cells.extend([long, long, *[new_code_cell("x")] * 9]))
            variant(lambda cells: [cell.update(source="x = 1\n" * 9) for cell in cells if "source" in cell])
        case "prose_outweighs_code":
            variant(lambda cells: cells.extend([new_code_cell("x = 1\n" * 20)] * 2))
        case "opens_well":
            variant(lambda cells: cells[0].update(source="# What is it?"))
            variant(lambda cells: cells[0].update(source=OPENING.replace("?", "")))
            variant(lambda cells: cells[1].update(source="import gptlib\n" * 7))
        case "asks_colab_for_a_gpu":
            variant(lambda metadata: metadata.pop("accelerator"), of="metadata")
            variant(lambda metadata: metadata["colab"].update(gpuType="A100"), of="metadata")
        case "a_gpu_adds_only_seeds":
            for sizes in ("cpu=600, gpu=1000", "cpu=range(3), gpu=range(2)", "cpu=(0, 1), gpu=range(5)"):
                variant(lambda cells, sizes=sizes: cells[3].update(source=f"claim(budget.pick({sizes}))"))
            variant(lambda cells: cells[0].update(source=OPENING + "steps = budget.pick(cpu=1, gpu=2)"))
        case "figures_have_alt_text":
            variant(output("display_data", data=IMAGE))
        case "wide_figures_use_the_margin":
            wide = {"image/png": {"alt": "a line", "width": 900}}
            variant(output("display_data", data=IMAGE, metadata=wide))
        case "style_lives_in_plots":
            variant(lambda cells: cells[3].update(source="ax.set_title('x', fontsize=3)"))
        case "claims_were_checked":
            variant(lambda cells: cells[3].update(outputs=[]))
            variant(lambda cells: cells.append(new_code_cell("claim(2)")))
        case "is_lean":
            variant(stream("x" * 1_500_000))
    return broken


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_sees_what_breaks_it(rule):
    assert not list(rule(good()))
    broken = spoil(rule.__name__)
    assert broken and all(list(rule(notebook)) for notebook in broken)


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_notebook_follows_the_rule(notebook, rule):
    assert not list(rule(notebook))


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_exercise_asks_colab_for_a_gpu(path):
    assert not list(asks_colab_for_a_gpu(nbformat.read(path, as_version=4)))


def test_there_are_notebooks():
    assert NOTEBOOKS and EXERCISES
