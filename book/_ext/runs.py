"""Sphinx: say which run made the outputs of a chapter, below its title and in the directive `run-table`.

`make notebooks` writes the minutes, the device and the versions into a notebook's metadata.
"""

import html
import json
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri
from tables import table

COLUMNS = ("Chapter", "Minutes", "Budget", "Device", "Python", "PyTorch")
HOW_TO = "book/how-to"
logger = logging.getLogger(__name__)


@cache
def read_run(notebook: Path) -> tuple[str, dict | None, bool]:
    """Return a notebook's title, the run that made its outputs, and whether it has any."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    title = "".join(content["cells"][0]["source"]).split("\n")[0].lstrip("# ")
    has_outputs = any(cell.get("outputs") for cell in content["cells"])
    return title, content["metadata"].get("gptlib"), has_outputs


def notebooks(env) -> list[str]:
    """Return the documents that are notebooks, in their order."""
    return [name for name in sorted(env.found_docs) if env.doc2path(name).endswith(".ipynb")]


class RunTable(SphinxDirective):
    """The time that each chapter took, a row each, and the sum."""

    def run(self) -> list[nodes.Node]:
        """Read the notebooks of the book that say which run made them."""
        self.env.note_reread()  # a notebook may be new, or run again
        rows, total = [], 0.0
        for docname in notebooks(self.env):
            title, made_by, _ = read_run(Path(self.env.doc2path(docname)))
            if not made_by:
                continue
            page = relative_uri(self.env.docname + ".html", docname + ".html")
            link = nodes.reference("", title, refuri=page, internal=True)
            about = (made_by["budget"], made_by["device"], made_by["python"], made_by["torch"])
            rows.append((link, f"{made_by['minutes']:.1f}", *about))
            total += made_by["minutes"]
        rows.append(("All chapters", f"{total:.1f}", "", "", "", ""))
        return [table(COLUMNS, rows, "run-table")]


def say_what_made_it(app: Sphinx, doctree: nodes.document) -> None:
    """Put a line below the title of a notebook's page; warn of outputs whose run is not known."""
    docname = app.env.docname
    if docname not in notebooks(app.env):
        return
    _, made_by, has_outputs = read_run(Path(app.env.doc2path(docname)))
    if has_outputs and not made_by:
        logger.warning("its outputs do not say which run made them: run `make notebooks`", location=docname)
    line = nodes.paragraph(classes=["run-line"])
    if made_by:
        line += nodes.Text(
            f"Outputs of this page: {made_by['minutes']:g} minutes on {made_by['device']}, "
            f"Python {made_by['python']}, torch {made_by['torch']}. "
        )
    line += [how_to(docname), nodes.Text(" · "), colab(app, docname), nodes.Text(" · "), download(docname)]
    title = doctree.next_node(nodes.title)
    title.parent.insert(title.parent.index(title) + 1, line)


def how_to(docname: str) -> nodes.Node:
    """Return a link to the page on running, which the build checks."""
    target = dict(refdomain="std", reftype="doc", reftarget=f"/{HOW_TO}", refexplicit=True, refwarn=True)
    return addnodes.pending_xref("", nodes.inline("", "How to run it"), refdoc=docname, **target)


def colab(app: Sphinx, docname: str) -> nodes.Node:
    """Return the link that opens a notebook of the repository on Colab, as the theme's button does."""
    options = app.config.html_theme_options
    owner, repository = options["repository_url"].rstrip("/").split("/")[-2:]
    place = f"{owner}/{repository}/blob/{options['repository_branch']}/{docname}.ipynb"
    address = f"{options['launch_buttons']['colab_url']}/github/{place}"
    return nodes.reference("", "Open in Colab", refuri=address)


def download(docname: str) -> nodes.Node:
    """Return a link to the notebook itself, which Sphinx copies into the site as the page's source."""
    address = html.escape(relative_uri(f"{docname}.html", f"_sources/{docname}.ipynb"))
    return nodes.raw("", f'<a href="{address}" download>Download the notebook</a>', format="html")


def setup(app: Sphinx) -> dict:
    """Register the directive and the hook."""
    app.add_directive("run-table", RunTable)
    app.connect("doctree-read", say_what_made_it)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
