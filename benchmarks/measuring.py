"""What every benchmark does alike: contestants take turns in fresh processes; one JSON line comes out.

A fresh process for every turn makes peak memory a contestant's own, and taking turns spreads whatever
else the machine is doing over both.
"""

import importlib.metadata
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from gptlib.budget import Budget

PACKAGES = ("torch", "transformers", "numpy")


def median_seconds(call: Callable[[], object], repeats: int, warmup: int = 2) -> float:
    """Return the median of some timed calls, after some that are not counted."""
    seconds = []
    for _ in range(warmup + repeats):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[warmup:])


def peak_megabytes() -> float:
    """Return the most memory this process has held, in MB: on the GPU where there is one, else in all."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # what the system counts in, bytes or kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def take_turns(contestants: dict[str, tuple], turns: int) -> dict[str, dict]:
    """Run each contestant, a function and its arguments, as often as `turns`, one at a time.

    The number of the turn is its last argument, a seed. It returns a number, or several by name.
    Returns for each of these, by contestant, the median and the spread (least and greatest), and so
    for the peak memory in MB.
    """
    found: dict[str, list] = {name: [] for name in contestants}
    for turn in range(turns):
        for name, call in contestants.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found[name].append(process.submit(_turn, *call, turn).result())
            print(f"  {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return {name: _summary(rows) for name, rows in found.items()}


def report(what: str, figures: list[dict] | dict, repeats: str, **more) -> None:
    """Print the one JSON line of a benchmark."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    line = {"what": what, "figures": figures, "repeats": repeats, "device": Budget.detect().describe()}
    print(json.dumps(line | {"versions": versions} | more))


def _turn(function: Callable, *arguments) -> dict[str, float]:
    value = function(*arguments)
    return (value if isinstance(value, dict) else {"value": value}) | {"peak_mb": peak_megabytes()}


def _summary(rows: list[dict[str, float]]) -> dict:
    summary = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        summary[key] = {"median": statistics.median(values), "spread": [min(values), max(values)]}
    return summary
