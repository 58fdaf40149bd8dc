"""`make nbval` starts the longest notebooks first.

Run side by side, they then end at about the same time, and no core is idle.
"""

import json
from functools import cache
from pathlib import Path


@cache
def minutes(path: Path) -> float:
    """Return how long a notebook took when its outputs were made."""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("gptlib", {}).get("minutes", 0.0)


def pytest_collection_modifyitems(items):
    """Sort notebooks by their minutes; cells stay in their order."""
    items.sort(key=lambda item: minutes(item.path), reverse=True)
