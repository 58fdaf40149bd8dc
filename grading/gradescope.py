"""What Gradescope runs for each submission: grade the notebook, write results.json."""

import json
import os
import sys
from pathlib import Path

from grading.checks import Assignment, Grader, Result
from grading.sandbox import Limits, has_bubblewrap


def main(root: Path) -> None:
    """Grade the one notebook in submission/, into results/results.json."""
    found = sorted((root / "submission").glob("*.ipynb"))
    if len(found) == 1:
        wall = "bubblewrap" if not has_bubblewrap() else "user"
        assignment = Assignment.load(root / "source")
        told = report(Grader(found[0], assignment, Limits(), wall).grade(), assignment)
    else:
        told = {"score": 0, "output": f"Hand in one notebook (.ipynb): here are {len(found)}."}
    temporary = root / "results" / "results.partial"
    temporary.write_text(json.dumps(told, indent=1), encoding="utf-8")
    os.replace(temporary, root / "results" / "results.json")


def report(result: Result, assignment: Assignment) -> dict:
    """Return a result in Gradescope's terms: nothing of hidden checks, and review marks for teachers."""
    tests = [
        {
            "name": f"{question}, {name}",
            "score": check["points"] if check["passed"] else 0,
            "max_score": check["points"],
            "status": "passed" if check["passed"] else "failed",
            "output": message,
            "visibility": "visible",
        }
        for question, name, message, check in result.told()
    ]
    if result.review:
        tests.append({"name": "for review", "output": "\n".join(result.review), "visibility": "hidden"})
    output = "" if result.status == "graded" else f"Not graded: {result.status}.\n"
    output += f"Cells that raised an error:\n{result.raised}" if result.errors else ""
    return {"tests": tests, "output": output, "stdout_visibility": "hidden", "execution_time": result.seconds}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
