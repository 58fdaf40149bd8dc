"""Sphinx: the directive `claims-ledger`, a table of every claim that the committed notebooks check, and
the role `claim`, the number that one of them measured.
"""

import json
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.osutil import relative_uri
from tables import table

MIMETYPE = "application/vnd.gptlib.claim+json"
COLUMNS = ("Claim", "Source says", "Measured", "Bound", "Seeds", "Run", "Device")
logger = logging.getLogger(__name__)


@cache
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


def number(claim: dict, digits: int) -> str:
    """Write the measured number with its unit."""
    return f"{claim['measured']:.{digits}g} {claim['unit']}".strip()


def link_to(env, docname: str, claim: dict, text: str) -> nodes.reference:
    """Return a link from the page being read to the cell of a notebook that makes a claim."""
    page = relative_uri(env.docname + ".html", docname + ".html")
    return nodes.reference("", text, refuri=f"{page}#claim-{claim['id']}", internal=True)


class ClaimsLedger(SphinxDirective):
    """One table a notebook, a row a claim; its text links to the cell that measures it."""

    def run(self) -> list[nodes.Node]:
        """Read the notebooks in the table of contents; warn of a claim made twice or that does not hold."""
        self.env.note_reread()  # a notebook may be new, or run again
        seen, tables = set(), []
        for docname in sorted(self.env.found_docs):
            path = Path(self.env.doc2path(docname))
            if path.suffix != ".ipynb":
                continue
            title, claims = read_claims(path)
            for claim in claims:
                if claim["id"] in seen:
                    logger.warning("the claim %r is made twice", claim["id"], location=docname)
                if not holds(claim):
                    logger.warning("the claim %r does not hold", claim["id"], location=docname)
                seen.add(claim["id"])
            if claims:
                rows = [self.entries(docname, claim) for claim in claims]
                tables.append(table(COLUMNS, rows, "claims-ledger", title))
        return tables

    def entries(self, docname: str, claim: dict) -> tuple:
        """Return a claim's cells, in the order of COLUMNS."""
        link = link_to(self.env, docname, claim, claim["text"])
        seeds = ", ".join(map(str, claim["seeds"])) if claim["seeds"] else "none needed"
        return (
            link,
            claim["source"] or "our own",
            number(claim, 4),
            bound_in_words(claim["bound"]),
            seeds,
            "recorded" if claim["recorded"] else "live",
            claim["device"],
        )


class ClaimRole(SphinxRole):
    """The number that a claim measured, read from its notebook at build time, as a link to its cell."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Find the claim named; warn where no notebook of the book makes it."""
        self.env.note_reread()  # its notebook may have been run again
        for docname in sorted(self.env.found_docs):
            path = Path(self.env.doc2path(docname))
            for claim in read_claims(path)[1] if path.suffix == ".ipynb" else ():
                if claim["id"] == self.text:
                    return [link_to(self.env, docname, claim, number(claim, 3))], []
        logger.warning("no notebook makes the claim %r", self.text, location=self.get_location())
        return [nodes.literal("", self.text)], []


def setup(app: Sphinx) -> dict:
    """Register the directive and the role."""
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_role("claim", ClaimRole())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
