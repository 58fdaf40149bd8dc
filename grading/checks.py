"""Grade one submission: run its cells behind a wall, and the checks here, where none of its code runs."""

import ast
import json
import signal
import time
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from otter.test_files.exception_test import ExceptionTestFile

from grading.sandbox import Limits, Sandbox
from grading.stand_ins import Student
from grading.suspicion import reasons
from grading.wire import Died

MOST_BYTES = 200 << 20  # of a submission's file
RESTARTS = 12  # of a student's process that ends, at most


@dataclass(frozen=True)
class Assignment:
    """What is graded: its questions in order, each with its checks, and the cells that a student is given."""

    name: str
    questions: list[dict]  # name, points, manual, prompt, rubric, tests (otter's source)
    given: list[str]  # sources of the student's notebook

    @classmethod
    def load(cls, path: Path) -> "Assignment":
        """Read it from an autograder.zip, or from the folder that it was opened in."""
        root = zipfile.Path(path) if path.is_file() else path
        return cls(**json.loads((root / "assignment.json").read_text(encoding="utf-8")))

    @property
    def graded(self) -> list[dict]:
        """The questions that are graded here; a person marks the others."""
        return [question for question in self.questions if not question["manual"]]

    def checks(self) -> list[tuple[dict, list]]:
        """Return each question that is graded here, and its checks as otter reads them."""
        return [(q, ExceptionTestFile.from_string(q["tests"], q["name"]).test_cases) for q in self.graded]


@dataclass
class Result:
    """What a submission earned, check by check."""

    status: str = "graded"
    checks: list[dict] = field(default_factory=list)  # question, hidden, points, passed, message
    errors: dict[int, str] = field(default_factory=dict)  # what a cell raised, by its number
    review: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)  # to the questions marked by hand
    seconds: float = 0.0
    megabytes: float = 0.0

    def points(self, question: str) -> float:
        """Return what a question earned."""
        return self._sum(check for check in self.checks if check["question"] == question)

    @property
    def total(self) -> float:
        """What all questions earned."""
        return self._sum(self.checks)

    @property
    def raised(self) -> str:
        """What cells raised, a line each."""
        return "\n".join(f"cell {number}: {error}" for number, error in self.errors.items())

    @staticmethod
    def _sum(checks: Iterable[dict]) -> float:
        return round(sum(check["points"] for check in checks if check["passed"]), 2)

    def told(self) -> list[tuple[str, str, str, dict]]:
        """Return question, name and message of each check, as a student may see them, and the check."""
        lines, count = [], {}
        other = "not passed: it uses other numbers than the checks you have"
        for check in self.checks:
            kind = check["question"], "hidden check" if check["hidden"] else "check"
            count[kind] = count.get(kind, 0) + 1
            is_told = not check["hidden"] or check["message"].startswith(("ended: ", "NotImplementedError"))
            why = "passed" if check["passed"] else check["message"] if is_told else other
            lines.append((kind[0], f"{kind[1]} {count[kind]}", why, check))
        return lines


