"""What is built from a master: a notebook that stands alone, its solution, and nothing that gives it away."""

import copy
import json
import re
import zipfile

import nbformat
import pytest
import yaml
from conftest import ROOT
from nbclient import NotebookClient
from toy import AFTER, HIDDEN_DOUBLE, POINTS, SECRETS, master

from grading.build import BadMaster, build, read_questions

INSTRUCTOR = (ROOT / "book" / "instructor.md").read_text(encoding="utf-8")
HIDDEN_LINE = HIDDEN_DOUBLE.split("\n")[1].strip()
MASTERS = sorted((ROOT / "notebooks" / "exercises").glob("*.ipynb"))


def test_the_solution_earns_all_and_the_students_file_nothing(toy):
    solution, student = toy.results
    assert {name: solution.points(name) for name in POINTS} == POINTS
    assert {name: student.points(name) for name in POINTS} == dict.fromkeys(POINTS, 0)


def test_nothing_of_a_solution_or_a_hidden_test_is_in_the_students_file(toy):
    text = nbformat.writes(toy.student)
    assert not [secret for secret in SECRETS if secret in text]
    assert "raise NotImplementedError" in text and "guess = ..." in text and "test_zero" in text


def run(notebook, folder):
    """Run all cells with nothing beside them, as Jupyter does; return what was raised where."""
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [(cell, output) for cell in cells for output in cell.outputs]
    assert not [cell.source for cell, output in outputs if output.get("name") == "stderr"]
    return [
        (cell.metadata.tags[1:], output.ename) for cell, output in outputs if output.output_type == "error"
    ]


def test_the_students_notebook_runs_from_top_to_bottom_with_nothing_beside_it(toy, tmp_path):
    raised = run(copy.deepcopy(toy.student), tmp_path)
    assert raised == [(["check"], "NotImplementedError")] * 2 + [([], "TypeError")]  # guess is still ...


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_a_students_notebook_of_the_book_runs_to_its_end_before_it_is_answered(path, tmp_path):
    raised = run(nbformat.read(path.parent / "student" / path.name, 4), tmp_path)
    assert (["check"], "NotImplementedError") in raised
    assert not [name for tags, name in raised if tags == ["answer"]]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("return x * 2", "return x * 3", "the solution fails a check of q1_double"),
        ("points: 5", "points: 6", "its tests have 5 points, the question has 6"),
        ("# Toy", f"# Toy\n\n    {HIDDEN_LINE}", "holds a line of a solution or of a hidden test"),
        ("guess == 7", "True or guess", "a notebook without answers earns points"),
        ("points: 3\n", "", "q1_double has no points"),
        ("**Rubric.**", "", "no **Rubric.**"),
        ("import math\n", "import inspect\n", "not clean"),
        (AFTER, f"exec({AFTER!r})", "without answers, cell 11 fails, which uses none: TypeError"),
    ],
)
def test_a_bad_master_is_refused(tmp_path, old, new, complaint):
    notebook = master()
    if old == "import math\n":  # given cells are never suspicious: put it into an answer
        old, new = "    return x * 2", "    import inspect\n    return x * 2"
    for cell in notebook.cells:
        cell["source"] = cell.source.replace(old, new)
    nbformat.write(notebook, tmp_path / "99_bad.ipynb")
    with pytest.raises(BadMaster, match=complaint.replace("*", r"\*")):
        build(tmp_path / "99_bad.ipynb", tmp_path, None)


def test_what_otter_refuses_is_refused(tmp_path):
    notebook = master()
    notebook.cells[3]["source"] = "# BEGIN QUESTION\nno_name: q1"
    nbformat.write(notebook, tmp_path / "99_bad.ipynb")
    with pytest.raises(BadMaster, match="otter assign refuses"):
        build(tmp_path / "99_bad.ipynb", tmp_path, None)


def test_the_autograder_installs_torch_for_the_cpu_and_gptlib_from_the_repository(toy):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    with zipfile.ZipFile(toy.package) as file:
        setup = file.read("setup.sh").decode()
        assert json.loads(file.read("assignment.json"))["name"] == "99_toy"
    assert f"git+{repository}" in setup and "--torch-backend cpu" in setup


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_a_master_of_the_book_builds_and_its_committed_prompt_is_up_to_date(path, tmp_path):
    solution, _ = build(path, tmp_path, tmp_path / "prompts")
    assert solution.seconds < 120
    built = (tmp_path / "prompts" / path.name).read_text(encoding="utf-8")
    committed = (path.parent / "student" / path.name).read_text(encoding="utf-8")
    assert built == committed, "run make assignments, and commit notebooks/exercises/student"
    assert all(not cell.get("outputs") for cell in nbformat.read(path, 4).cells)


def test_there_are_masters_and_no_page_of_the_book_is_one():
    assert MASTERS
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert not [path for path in MASTERS if f"exercises/{path.stem}" in contents]
    assert not [path for path in MASTERS if f"exercises/student/{path.stem}" not in contents]


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_points_and_minutes_are_told_as_they_are(path):
    master = nbformat.read(path, 4)
    questions = read_questions(master, tests={})
    points = sum(question["points"] for question in questions)
    by_hand = sum(question["points"] for question in questions if question["manual"])
    introduction = next(cell.source for cell in master.cells if cell.cell_type == "markdown")
    assert f"*Points:* {points}, of which {by_hand} are marked by hand" in introduction
    [minutes] = re.findall(r"about (\d+) minutes", introduction)
    assert 60 <= int(minutes) <= 90 and 5 <= len(questions) <= 8
    [row] = [line for line in INSTRUCTOR.splitlines() if f"student/{path.name}" in line]
    assert row.endswith(f"| {minutes} | {points}, {by_hand} |")
