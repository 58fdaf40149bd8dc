"""Claims that check themselves: the text, the number behind it, and the bound it must meet.

A claim raises where it fails, so that a run which no longer shows an effect stops there. Where it
holds, it leaves one line for the reader and one record for the ledger (book/claims).
"""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from IPython.display import display

from gptlib.budget import Budget

MIMETYPE = "application/vnd.gptlib.claim+json"


@dataclass(frozen=True)
class Claim:
    """One checked claim, as the ledger reads it."""

    id: str  # unique in the book: the ledger links to it
    text: str
    measured: float
    bound: dict[str, float]  # at_least, at_most, or equals with tolerance
    unit: str
    source: str | None  # what the lecture or the paper says, with its reference
    seeds: list[int] | None
    recorded: bool  # measured in an earlier, larger run, not in this one
    device: str

    def bound_in_words(self) -> str:
        """Say what the measured number has to be."""
        if "equals" in self.bound:
            return f"should be {self.bound['equals']:.4g} within {self.bound['tolerance']:.2g}"
        kind, value = next(iter(self.bound.items()))
        return f"{kind.replace('_', ' ')} {value:.4g}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        unit = f" {self.unit}" if self.unit else ""
        line = f"{self.text}: measured {self.measured:.4g}{unit} ({self.bound_in_words()})"
        body = (
            f'<div class="claim" id="claim-{html.escape(self.id)}"><span class="claim-mark">&#10003;</span> '
            f"{html.escape(self.text)}: <b>{self.measured:.4g}{html.escape(unit)}</b> "
            f'<span class="claim-bound">({self.bound_in_words()})</span></div>'
        )
        return {"text/plain": f"\u2713 {line}", "text/html": body, MIMETYPE: asdict(self)}


def claim(
    id: str,
    text: str,
    measured: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    equals: float | None = None,
    tolerance: float | None = None,
    unit: str = "",
    source: str | None = None,
    seeds: Sequence[int] | None = None,
    recorded: bool = False,
) -> None:
    """Check a measured number against one bound, and show the claim.

    Give exactly one of `at_least`, `at_most`, `equals`; `tolerance`, absolute, goes with `equals`.
    Raises AssertionError when the bound is not met or the number is not finite, ValueError when no
    bound, or more than one, is given.
    """
    bounds = {"at_least": at_least, "at_most": at_most, "equals": equals}
    bound = {kind: float(value) for kind, value in bounds.items() if value is not None}
    if len(bound) != 1 or ("equals" in bound) != (tolerance is not None):
        raise ValueError("a claim has one bound: at_least, at_most, or equals together with its tolerance")
    if tolerance is not None:
        bound["tolerance"] = float(tolerance)
    seeds = None if seeds is None else list(seeds)
    device = Budget.detect().describe()
    made = Claim(id, text, float(measured), bound, unit, source, seeds, recorded, device)
    if not _holds(made.measured, bound):
        raise AssertionError(
            f"claim {id!r} fails: {text}: measured {made.measured:.6g}, {made.bound_in_words()}"
        )
    display(made)


def _holds(measured: float, bound: dict[str, float]) -> bool:
    if not math.isfinite(measured):
        return False
    if "equals" in bound:
        return abs(measured - bound["equals"]) <= bound["tolerance"]
    return measured >= bound.get("at_least", -math.inf) and measured <= bound.get("at_most", math.inf)
