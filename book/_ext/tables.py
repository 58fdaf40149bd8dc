"""Sphinx: a table of docutils nodes from rows of texts and inline nodes."""

from collections.abc import Iterable, Sequence

from docutils import nodes


def table(columns: Sequence[str], rows: Iterable[Sequence[str | nodes.Node]], kind: str, title: str = ""):
    """Return a table with a head; `kind` is its class in the page, `title` its caption, if any."""
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(columns)
    body += [_row(entries) for entries in rows]
    group += [head, body]
    caption = [nodes.title(text=title)] if title else []
    return nodes.table("", *caption, group, classes=[kind])


def _row(entries: Sequence[str | nodes.Node]) -> nodes.row:
    row = nodes.row()
    for entry in entries:
        content = nodes.Text(entry) if isinstance(entry, str) else entry
        row += nodes.entry("", nodes.paragraph("", "", content))
    return row
