"""Run a notebook's set-up cell, read from standard input, twice in the environment that runs this file.

The last line printed is JSON: how often the cell had called the shell after each run, and what is then there.
"""

import importlib
import json
import pkgutil
import sys
from importlib.metadata import version
from importlib.resources import files

from IPython.core.interactiveshell import InteractiveShell

WANT_EXTRAS = ("gptlib.onnx_export",)  # what Colab does not have


def run_twice(cell: str) -> list[int]:
    """Return how many shell commands the cell has given after its first and after its second run."""
    shell, given, counts = InteractiveShell.instance(), [], []
    system = shell.system
    shell.system = lambda command: given.append(command) or system(command)
    for _ in range(2):
        shell.run_cell(cell).raise_error()
        counts.append(len(given))
    return counts


def found() -> dict:
    """Import every module of gptlib and read every recorded table."""
    import pandas

    import gptlib

    modules = [module.name for module in pkgutil.walk_packages(gptlib.__path__, "gptlib.")]
    for module in modules:
        if module not in WANT_EXTRAS:
            importlib.import_module(module)
    tables = [path for path in (files("gptlib") / "recorded").iterdir() if path.name.endswith(".csv")]
    return {
        "gptlib": gptlib.__file__,
        "modules": modules,
        "rows": {path.name: len(pandas.read_csv(path)) for path in tables},
        "torch": version("torch"),
    }


if __name__ == "__main__":
    print(json.dumps({"commands": run_twice(sys.stdin.read()), **found()}))
