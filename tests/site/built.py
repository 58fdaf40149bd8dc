"""Where the built book is, and which pages it has."""

import os
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("GPT_MEASURED_SITE", ROOT / "_build" / "html"))  # another folder, while one writes


def toc() -> list[str]:
    """Return the documents of _toc.yml in reading order, as paths without an ending."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [contents["root"], *_files(contents.get("parts", []))]


def _files(entries: list[dict]) -> list[str]:
    files = []
    for entry in entries:
        files += [entry["file"]] if "file" in entry else []
        files += _files(entry.get("chapters", []) + entry.get("sections", []))
    return files
