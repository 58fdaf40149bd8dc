"""Grade a large class of right answers: seconds each and memory, in the first quarter and in the last."""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import measuring

sys.path.insert(0, str(Path(__file__).parents[1]))
from grading.build import MASTERS, build
from grading.grade import find, graded
from grading.sandbox import Limits, descendants, memory

NAME, COPIES = "01_babygpt", 200
TARGET = 20  # seconds each on a core, at most


def grade_copies(folder: Path) -> list[dict[str, float]]:
    """Grade copies of the solution; return seconds and memory in MB of each, in the order they were done.

    The memory is that of all processes of the grader's at the moment a submission was done.
    """
    build(MASTERS / f"{NAME}.ipynb", folder, None)
    submissions = folder / "submissions"
    submissions.mkdir()
    for number in range(COPIES):
        shutil.copy(folder / NAME / "solution" / f"{NAME}.ipynb", submissions / f"student {number:03}.ipynb")
    package, rows = folder / NAME / "autograder.zip", []
    for _, result in graded(find(submissions), package, Limits(), len(os.sched_getaffinity(0))):
        if not all(check["passed"] for check in result.checks):
            raise RuntimeError(f"a right answer lost points: {result}")
        held = sum(map(memory, descendants(os.getpid())))
        rows.append({"value": result.seconds, "peak_mb": held, "a sandbox's, MB": result.megabytes})
    return rows


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        rows = grade_copies(Path(folder))
    quarter = COPIES // 4
    found = {"first quarter": summary(rows[:quarter]), "last quarter": summary(rows[-quarter:])}
    slowest = max(row["value"] for row in rows)
    case = f"the slowest of {COPIES} right notebooks, in shares of {TARGET} s"
    row = {"case": case, "unit": "s", **found, "ratio": slowest / TARGET, "target": "at most 1"}
    workers = len(os.sched_getaffinity(0))
    measuring.report(f"grading {COPIES} submissions of {NAME}", [row], f"once, {workers} side by side")


def summary(rows: list[dict[str, float]]) -> dict:
    """Return median and spread of each number."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {k: {"median": statistics.median(v), "spread": [min(v), max(v)]} for k, v in columns.items()}


if __name__ == "__main__":
    main()
