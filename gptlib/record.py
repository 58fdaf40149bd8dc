"""Record a chapter's larger runs: `python -m gptlib.record scaling`, a CSV row per finished run.

Stopped and started again it does only what is missing. Each row says what made it: commit, seed,
device, versions and minutes. With `--shard i/n`, n processes or machines share the runs, and each writes a
file of its own; they are read as one.
"""

import argparse
import csv
import io
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch

from gptlib import __version__
from gptlib.budget import Budget
from gptlib.corpora import python_docs
from gptlib.files import expanded, remedy
from gptlib.history import Interrupted
from gptlib.progress import progress

Run = dict[str, str | int | float]
FOLDER = Path(__file__).parent / "recorded"  # package data
PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
# The numbers that were written, to the bit: from pandas 3.1 on the default, and not to be asked for.
TO_THE_BIT = {"float_precision": "round_trip"} if PANDAS < (3, 1) else {}


def recorded(name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Return the recorded rows of a chapter. Raises ValueError when there are none."""
    path = expanded(folder) / f"{name}.csv"
    tables = [pd.read_csv(io.StringIO(text), **TO_THE_BIT) for text in _whole_rows(path)]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise ValueError(f"nothing is recorded under {name!r}: make it with python -m gptlib.record")
    return pd.concat(tables, ignore_index=True)


def _whole_rows(path: Path) -> list[str]:
    """Return the text of a file of rows and of its shards, where there is any."""
    files = [path] * path.is_file() + sorted(path.parent.glob(f"{path.stem}.*of*.csv"))
    return [text for text in map(_whole, files) if text]


def _whole(file: Path) -> str:
    """Return a file's text without a last row that was cut short: its writer was killed, or the disk full."""
    text = file.read_bytes().decode()
    whole, end, last = text.rpartition("\n")
    if whole and last and _cells(last)[-1] and len(_cells(last)) == len(_cells(text)):
        return text  # whole, but for the line's end
    return whole + end


def _cells(text: str) -> list[str]:
    return next(csv.reader(io.StringIO(text)), [])


def record(
    path: Path,
    runs: Iterable[Run],
    result: Callable,
    costs: Sequence[float] | None = None,
    shard: tuple[int, int] = (0, 1),
    budget: Budget | None = None,
    families: bool = False,
) -> None:
    """Append a row for each run that is not recorded yet: what it was given, then what came out.

    `costs`, one a run in any unit, make the bar's time left right where runs differ. `shard` (i, n): these
    runs are the i-th of n parts, and their rows go into a file beside `path`. `budget` is what they ran on,
    if not what is detected. With `families`, runs that differ in their seed alone are made as one: `result`
    takes and returns a list of them, and their rows are written when all are finished. Raises
    KeyboardInterrupt when a training within a run is stopped, and OSError when a row cannot be written.
    """
    path, runs, done = expanded(path), list(runs), set()
    if not runs:  # more shards than runs
        return
    for text in _whole_rows(path):
        done |= {tuple(row[key] for key in runs[0]) for row in csv.DictReader(io.StringIO(text))}
    missing: dict[tuple, list[tuple[Run, float]]] = {}  # by what those have in common that are made as one
    for run, cost in zip(runs, costs or [1.0] * len(runs), strict=True):
        if tuple(map(str, run.values())) not in done:
            common = tuple(item for item in run.items() if not (families and item[0] == "seed"))
            missing.setdefault(common, []).append((run, cost))
    if shard[1] > 1:
        path = path.with_suffix(f".{shard[0]}of{shard[1]}.csv")
    made_by = provenance(0.0, budget or Budget.detect())  # before: what fails here must cost no run
    bar_format = "{desc}: {percentage:.1f}% [{elapsed}, {remaining} left{postfix}]"
    total = sum(cost for its in missing.values() for _, cost in its)
    with progress(total=total, desc=path.stem, bar_format=bar_format) as bar:
        for number, its in enumerate(missing.values(), 1):
            began, (family, its_costs) = time.perf_counter(), zip(*its, strict=True)
            rows = _of_whole_runs(result, family) if families else [_of_whole_runs(result, *family)]
            made_by["minutes"] = round((time.perf_counter() - began) / 60 / len(family), 3)
            _append(path, [run | row | made_by for run, row in zip(family, rows, strict=True)])
            bar.set_postfix_str(f"{number} of {len(missing)} {'families' if families else 'runs'}")
            bar.update(sum(its_costs))


def _of_whole_runs(result: Callable, given: Run | Sequence[Run]) -> Run | Sequence[Run]:
    """Return what came out. A reader who stops a training within it stops the recording."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Interrupted)
        try:
            return result(given)
        except Interrupted as stopped:
            raise KeyboardInterrupt(f"{stopped}; part of a run is no row") from None


def _append(path: Path, rows: Sequence[Run]) -> None:
    """Write rows to the end of a file, and wait until they are on the disk.

    Raises OSError when they cannot be written, ValueError when the file has other columns; both tell them.
    """
    columns, lines = list(rows[0]), "".join(_line(row.values()) for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = _whole(path) if path.exists() else ""
        if before and (names := _cells(before)) != columns:
            raise ValueError(
                f"{path.name} has the columns {names}, not {columns}: take another folder; the row: {lines}"
            )
        start = _line(columns) if not before else "" if before.endswith("\n") else "\n"
        with path.open("ab") as file:
            file.truncate(len(before.encode()))
            file.write(f"{start}{lines}".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            f"a row could not be written to {path} ({error}): {remedy(error)}, or give another folder, and "
            f"start again; to keep the row, add it by hand: {lines}"
        ) from error


def _line(cells: Iterable) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def provenance(minutes: float, budget: Budget) -> Run:
    """Return what made a row: device, commit (or version, without a repository), torch, Python, minutes."""
    try:
        git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "device": budget.describe(),
        "commit": commit or __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "minutes": round(minutes, 3),
    }


def finetuning(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 2: accuracy against number of labels, four tasks, four methods, three seeds."""
    # Chapter modules are imported here alone, so that reading what is recorded does not need them.
    from gptlib.babygpt import babygpt
    from gptlib.label_efficiency import METHODS, VARIANTS
    from gptlib.labels import docs_tasks, hold_out

    aside = hold_out(python_docs(), 0.4)[1]
    baby, ways = babygpt(), METHODS | VARIANTS
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
        runs[shard[0] :: shard[1]],
        lambda r: {"accuracy": ways[r["method"]](baby, tasks[r["seed"]][r["task"]], r["n"], r["seed"])},
        shard=shard,
    )


