"""Sphinx: give the figures in notebooks the alternative text and the width they were shown with.

`gptlib.plots.show` stores both beside the image, where Jupyter looks for them. MyST-NB reads them
from the cell instead, so they are copied there before a notebook is parsed.
"""

import json

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def describe(app: Sphinx, docname: str, source: list[str]) -> None:
    """Copy alt and width from each image output to its cell; warn of an image that has no alt."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            image = output.get("metadata", {}).get("image/png", {})
            if not image.get("alt"):
                logger.warning(
                    "a figure has no alternative text: show it with gptlib.plots.show", location=docname
                )
                continue
            options = {"alt": image["alt"]}
            if "width" in image:
                options["width"] = f"{image['width']}px"
            cell.setdefault("metadata", {}).setdefault("mystnb", {})["image"] = options
    source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict:
    """Register the hook."""
    app.connect("source-read", describe)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
