"""Execute notebooks in place, at this machine's budget: `make notebooks`."""

import argparse
import asyncio
import base64
import os
import platform
import sys
import time
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gptlib.budget import Budget

CELL_LIMIT = 1800  # seconds
STATIC = Path(__file__).parents[1] / "book" / "_static"


def execute(path: Path) -> float:
    """Run a notebook in its own folder, store its outputs; return the minutes.

    The file is replaced, and its pictures for other pages are, only when every
    cell has run. Raises CellExecutionError where one fails.
    """
    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=CELL_LIMIT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    minutes = (time.perf_counter() - began) / 60
    budget = Budget.detect()
    notebook.metadata["gptlib"] = {
        "minutes": round(minutes, 1),
        "budget": budget.name,
        "device": budget.describe(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    temporary = path.with_suffix(".partial")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    for name, image in pictures(notebook).items():
        (STATIC / f"{name}.png").write_bytes(image)
    return minutes


def pictures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """Return the figures for other pages, by name: metadata gptlib.picture."""
    return {
        cell.metadata["gptlib"]["picture"]: base64.b64decode(
            output.data["image/png"]
        )
        for cell in notebook.cells
        if "picture" in cell.metadata.get("gptlib", {})
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }


def main() -> None:
    """Execute the notebooks named, and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    rows = []
    for path in parser.parse_args().notebooks:
        if not path.is_file():
            sys.exit(f"there is no notebook {path}: NB=01_babygpt names one")
        print(f"executing {path} ...", flush=True)
        try:
            rows.append((path.stem, f"{execute(path):.1f}"))
        except CellExecutionError as error:
            sys.exit(f"{path} failed, and is left as it was:\n{error}")
    print(f"\n{'notebook':30} minutes ({Budget.detect().describe()})")
    for name, minutes in rows:
        print(f"{name:30} {minutes:>7}")


if __name__ == "__main__":
    if sys.platform == "win32":  # the kernel's sockets need it
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    main()
