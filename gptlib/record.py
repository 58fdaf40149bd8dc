"""Record a chapter's larger runs: `python -m gptlib.record finetuning`, a CSV row per finished run.

Stopped and started again it does only what is missing. Each row says what made it: commit, seed,
device, versions and minutes.
"""

import argparse
import csv
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch

from gptlib import __version__
from gptlib.budget import Budget
from gptlib.corpora import python_docs
from gptlib.progress import progress

Run = dict[str, str | int | float]
FOLDER = Path(__file__).parent / "recorded"  # package data


def recorded(name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Return the recorded rows of a chapter. Raises ValueError when there are none."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise ValueError(f"nothing is recorded under {name!r}: make it with python -m gptlib.record")
    return pd.read_csv(path)


def record(path: Path, runs: Iterable[Run], result: Callable[[Run], Run]) -> None:
    """Append a row for each run that the file does not have yet: what it was given, then what came out."""
    runs, done = list(runs), set()
    if path.exists():
        with path.open(newline="") as file:
            done = {tuple(row[key] for key in runs[0]) for row in csv.DictReader(file)}
    for run in progress([r for r in runs if tuple(map(str, r.values())) not in done], desc=path.stem):
        began = time.perf_counter()
        found = result(run)
        row = run | found | _provenance((time.perf_counter() - began) / 60)
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())


def _provenance(minutes: float) -> Run:
    commit = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return {
        "device": Budget.detect().describe(),
        "commit": commit.stdout.strip() or __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "minutes": round(minutes, 3),
    }


def finetuning(path: Path) -> None:
    """Chapter 2: accuracy against number of labels, four tasks, four methods, three seeds."""
    # Chapter modules are imported here alone, so that reading what is recorded does not need them.
    from gptlib.babygpt import babygpt
    from gptlib.label_efficiency import METHODS, VARIANTS
    from gptlib.labels import docs_tasks, hold_out

    corpus, aside = hold_out(python_docs(), 0.4)
    baby, ways = babygpt(corpus), METHODS | VARIANTS
    tasks = {seed: docs_tasks(aside, seed) for seed in range(3)}
    runs = []
    for seed, its_tasks in tasks.items():
        for kind, task in its_tasks.items():
            some = {n: list(METHODS) for n in label_counts(len(task.train), len(task.answers))}
            if kind in ("classification", "multiple_choice"):
                some[100 * len(task.answers)] += VARIANTS
            runs += [{"task": kind, "method": way, "n": n, "seed": seed} for n in some for way in some[n]]
    record(
        path,
        runs,
        lambda r: {"accuracy": ways[r["method"]](baby, tasks[r["seed"]][r["task"]], r["n"], r["seed"])},
    )


def label_counts(most: int, answers: int) -> list[int]:
    """Return the sizes at which chapter 2 measures: a hundred a class among them, and all, to the hundred."""
    between = {800} if most >= 1600 else set()
    return sorted({16, 64, 200, 100 * answers, most // 100 * 100} | between)


CHAPTERS = {"finetuning": finetuning}


def main() -> None:
    """Record what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapter", choices=CHAPTERS)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    CHAPTERS[given.chapter](given.folder / f"{given.chapter}-{Budget.detect().name}.csv")


if __name__ == "__main__":
    main()