def label_counts(most: int, answers: int) -> list[int]:
    """Return the sizes at which chapter 2 measures: a hundred a class among them, and all, to the hundred."""
    between = {800} if most >= 1600 else set()
    return sorted({16, 64, 200, 100 * answers, most // 100 * 100} | between)


def scaling(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 3: loss against size, text and compute; the checks of its rule; repeated text; the wager."""
    from gptlib.sweep import chapter_grid, sweep

    sweep(chapter_grid(), path, shard)


def _record_each(
    path: Path, runs: list[Run], result: Callable, shard: tuple[int, int], families: bool = False
) -> None:
    """Record `result` of each run's own values, or of a family's and its `seeds`; every n-th of n shards."""
    budget = Budget.detect().in_float32()

    def of_seeds(family: Sequence[Run]) -> list[Run]:
        shared = {key: value for key, value in family[0].items() if key != "seed"}
        return result(**shared, seeds=[run["seed"] for run in family])

    made = of_seeds if families else lambda run: result(**run)
    record(path, runs[shard[0] :: shard[1]], made, shard=shard, budget=budget, families=families)


def functions(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 4: errors at learning linear functions in context, by dimensions and noise, three seeds."""
    from gptlib.function_learning import RECORDED, errors

    runs = [{"d": d, "noise": noise, "seed": seed}
            for d in RECORDED for noise in (0.0, 0.5) for seed in range(3)]  # fmt: skip
    _record_each(path, runs, errors, shard)


def in_context(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 4: accuracy against number of shots, by size of the model and by training text, three seeds."""
    from gptlib.in_context import WIDTHS, accuracies

    kinds = [(width, "arrowed") for width in WIDTHS] + [(64, "plain"), (64, "none")]
    runs = [{"width": w, "copies": kind, "seed": seed} for w, kind in kinds for seed in range(3)]
    _record_each(path, runs, accuracies, shard)


def emergence(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 5: scores at arithmetic by size, three seeds; other learning rates at two sizes."""
    from gptlib.emergence import WIDTHS, recorded_scores

    runs = [{"width": width, "rate": 1.0, "seed": seed} for width in WIDTHS for seed in range(3)]
    runs += [{"width": width, "rate": rate, "seed": 0} for width in (16, 64) for rate in (0.5, 2.0)]
    _record_each(path, runs, recorded_scores, shard, families=True)


def emergence_digits(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 5: scores by size where the numbers have 2 or 4 digits (3: emergence), three seeds."""
    from gptlib.emergence import WIDTHS, scores_by_digits

    runs = [{"width": width, "digits": digits, "seed": seed}
            for seed in range(3) for digits in (2, 4) for width in WIDTHS[:6]]  # fmt: skip
    _record_each(path, runs, scores_by_digits, shard, families=True)


def running_sums(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 6: parity and sums of digits by their number, in three ways of writing, three seeds."""
    from gptlib.running_sums import WAYS, sums_scores

    problems = [(2, n) for n in (2, 4, 6, 8, 12, 16)] + [(10, n) for n in (2, 3, 4, 8)]
    runs = [{"base": base, "n": n, "way": way, "seed": seed}
            for seed in range(3) for base, n in problems for way in WAYS]  # fmt: skip
    _record_each(path, runs, sums_scores, shard)


def chain_of_thought(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 6: accuracy with and without reasoning by size, votes, tampering, lengths; three seeds."""
    from gptlib.chain_of_thought import WIDTHS, recorded_scores

    kinds = [(width, 0.5) for width in WIDTHS] + [(64, 0.0)]
    runs = [{"width": width, "worked": worked, "seed": seed}
            for seed in range(3) for width, worked in kinds]  # fmt: skip
    _record_each(path, runs, recorded_scores, shard)


def habits(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 7: how faithfully planted bad advice is repeated, by size of the model, three seeds."""
    from gptlib.alignment.habits import WIDTHS, family_member

    runs = [{"width": width, "seed": seed} for width in WIDTHS for seed in range(3)]
    _record_each(path, runs, family_member, shard)


def alignment(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 7: gold reward against KL, of every method at several strengths, three seeds."""
    from gptlib.alignment.frontier import policy_scores

    ways = [("ppo", 0.0), ("ppo", 0.05), ("ppo", 0.2), ("ppo-ptx", 0.05), ("ppo small judge", 0.0)]
    ways += [("grpo", 0.05), ("grpo", 0.2), ("dpo", 0.05), ("dpo", 0.2)]
    runs = [{"method": method, "strength": strength, "seed": seed}
            for seed in range(3) for method, strength in ways]  # fmt: skip
    _record_each(path, runs, policy_scores, shard)


def best_of_n(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 7: proxy and gold reward of the best of n responses, three seeds."""
    from gptlib.alignment.frontier import best_of_n_scores

    runs = [{"n": 2**i, "seed": seed} for seed in range(3) for i in range(7)]
    _record_each(path, runs, best_of_n_scores, shard)


def reward_models(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 7: a reward model's accuracy on held-out modules by number of comparisons, three seeds."""
    from gptlib.alignment.frontier import reward_model_scores

    runs = [{"n_prompts": n, "seed": seed} for seed in range(3) for n in (3000, 1000, 100)]
    _record_each(path, runs, reward_model_scores, shard)


def verifier(path: Path, shard: tuple[int, int]) -> None:
    """Chapter 7: chapter 6's sums improved by a verifier, and by a model of people, three seeds."""
    from gptlib.alignment.verifier import verified_scores

    _record_each(path, [{"seed": seed} for seed in range(3)], verified_scores, shard)


CHAPTERS = {chapter.__name__: chapter for chapter in (
    finetuning, scaling, functions, in_context, emergence, emergence_digits, running_sums, chain_of_thought,
    habits, alignment, best_of_n, reward_models, verifier,
)}  # fmt: skip


def main() -> None:
    """Record what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapter", choices=[*CHAPTERS, "babygpt"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--shard", type=_shard, default=(0, 1), metavar="i/n", help="part i of n, from 0")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        help="another Python, on whose documentation babygpt is tested",
    )
    given = parser.parse_args()
    folder = expanded(given.folder)
    if given.chapter == "babygpt":  # weights, not rows
        from gptlib.babygpt import record_base

        record_base(folder, given.python)
    else:
        CHAPTERS[given.chapter](folder / f"{given.chapter}-{Budget.detect().name}.csv", given.shard)


def _shard(text: str) -> tuple[int, int]:
    i, n = map(int, text.split("/"))
    if not 0 <= i < n:
        raise argparse.ArgumentTypeError(f"i/n counts from 0: 0/{n} to {n - 1}/{n}, not {text}")
    return i, n


if __name__ == "__main__":
    main()
