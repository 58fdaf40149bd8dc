"""Grade a folder of submissions: `make grade SUBMISSIONS=folder ASSIGNMENT=NN_name`.

scores.csv gets a row as soon as a submission is graded, and is the record of what is done: started again,
only what is missing or has changed is graded.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from grading.build import DIST
from grading.checks import Assignment, Grader, Result
from grading.feedback import statistics, write_answers, write_page
from grading.sandbox import Limits, has_bubblewrap

NAME = re.compile(r"\w[\w .,@+'()-]{0,79}")  # of a student; a spreadsheet takes none for a formula
COPY = re.compile(r"[ _]?\(\d+\)$| - Copy$|[ _-]copy$", re.IGNORECASE)  # what a second download is called
BEFORE, AFTER = ("student",), ("total", "seconds", "status", "review", "key")


@dataclass(frozen=True)
class Submission:
    """One student's entry: the notebook, or why there is none to grade."""

    student: str
    path: Path | None
    problem: str = ""

    def key(self, assignment: str) -> str:
        """Name what is graded by what: a fingerprint of the file and of the assignment."""
        digest = hashlib.sha256(f"{assignment} {self.problem} ".encode())
        if self.path:
            with self.path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
        return digest.hexdigest()[:16]


def find(folder: Path) -> list[Submission]:
    """Return an entry a student: a notebook in the folder, or in a folder that has the student's name."""
    entries: dict[str, tuple[str, list[Path]]] = {}
    for place in sorted(folder.iterdir()):
        if not place.name.startswith("."):
            is_folder = place.is_dir() and not place.is_symlink()
            name = COPY.sub("", place.name if is_folder else place.stem)
            files = [path for path in place.rglob("*") if _is_handed_in(path)] if is_folder else [place]
            entries.setdefault(name.casefold(), (name, []))[1].extend(files or [place])
    return sorted((_entry(*entry) for entry in entries.values()), key=lambda entry: entry.student)


def _is_handed_in(path: Path) -> bool:
    return path.suffix == ".ipynb" and ".ipynb_checkpoints" not in path.parts


def _entry(name: str, paths: list[Path]) -> Submission:
    """Return a student's entry, with what is wrong with it."""
    if not NAME.fullmatch(name) or not name.isprintable():
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        return Submission(f"unnamed {digest}", None, f"bad file name: {ascii(name)[:100]}")
    if len(paths) > 1:
        told = ", ".join(ascii(path.name)[1:-1] for path in paths)
        return Submission(name, None, f"{len(paths)} submissions, keep one: {told}"[:300])
    (path,) = paths
    if path.is_symlink() or not path.is_file():
        return Submission(name, None, "no notebook: it is a link or an empty folder")
    if path.suffix != ".ipynb":
        return Submission(name, None, f"no notebook: its name ends in {path.suffix!a}, not in .ipynb")
    return Submission(name, path)


class Scores:
    """scores.csv: a row a student, each on the disk before the next begins."""

    def __init__(self, path: Path, questions: list[str]):
        self.path, self.columns = path, [*BEFORE, *questions, *AFTER]
        self.rows: dict[str, dict] = {}

    def keep(self, keys: dict[str, str]) -> None:
        """Read the rows that are there, and write the file anew with those of these students and keys."""
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    if list(row) == self.columns and keys.get(row["student"]) == row["key"]:
                        self.rows[row["student"]] = row
        self.write()

    def write(self) -> None:
        """Write all rows, by student; the file is replaced whole."""
        temporary = self.path.with_suffix(".partial")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows[student] for student in sorted(self.rows))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def add(self, row: dict) -> None:
        """Append one row, and see that it is on the disk."""
        self.rows[row["student"]] = row
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)
            file.flush()
            os.fsync(file.fileno())


@cache
def _assignment(path: Path) -> Assignment:
    return Assignment.load(path)