class Grader:
    """One submission on its way through the checks."""

    def __init__(self, path: Path, assignment: Assignment, limits: Limits, wall: str):
        self.path, self.assignment, self.limits, self.wall = path, assignment, limits, wall
        self.result, self.harmful, self.restarts = Result(), set(), 0
        self.end = time.monotonic() + limits.total

    def grade(self) -> Result:
        """Run cells and checks; whatever the submission does, return a result."""
        began = time.monotonic()
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise ValueError(f"the file has over {MOST_BYTES >> 20} MB: clear its outputs")
            self.begin()
            self.cells = self.read()
            self.look()
            self.run_cells()
            self.judge()
        except ValueError as error:
            self.result.status = str(error)
        except Died as error:
            self.result.status = f"stopped: {error}"
        finally:
            self.stop()
        self.complete()
        self.result.seconds = round(time.monotonic() - began, 1)
        return self.result

    def refuse(self, why: str) -> Result:
        """Return the result of a submission that is not graded."""
        self.result.status = why
        self.complete()
        return self.result

    def begin(self) -> None:
        """Start the student's process."""
        self.sandbox = Sandbox(self.path, self.limits, self.wall)
        self.sandbox.__enter__()
        self.student = Student(self.sandbox, self.limits, self.end)

    def run_cells(self) -> None:
        """Run all cells but those that have ended the process before, and the given checks."""
        late = []
        for number, (kind, source) in enumerate(self.cells):
            is_check = "def test_" in source and source in self.assignment.given
            if kind != "code" or number in self.harmful or is_check:
                continue
            if (error := self.run(number, source)) is None:
                return self.restart()
            late += [number] if error.startswith("NameError") else []
        for number in late:  # once more, for cells that stand above what they use
            if self.run(number, self.cells[number][1]) is None:
                return self.restart()

    def restart(self) -> None:
        """Begin again after the process has ended."""
        if self.sandbox.killed:
            self.result.review.append(self.sandbox.killed)
        self.stop()
        self.restarts += 1
        if self.restarts > RESTARTS or time.monotonic() > self.end:
            raise Died("it ended too often, or took too long")
        self.begin()
        self.run_cells()

    def stop(self) -> None:
        """End the student's process."""
        if sandbox := self.__dict__.get("sandbox"):
            self.result.megabytes = max(self.result.megabytes, round(sandbox.most))
            sandbox.__exit__()
            del self.sandbox

    def read(self) -> list[tuple[str, str]]:
        """Return kind and source of every cell, read behind the wall. Raises ValueError: no notebook."""
        try:
            cells = self.student.ask({"ask": "read", "path": self.sandbox.path}, seconds=60)
            return [(str(kind), str(source)) for kind, source in cells]
        except (Died, MemoryError):
            why = "too large to be read"
        except Exception as error:
            why = "not UTF-8 text" if "UnicodeDecodeError" in str(error) else "broken JSON, or without cells"
        raise ValueError(f"no notebook: it is {why}")

    def look(self) -> None:
        """Find what a person should see. Raises ValueError where it is not a notebook of this assignment."""
        code = [(number + 1, source) for number, (kind, source) in enumerate(self.cells) if kind == "code"]
        self.result.review += reasons(code, self.assignment.given)
        cases = [case for _, cases in self.assignment.checks() for case in cases]
        names = {name for case in cases for name in case.body._get_func_params()}
        if not names & defined(source for _, source in code):
            raise ValueError("another notebook: it defines none of the names asked for")
        self.result.answers = self.written()

    def run(self, number: int, source: str) -> str | None:
        """Run one cell; return what it raised, or None where it ended the process."""
        try:
            error = self.student.ask({"ask": "cell", "source": source}, seconds=self.limits.cell)
        except TimeoutError as late:
            error = f"TimeoutError: {late}"
        except Died as death:
            self.harmful.add(number)
            self.result.errors[number + 1] = str(self.sandbox.killed or death)
            return None
        if error and not self.restarts:
            self.result.errors[number + 1] = str(error)
        return str(error)

    def judge(self) -> None:
        """Run the checks of every question; once one has ended the process, its others are not run."""
        for question, cases in self.assignment.checks():
            ended = ""
            for case in cases:
                message = ended or self.check(case)
                if message.startswith("ended: "):
                    ended = ended or message
                outcome = dict(question=question["name"], hidden=case.hidden, points=case.points)
                self.result.checks.append(outcome | {"passed": not message, "message": message})

    def check(self, case) -> str:
        """Run one check; return why it failed, or nothing."""
        if time.monotonic() > self.end:
            return "ended: there was no time left"
        try:
            torch.manual_seed(0)
            self.student.reset()
            names = case.body._get_func_params()
            objects = {name: self.student.ask({"ask": "get", "name": name}) for name in names}
            with patience(self.limits.test):
                case.body.test_func(**objects)
        except Died as death:
            message = f"ended: {self.sandbox.killed or death}"
            self.restart()
            return message
        except Exception as error:
            text = str(error)
            return text if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text}"
        return ""

    def written(self) -> dict[str, str]:
        """Return the text below the prompt of every question marked by hand."""
        answers, sources = {}, [source.strip() for _, source in self.cells]
        given = {source.strip() for source in self.assignment.given}
        for question in self.assignment.questions:
            if question["manual"] and question["prompt"].strip() in sources:
                below = sources[sources.index(question["prompt"].strip()) + 1 :]
                ends = [number for number, source in enumerate(below) if source in given]
                answers[question["name"]] = "\n\n".join(below[: ends[0]] if ends else below)
        return answers

    def complete(self) -> None:
        """Add the checks that could not run, at no points."""
        seen = [check["question"] for check in self.result.checks]
        for question, cases in self.assignment.checks():
            for case in cases[seen.count(question["name"]) :]:
                outcome = dict(question=question["name"], hidden=case.hidden, points=case.points)
                self.result.checks.append(outcome | {"passed": False, "message": self.result.status})


@contextmanager
def patience(seconds: float):
    """Raise TimeoutError in a check that goes on for too long: it may loop over a student's values."""

    def ring(number, frame):
        raise TimeoutError("the check took too long")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(
        signal.ITIMER_PROF, seconds
    )  # of this process's work: waiting for a student is not counted
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def defined(sources) -> set[str]:
    """Return the names that some cells assign to or define, as far as they can be read."""
    names: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names
