"""Sphinx: let autodoc write the signatures of dataclasses whose fields are made anew for each object.

Python shows such a default as `<factory>`, which Sphinx cannot parse, and then prints whole paths of types.
"""

from sphinx.application import Sphinx


def parseable(app: Sphinx, what, name, obj, options, arguments: str | None, returned: str | None):
    """Write an ellipsis for what a factory makes."""
    return arguments and arguments.replace("<factory>", "..."), returned


def setup(app: Sphinx) -> dict:
    """Register the hook."""
    app.connect("autodoc-process-signature", parseable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
