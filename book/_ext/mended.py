"""Sphinx: mend what the theme, MyST-NB and Sphinx leave: markup that shuts readers out, heavy pictures."""

from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx

COLOURS = 256  # a third of the bytes, and no difference to the eye in a plot
MARKUP = {
    # A folded cell is named by the words that one sees.
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # A table that scrolls can be scrolled with the keyboard.
    'class="pst-scrollable-table-container"': 'class="pst-scrollable-table-container" tabindex="0"',
    # A list has entries.
    'role="doc-biblioentry"': 'role="listitem"',
    # The parameters of a long signature are definitions without terms.
    '<dl>\n<dd><em class="sig-param">': '<dl role="none">\n<dd><em class="sig-param">',
}


def mend(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Write better markup into a page."""
    for written, better in MARKUP.items():
        context["body"] = context.get("body", "").replace(written, better)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Reduce each figure of the built site to a palette."""
    if error or app.builder.format != "html":
        return
    for path in (Path(app.outdir) / "_images").glob("*.png"):
        with Image.open(path) as image:
            if image.mode == "P":
                continue  # done by an earlier build
            reduced = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        reduced.save(path)


def setup(app: Sphinx) -> dict:
    """Register the two hooks."""
    app.connect("html-page-context", mend)
    app.connect("build-finished", lighten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
