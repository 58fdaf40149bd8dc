"""Run every benchmark, one after the other, and write what they say into RESULTS.md: `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = ("time_to_loss", "training_step", "sampling", "gpu_utilisation", "grading_a_class")
HEAD = """# Benchmarks

Written by `make bench`: what each script in this folder printed, on the machine that its section names,
contestants in turn, each turn in a fresh process. A figure is the median, with the least and the greatest
in brackets.
"""


def table(line: dict) -> str:
    """Turn the JSON line of a benchmark into a section of Markdown."""
    text = f"\n## {line['what'][0].upper()}{line['what'][1:]}\n"
    if "open" in line["figures"]:
        return f"{text}\nOpen: {line['figures']['open']}. Target: {line['figures']['target']}.\n"
    for row in line["figures"]:
        verdict = f"**{row['ratio']:.2f}** (target: {row['target']})"
        text += f"\n{row['case'][0].upper()}{row['case'][1:]}: {verdict}\n"
        contestants = {name: found for name, found in row.items() if isinstance(found, dict)}
        keys = list(next(iter(contestants.values())))
        text += f"\n| | {' | '.join(_heading(key, row) for key in keys)} |\n| --- |{' --- |' * len(keys)}\n"
        for name, found in contestants.items():
            text += f"| {name} | {' | '.join(_cell(found[key]) for key in keys)} |\n"
    versions = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
    return f"{text}\n{line['repeats'].capitalize()}. {line['device']}; {versions}.\n"


def _heading(key: str, row: dict) -> str:
    return {"value": row.get("unit", ""), "peak_mb": "peak memory, MB"}.get(key, key)


def _cell(found: dict) -> str:
    return f"{found['median']:.4g} [{found['spread'][0]:.4g}, {found['spread'][1]:.4g}]"


def main() -> None:
    text = HEAD
    for script in SCRIPTS:
        print(f"{script} ...", file=sys.stderr, flush=True)
        ran = subprocess.run(
            [sys.executable, HERE / f"{script}.py"], stdout=subprocess.PIPE, text=True, check=True
        )
        print(ran.stdout, end="", flush=True)
        text += table(json.loads(ran.stdout))
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
