"""Sphinx: the directive `claims-ledger`, a table of every claim that the committed notebooks check."""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

MIMETYPE = "application/vnd.gptlib.claim+json"
COLUMNS = ("Claim", "Source says", "Measured", "Bound", "Seeds", "Run", "Device")
logger = logging.getLogger(__name__)


def read_claims(notebook: Path) -> tuple[str, list[dict]]:
    """Return the title of a notebook, and its claims in the order of its cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    claims = [output["data"][MIMETYPE] for output in outputs if MIMETYPE in output.get("data", {})]
    return "".join(cells[0]["source"]).split("\n")[0].lstrip("# "), claims


def bound_in_words(bound: dict) -> str:
    """Say what the measured number had to be."""
    if "equals" in bound:
        return f"{bound['equals']:.4g} ± {bound['tolerance']:.2g}"
    ((kind, value),) = bound.items()
    return f"{kind.replace('_', ' ')} {value:.4g}"


def holds(claim: dict) -> bool:
    """Check a claim again, from what the notebook stored."""
    measured, bound = claim["measured"], claim["bound"]
    if "equals" in bound:
        return abs(measured - bound["equals"]) <= bound["tolerance"]
    return bound.get("at_least", measured) <= measured <= bound.get("at_most", measured)


class ClaimsLedger(SphinxDirective):
    """One table a notebook, a row a claim; its text links to the cell that measures it."""

    def run(self) -> list[nodes.Node]:
        """Read the notebooks in the table of contents; warn of a claim made twice or that does not hold."""
        seen, tables = set(), []
        for docname in sorted(self.env.found_docs):
            path = Path(self.env.doc2path(docname))
            if path.suffix != ".ipynb":
                continue
            self.env.note_dependency(str(path))
            title, claims = read_claims(path)
            for claim in claims:
                if claim["id"] in seen:
                    logger.warning("the claim %r is made twice", claim["id"], location=docname)
                if not holds(claim):
                    logger.warning("the claim %r does not hold", claim["id"], location=docname)
                seen.add(claim["id"])
            if claims:
                tables.append(self.table(docname, title, claims))
        return tables

    def table(self, docname: str, title: str, claims: list[dict]) -> nodes.Node:
        """Return the table of one notebook."""
        group = nodes.tgroup(cols=len(COLUMNS))
        group += [nodes.colspec(colwidth=1) for _ in COLUMNS]
        head, body = nodes.thead(), nodes.tbody()
        head += self.row(COLUMNS)
        body += [self.row(self.entries(docname, claim)) for claim in claims]
        group += [head, body]
        return nodes.table("", nodes.title(text=title), group, classes=["claims-ledger"])

    def row(self, entries) -> nodes.row:
        """Return a table row of texts or inline nodes."""
        row = nodes.row()
        for entry in entries:
            content = nodes.Text(entry) if isinstance(entry, str) else entry
            row += nodes.entry("", nodes.paragraph("", "", content))
        return row

    def entries(self, docname: str, claim: dict) -> tuple:
        """Return a claim's cells, in the order of COLUMNS."""
        page = relative_uri(self.env.docname + ".html", docname + ".html")
        link = nodes.reference("", claim["text"], refuri=f"{page}#claim-{claim['id']}", internal=True)
        seeds = ", ".join(map(str, claim["seeds"])) if claim["seeds"] else "none needed"
        return (
            link,
            claim["source"] or "our own",
            f"{claim['measured']:.4g} {claim['unit']}".strip(),
            bound_in_words(claim["bound"]),
            seeds,
            "recorded" if claim["recorded"] else "live",
            claim["device"],
        )


def always_outdated(app: Sphinx, env, added, changed, removed) -> list[str]:
    """Read the ledger again whenever a notebook was read again."""
    notebooks = {name for name in added | changed | removed if name.startswith("notebooks/")}
    return ["book/claims"] if notebooks and "book/claims" in env.found_docs else []


def setup(app: Sphinx) -> dict:
    """Register the directive."""
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("env-get-outdated", always_outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
