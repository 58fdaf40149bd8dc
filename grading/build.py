"""Build assignments from masters: `make assignments`, or one: `python -m grading.build MASTER`.

otter assign reads the master and takes the solutions out. Here the public checks become ordinary cells, the
autograder is packed, and what came out is graded: the solution must earn all points, the student's file none.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from grading.checks import Assignment, Grader, Result, defined
from grading.sandbox import Limits, has_bubblewrap

ROOT = Path(__file__).parents[1]
MASTERS = ROOT / "notebooks" / "exercises"
DIST = ROOT / "dist" / "assignments"
PROMPTS = MASTERS / "student"  # committed, for the book and for Colab
ANSWER = "*Write your answer here, in place of this line.*"
PACKED = ("__init__", "wire", "student", "sandbox", "stand_ins", "suspicion", "checks", "gradescope")
MAY_FAIL = "raises-exception"  # the tag by which Jupyter runs on
SHORT = 12  # characters: a shorter line gives nothing away


class BadMaster(Exception):
    """The master breaks a rule, and what it would be built into is not to be given out."""


def otter_assign(master: Path, folder: Path) -> tuple[NotebookNode, dict[str, str]]:
    """Let otter take the solutions out; return its student's notebook and its test files by question."""
    command = [sys.executable, "-m", "otter", "assign", "--no-run-tests", str(master.resolve()), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BadMaster(f"otter assign refuses {master.name}:\n{ran.stdout}{ran.stderr}")
    student = nbformat.read(folder / "student" / master.name, as_version=4)
    (packed,) = (folder / "autograder").glob("*.zip")
    with zipfile.ZipFile(packed) as file:
        tests = {Path(n).stem: file.read(n).decode() for n in file.namelist() if n.startswith("tests/")}
    return student, tests


def read_questions(master: NotebookNode, tests: dict[str, str]) -> list[dict]:
    """Return the master's questions: configuration, prompt, rubric, solution, checks, otter's tests."""
    questions: list[dict] = []
    part = ""
    for cell in master.cells:
        title, _, rest = cell.source.partition("\n")
        if cell.cell_type == "raw" and title.startswith(("# BEGIN", "# END")):
            part = title.removeprefix("# ") if title.startswith("# BEGIN") else ""
            if part == "BEGIN QUESTION":
                new = dict(manual=False, prompt="", rubric="", solution="", public=[], hidden=[])
                questions.append(new | yaml.safe_load(rest))
        elif part == "BEGIN QUESTION" and cell.cell_type == "markdown":
            questions[-1]["prompt"] = cell.source
        elif part == "BEGIN SOLUTION":
            questions[-1]["rubric" if questions[-1]["manual"] else "solution"] = cell.source
        elif part == "BEGIN TESTS":
            configuration, check = split_check(cell.source)
            questions[-1]["hidden" if configuration.get("hidden") else "public"].append(check)
    for question in questions:
        question["tests"] = tests.get(question["name"], "")
    return questions


def split_check(source: str) -> tuple[dict, str]:
    """Split the cell of a test into its configuration and its code."""
    head, found, code = source.partition("# END TEST CONFIG")
    if not found:
        raise BadMaster(f"a test cell begins with its configuration, this one does not:\n{source}")
    lines = head.strip().split("\n")[1:-1]
    return yaml.safe_load("\n".join(lines)), code.strip("\n")


def student_notebook(otters: NotebookNode, questions: list[dict]) -> NotebookNode:
    """Turn otter's student's notebook into one that stands alone: stubs raise, public checks are cells."""
    by_solution = {stub(question["solution"]): question for question in questions if not question["manual"]}
    cells: list[NotebookNode] = []
    for cell in otters.cells:
        source = cell.source.strip("\n")
        is_answer = "otter_answer_cell" in cell.metadata.get("tags", [])
        if source.startswith(("<!-- BEGIN QUESTION", "<!-- END QUESTION")):
            source = source.partition("-->")[2].strip("\n")
            if not source:
                continue
        if cell.cell_type == "code" and is_answer:
            cells.append(code(stub(source), "answer"))
            public = by_solution[stub(source)]["public"]
            cells += [code(check, "check") for check in public]
        elif cell.cell_type == "code":
            cells.append(code(source))
        else:
            cells.append(new_markdown_cell(ANSWER if is_answer else source))
    let_fail([cell for cell in cells if cell.cell_type == "code"])
    return finished(cells)


def let_fail(cells: list[NotebookNode]) -> None:
    """Mark the given cells that use an answer, or what came of one: until it is there, those below run on."""
    wanting: set[str] = set()  # names that an unanswered question leaves undefined or without a value
    for cell in cells:
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if not cell.metadata.get("tags") and names & wanting:
            cell.metadata["tags"] = [MAY_FAIL]
        if MAY_FAIL in cell.metadata.get("tags", []):
            wanting |= defined([cell.source])


def stub(source: str) -> str:
    """Return a cell without its solution: where a body was, NotImplementedError is raised."""
    lines, inside = [], False
    for line in source.strip("\n").split("\n"):
        bare = line.strip()
        if bare in ("# BEGIN SOLUTION", "..."):
            lines.append(line[: len(line) - len(line.lstrip())] + "raise NotImplementedError")
        elif not inside and bare != "# END SOLUTION":
            lines.append(line.split("=")[0] + "= ..." if bare.endswith("# SOLUTION") else line)
        inside = bare == "# BEGIN SOLUTION" or (inside and bare != "# END SOLUTION")
    return "\n".join(lines).strip("\n")


def solved_notebook(student: NotebookNode, questions: list[dict]) -> NotebookNode:
    """Return the student's notebook with the master's answers in it."""
    solutions = {stub(question["solution"]): question["solution"] for question in questions}
    rubrics = iter(question["rubric"] for question in questions if question["manual"])
    cells = []
    for cell in student.cells:
        if cell.source in solutions:
            marks = ("# BEGIN SOLUTION", "# END SOLUTION")
            kept = [line for line in solutions[cell.source].split("\n") if line.strip() not in marks]
            cells.append(code("\n".join(kept).replace("  # SOLUTION", "")))
        elif cell.source == ANSWER:
            cells.append(new_markdown_cell(next(rubrics)))
        else:
            cells.append(cell.copy())
    return finished(cells)


def code(source: str, kind: str = "") -> NotebookNode:
    """Return a code cell; one that may fail before the answer is there lets those below it run."""
    metadata = {"tags": [MAY_FAIL, kind]} if kind else {}
    return new_code_cell(source, metadata=metadata)


def finished(cells: list[NotebookNode]) -> NotebookNode:
    """Return a notebook of these cells, the same at each build."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    colab = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}  # so Colab opens it on a T4
    return new_notebook(cells=cells, metadata=metadata | colab)


def check_rules(questions: list[dict], student: NotebookNode) -> None:
    """Raise BadMaster where points do not add up, or the student's file holds what it must not."""
    for question in questions:
        name, points = question["name"], sum(split_points(question["tests"]))
        if "points" not in question:
            raise BadMaster(f"{name} has no points: name them beside its name")
        if not question["manual"] and points != question["points"]:
            raise BadMaster(f"{name}: its tests have {points} points, the question has {question['points']}")
        if question["manual"] and "**Rubric.**" not in question["rubric"]:
            raise BadMaster(f"{name} is marked by hand and has no **Rubric.**")
    kept_back = [question[part] for question in questions for part in ("solution", "rubric")]
    kept_back += [check for question in questions for check in question["hidden"]]
    code_cells = [cell for cell in student.cells if cell.cell_type == "code"]
    public = [cell.source for cell in code_cells if "answer" not in cell.metadata.get("tags", [])]
    shown = {line.strip() for source in public for line in source.split("\n")}
    shown |= {line.strip() for question in questions for line in stub(question["solution"]).split("\n")}
    text = nbformat.writes(student)
    for line in {line.strip() for source in kept_back for line in source.split("\n")} - shown:
        if len(line) >= SHORT and json.dumps(line)[1:-1] in text:
            raise BadMaster(f"the student's file holds a line of a solution or of a hidden test: {line}")


def split_points(tests: str) -> list[float]:
    """Return the points of the tests in one of otter's files. Raises BadMaster where a test has none."""
    found = []
    for node in ast.parse(tests).body:
        if isinstance(node, ast.FunctionDef):
            given = {word.arg: ast.literal_eval(word.value) for word in node.decorator_list[0].keywords}
            if given.get("points") is None:
                raise BadMaster(f"{node.name} has no points")
            found.append(given["points"])
    return found


def pack(path: Path, assignment: dict) -> None:
    """Write the autograder: Gradescope's two scripts, the grader, and the assignment with its tests."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    setup = (ROOT / "grading" / "setup.sh").read_text(encoding="utf-8").replace("REPOSITORY", repository)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("setup.sh", setup)
        file.write(ROOT / "grading" / "run_autograder", "run_autograder")
        for name in PACKED:
            file.write(ROOT / "grading" / f"{name}.py", f"grading/{name}.py")
        file.writestr("assignment.json", json.dumps(assignment, indent=1))


def build(master: Path, dist: Path, prompts: Path | None) -> list[Result]:
    """Build one assignment into a folder of its name; return the grades of its solution and student's file.

    Raises BadMaster where the solution does not earn all points, or the student's file any.
    """
    name, folder = master.stem, dist / master.stem
    with tempfile.TemporaryDirectory() as temporary:
        otters, tests = otter_assign(master, Path(temporary))
    questions = read_questions(nbformat.read(master, as_version=4), tests)
    student = student_notebook(otters, questions)
    check_rules(questions, student)
    for kind, notebook in (("student", student), ("solution", solved_notebook(student, questions))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / kind / master.name)
    fields = ("name", "points", "manual", "prompt", "rubric", "tests")
    kept = [{field: question[field] for field in fields} for question in questions]
    given = [cell.source for cell in student.cells]
    pack(folder / "autograder.zip", dict(name=name, questions=kept, given=given))
    results = prove(folder, master.name)
    if prompts:
        prompts.mkdir(exist_ok=True)
        nbformat.write(student, prompts / master.name)
    return results


def prove(folder: Path, file: str) -> list[Result]:
    """Grade the solution and the untouched student's notebook. Raises BadMaster where either surprises."""
    assignment = Assignment.load(folder / "autograder.zip")
    paths = [folder / kind / file for kind in ("solution", "student")]
    solution, student = (Grader(path, assignment, Limits(), "bubblewrap") for path in paths)
    solved = solution.grade()
    for check in solved.checks:
        if not check["passed"]:
            raise BadMaster(f"the solution fails a check of {check['question']}: {check['message']}")
    if solved.review or solved.errors:
        raise BadMaster(f"the solution is not clean: {solved.review} {solved.raised}")
    untouched = student.grade()
    for check in untouched.checks:
        if check["passed"] and check["points"]:
            raise BadMaster(f"a notebook without answers earns points for {check['question']}")
    cells = nbformat.read(paths[1], as_version=4).cells
    for number, error in untouched.errors.items():
        if MAY_FAIL not in cells[number - 1].metadata.get("tags", []):
            raise BadMaster(f"without answers, cell {number} fails, which uses none: {error}")
    return [solved, untouched]


def main() -> None:
    """Build the masters that are named, or all in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("masters", type=Path, help="a master, or a folder of them")
    parser.add_argument("--dist", type=Path, default=DIST, help="where assignments go")
    options = parser.parse_args()
    if why := has_bubblewrap():
        sys.exit(why)
    masters = [options.masters] if options.masters.is_file() else sorted(options.masters.glob("*.ipynb"))
    if not masters:
        sys.exit(f"there is no master in {options.masters}")
    for master in masters:
        prompts = PROMPTS if master.resolve().parent == MASTERS else None  # private masters are not committed
        try:
            solution, _ = build(master, options.dist, prompts)
        except BadMaster as error:
            sys.exit(f"{master}: {error}")
        points = sum(check["points"] for check in solution.checks)
        print(f"{master.stem}: {points:g} points in {solution.seconds} s, {solution.megabytes:.0f} MB")


if __name__ == "__main__":
    main()
