"""Widgets that work in a notebook and, without a kernel, in the built page: a .py and a .js each."""

from pathlib import Path


def script(module: str) -> str:
    """Return the JavaScript beside a widget's file, with what it imports from parts.js written in.

    A page holds a widget's script as a text, which has no file beside it to import from.
    """
    own, parts = Path(module).with_suffix(".js"), Path(__file__).with_name("parts.js")
    lines = own.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.endswith('from "./parts.js";')]
    return "\n".join([parts.read_text(encoding="utf-8").replace("export ", ""), *kept])