def _grade(submission: Submission, assignment: Path, limits: Limits) -> Result:
    """Grade one submission, in a process of the pool."""
    grader = Grader(submission.path, _assignment(assignment), limits, "bubblewrap")
    if submission.problem:
        return grader.refuse(submission.problem)
    try:
        return grader.grade()
    except Exception as error:  # of the grader's own: the class is graded nevertheless
        return grader.refuse(f"the grader failed: {type(error).__name__}: {error}")


def graded(
    submissions: list[Submission], assignment: Path, limits: Limits, workers: int
) -> Iterator[tuple[Submission, Result]]:
    """Grade submissions side by side; yield each as it is done.

    Where a process of the grader's is killed, those that it leaves ungraded are each graded alone.
    """
    with tqdm(total=len(submissions), desc="grading", unit="submission") as bar:
        left = list(submissions)
        for group in (submissions, *([each] for each in submissions)):
            group = [each for each in group if each in left]
            for submission, result in _side_by_side(group, assignment, limits, workers):
                if result is None and len(group) == 1:
                    result = Grader(None, _assignment(assignment), limits, "").refuse("the grader was killed")
                if result is not None:
                    left.remove(submission)
                    bar.update()
                    yield submission, result


def _side_by_side(
    submissions: list[Submission], assignment: Path, limits: Limits, workers: int
) -> Iterator[tuple[Submission, Result | None]]:
    """Yield each submission and its result, or None where the grader was killed meanwhile."""
    if not submissions:
        return
    pool = ProcessPoolExecutor(min(workers, len(submissions)), mp_context=get_context("spawn"))
    try:
        waiting = {pool.submit(_grade, each, assignment, limits): each for each in submissions}
        for future in as_completed(waiting):
            is_killed = isinstance(future.exception(), BrokenExecutor)
            yield waiting[future], None if is_killed else future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def row(submission: Submission, result: Result, assignment: Assignment, key: str) -> dict:
    """Return the row of a submission. A question marked by hand is left empty."""
    points = {q["name"]: "" if q["manual"] else f"{result.points(q['name']):g}" for q in assignment.questions}
    told = dict(total=f"{result.total:g}", seconds=result.seconds, status=result.status, key=key)
    return {"student": submission.student} | points | told | {"review": "; ".join(result.review)}


def grade_folder(folder: Path, package: Path, out: Path, limits: Limits, workers: int) -> Path:
    """Grade what is missing; return the path of scores.csv."""
    assignment = Assignment.load(package)
    submissions = {submission.student: submission for submission in find(folder)}
    version = hashlib.sha256(json.dumps(vars(assignment), sort_keys=True).encode()).hexdigest()
    keys = {student: submission.key(version) for student, submission in submissions.items()}
    (out / "feedback").mkdir(parents=True, exist_ok=True)
    scores = Scores(out / "scores.csv", [question["name"] for question in assignment.questions])
    scores.keep(keys)
    missing = [submission for student, submission in submissions.items() if student not in scores.rows]
    for submission, result in graded(missing, package, limits, workers):
        write_page(out / "feedback", submission.student, result, assignment)
        scores.add(row(submission, result, assignment, keys[submission.student]))
    scores.write()
    write_answers(out, list(submissions), assignment)
    statistics(out, list(scores.rows.values()), assignment)
    return scores.path


def main() -> None:
    """Grade a folder, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submissions", type=Path, help="a folder of notebooks, one a student")
    parser.add_argument("assignment", help="NN_name, as make assignments built it")
    parser.add_argument("--dist", type=Path, default=DIST, help="where assignments are")
    parser.add_argument("--out", type=Path, help="default: dist/grades/NN_name")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="side by side")
    options = parser.parse_args()
    package = options.dist / options.assignment / "autograder.zip"
    if not options.submissions.is_dir():
        sys.exit(f"there is no folder {options.submissions}: SUBMISSIONS names it")
    if not package.exists():
        sys.exit(f"there is no {package}: run make assignments")
    if why := has_bubblewrap():
        sys.exit(why)
    out = options.out or DIST.parent / "grades" / options.assignment
    path = grade_folder(options.submissions, package, out, Limits(), options.workers)
    print(f"{path} is complete; feedback pages, texts to mark and statistics.png are beside it")


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    main()
