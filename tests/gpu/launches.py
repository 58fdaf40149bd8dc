"""Print what each chapter launches on a T4, uncut, and for how many minutes: python tests/gpu/launches.py

Why it exists: no T4 is at hand to be timed. Small models are bound by kernel launches there, so an estimate
is their number times what one takes; what the CPU does between them (texts, fits, figures) is not in it. The
table is that of book/how-to.md; give notebooks to count these alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MICROSECONDS = (30, 60)  # a launch, with Python's share: from, to


def main() -> None:
    """Run every chapter, cut short, on the fake T4; count each launch as often as it stands for."""
    command = [sys.executable, "-W", "ignore", HERE / "run_notebooks.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    environment.pop("GPTLIB_BUDGET", None)
    print("| chapter | launches | " + " | ".join(f"minutes at {n} µs" for n in MICROSECONDS) + " |")
    print("| --- | ---: | ---: | ---: |")
    for path in sys.argv[1:] or sorted((ROOT / "notebooks").glob("0*.ipynb")):
        ran = subprocess.run([*command, path], env=environment, capture_output=True, text=True, check=True)
        row = json.loads(ran.stdout)
        minutes = [f"{row['launches uncut'] * n / 60e6:.1f}" for n in MICROSECONDS]
        print("|", " | ".join([row["notebook"], f"{row['launches uncut']:,}", *minutes]), "|", flush=True)


if __name__ == "__main__":
    main()
