"""`make notebooks`: outputs are written when all cells ran, and only then."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "notebooks" / "execute.py"
sys.path.insert(0, str(SCRIPT.parent))
from execute import pictures  # noqa: E402


def run(path):
    return subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_outputs_and_the_machine_are_stored(tmp_path):
    path = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("6 * 7")], metadata={"accelerator": "GPU"}), path)
    ran = run(path)
    assert ran.returncode == 0, ran.stderr
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[0].outputs[0].data["text/plain"] == "42"
    assert set(stored.metadata["gptlib"]) == {"minutes", "budget", "device", "python", "torch"}
    assert stored.metadata["accelerator"] == "GPU"  # what a reader's Colab goes by is kept
    assert ran.stdout.splitlines()[-1].split()[0] == "n"  # the table of minutes
    assert [p.name for p in tmp_path.iterdir()] == ["n.ipynb"]


@pytest.mark.slow
def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    ran = run(path)
    assert ran.returncode != 0 and "ZeroDivisionError" in ran.stderr and "left as it was" in ran.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["n.ipynb"]


def test_a_notebook_that_is_missing_is_named(tmp_path):
    ran = run(tmp_path / "none.ipynb")
    assert ran.returncode != 0 and "there is no notebook" in ran.stderr


def test_the_longest_notebook_is_run_first_and_its_cells_stay_in_order():
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    cells = [SimpleNamespace(path=path, number=number) for path in paths for number in range(3)]
    runpy.run_path(ROOT / "notebooks" / "conftest.py")["pytest_collection_modifyitems"](cells)
    first = cells[0].path
    took = [json.loads(cell.path.read_text())["metadata"]["gptlib"]["minutes"] for cell in cells]
    assert took == sorted(took, reverse=True) and took[0] > took[-1]
    assert [cell.number for cell in cells if cell.path == first] == [0, 1, 2]
    together = [cell.path for cell in cells[::3]]
    assert sorted(together) == paths and all(cell.path == together[i // 3] for i, cell in enumerate(cells))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_pictures_on_other_pages_are_the_notebooks_own(path):
    wanted = [cell["metadata"].get("gptlib", {}) for cell in json.loads(path.read_text())["cells"]]
    found = pictures(nbformat.read(path, as_version=4))
    assert list(found) == [cell["picture"] for cell in wanted if "picture" in cell]
    for name, image in found.items():
        assert (ROOT / "book" / "_static" / f"{name}.png").read_bytes() == image
