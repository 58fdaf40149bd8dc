"""Print what each chapter launches on a T4, uncut, and for how many minutes: python tests/gpu/launches.py

Why it exists: no T4 is at hand to be timed. Small models are bound by kernel launches there, so an estimate
is their number times MICROSECONDS; what the CPU does between them (texts, fits, figures) is not in it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MICROSECONDS = 30  # a launch, with Python's share


def main() -> None:
    """Run every chapter, cut short, on the fake T4; count each launch as often as it stands for."""
    command = [sys.executable, "-W", "ignore", HERE / "run_notebooks.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    print(f"{'chapter':26} {'launches':>10} {'minutes at ' + str(MICROSECONDS) + ' microseconds':>28}")
    for path in sys.argv[1:] or sorted((ROOT / "notebooks").glob("0*.ipynb")):
        ran = subprocess.run([*command, path], env=environment, capture_output=True, text=True, check=True)
        row = json.loads(ran.stdout)
        minutes = row["launches uncut"] * MICROSECONDS / 60e6
        print(f"{row['notebook']:26} {row['launches uncut']:10,} {minutes:28.1f}", flush=True)


if __name__ == "__main__":
    main()
