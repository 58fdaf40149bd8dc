"""Run notebooks cell by cell on the fake T4, cut short; write what failed, and what was launched, as JSON.

Run by test_notebooks.py and launches.py in a process of its own, since the fake is for the whole process:
run_notebooks.py NOTEBOOK ... prints a line for each.
"""

import fake_t4  # noqa: I001  before torch
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import gptlib.claims
import shorten

HERE = Path(__file__).parent


def run(path: Path) -> dict:
    """Run all code cells of a notebook; return the failures, the launches and where the time went."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    os.chdir(path.parent)
    failures, seconds = [], {}
    before, launched = sum(fake_t4.counts.values()), shorten.account.settle()
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "%pip" in source:
            continue
        began = time.process_time()
        with capture_output():
            result = shell.run_cell(source, store_history=False)
        seconds[number] = round(time.process_time() - began, 1)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            failures.append({"cell": number} | _told(error))
    return {
        "notebook": path.stem,
        "failures": failures,
        "launches": sum(fake_t4.counts.values()) - before,
        "launches uncut": round(shorten.account.settle() - launched),
        "seconds": dict(sorted(seconds.items(), key=lambda pair: -pair[1])[:8]),
    }


def _told(error: BaseException) -> dict:
    """Say what went wrong, and in which lines of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "site-packages" not in f.filename]
    return {"error": f"{type(error).__name__}: {error}"[:400], "at": ours[-5:]}


def main() -> None:
    torch.set_num_threads(1)
    shorten.shorten()
    gptlib.claims._holds = lambda measured, bound: True  # after two steps there is nothing to be claimed
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"GPTLIB_CACHE": cache, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
        for path in [Path(name).resolve() for name in sys.argv[1:]]:
            print(json.dumps(run(path)), flush=True)


if __name__ == "__main__":
    main()
