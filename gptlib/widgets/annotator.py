"""The reader as an annotator: two docstrings, a choice, kept as a line of JSON at once."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import anywidget
import traitlets

from gptlib.alignment.preferences import Comparison
from gptlib.files import expanded
from gptlib.widgets import script

Judge = Callable[[Sequence[Comparison]], Sequence[bool]]  # whether it would have chosen the same


def load_choices(path: str | Path) -> list[Comparison]:
    """Return the choices of a file of JSON lines; a last line that was not written whole is left out.

    Raises ValueError when another line is no choice, naming it.
    """
    path = expanded(path)
    *lines, rest = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    choices = [_choice(line) for line in lines]
    if None in choices:
        number = choices.index(None) + 1
        raise ValueError(f"line {number} of {path} is no choice: delete the line, or the file")
    return [choice for choice in (*choices, _choice(rest)) if choice]


def save_choice(path: str | Path, choice: Comparison) -> None:
    """Append a choice to a file, and wait until it is on the disk. What was not written whole goes."""
    with expanded(path).open("a+b") as file:
        file.seek(0)
        text = file.read()
        _, _, rest = text.rpartition(b"\n")
        if rest and _choice(rest.decode(errors="replace")):
            file.write(b"\n")
        elif rest:
            file.truncate(len(text) - len(rest))
        file.write(json.dumps(asdict(choice)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _choice(line: str) -> Comparison | None:
    try:
        return Comparison(**json.loads(line))
    except (ValueError, TypeError):
        return None


class Annotate(anywidget.AnyWidget):
    """A panel that shows one pair after the other and keeps what is chosen in `path`.

    `pairs` are (signature, first, second). Pairs that the file has choices for are not asked again, so a
    restart goes on where it stopped. `judges` names others whose agreement with the reader is shown; they
    judge every pair at the start, so that a page without a kernel can say it too.
    """

    _esm = script(__file__)
    pairs = traitlets.List().tag(sync=True)  # still to be asked
    chosen = traitlets.List().tag(sync=True)  # 0 or 1, of each of them that is answered
    kept = traitlets.Int().tag(sync=True)  # choices that the file had before
    judges = traitlets.List().tag(sync=True)  # names
    agreed = traitlets.List().tag(sync=True)  # [judge]: with how many of the kept choices
    agrees = traitlets.List().tag(sync=True)  # [judge][pair]: whether with the first, with the second

    def __init__(
        self, pairs: Sequence[tuple[str, str, str]], path: str | Path, judges: dict[str, Judge] | None = None
    ):
        self.path, judges = expanded(path), judges or {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.choices = load_choices(self.path)
        done = {(c.signature, frozenset((c.chosen, c.rejected))) for c in self.choices}
        to_go = [list(pair) for pair in pairs if (pair[0], frozenset(pair[1:])) not in done]
        orders = [[Comparison(s, a, b) for s, a, b in to_go], [Comparison(s, b, a) for s, a, b in to_go]]
        super().__init__(
            pairs=to_go,
            kept=len(self.choices),
            judges=list(judges),
            agreed=[sum(_verdicts(judge, self.choices)) for judge in judges.values()],
            agrees=[
                [list(both) for both in zip(*(_verdicts(judge, order) for order in orders), strict=True)]
                for judge in judges.values()
            ],
        )

    def choose(self, which: int) -> None:
        """Prefer the first (0) or the second (1) response of the pair that is shown; go on to the next.

        Raises ValueError when all pairs are answered.
        """
        if len(self.chosen) == len(self.pairs):
            raise ValueError("all pairs are answered: give the panel more")
        self.chosen = [*self.chosen, which]

    @traitlets.observe("chosen")
    def _keep(self, change: dict) -> None:
        """Keep what was chosen, here or in the panel, since the last time."""
        for i in range(len(self.choices) - self.kept, len(change["new"])):
            signature, *responses = self.pairs[i]
            which = change["new"][i]
            choice = Comparison(signature, responses[which], responses[1 - which])
            save_choice(self.path, choice)
            self.choices.append(choice)


def _verdicts(judge: Judge, choices: list[Comparison]) -> list[bool]:
    return [bool(verdict) for verdict in judge(choices)] if choices else []
