"""Make each call on the fake Apple GPU; write what failed, as JSON. For test_mps.py, in its own process."""

import fake_mps  # noqa: F401, I001  before torch
import json
import os
import traceback
from pathlib import Path

import torch

import calls
from gptlib import budget


def fault(call) -> str:
    """Make a call for two steps; say what is wrong, or nothing."""
    try:
        call(2)
    except Exception as error:
        at = [f for f in traceback.extract_tb(error.__traceback__) if "gptlib" in f.filename]
        where = f"{Path(at[-1].filename).name}:{at[-1].lineno}" if at else "no line of gptlib"
        return f"{type(error).__name__} at {where}: {error}"[:500]
    return ""


def main() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    if hasattr(budget, "computes_as_the_cpu"):  # values are what is not there
        budget.computes_as_the_cpu = lambda device: True
    found = {"faults": {name: fault(call) for name, call in calls.CALLS.items()}}
    for asked in ("", "cpu"):
        os.environ["GPTLIB_BUDGET"] = asked
        weight = calls.on_device(calls.gpt()).head.weight
        found[asked or "detected"] = [budget.Budget.detect().name, weight.device.type]
    found["seen"] = fault(lambda _: torch.ones(2, device="mps") + torch.ones(2))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
