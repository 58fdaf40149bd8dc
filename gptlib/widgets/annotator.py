"""The reader as an annotator: two docstrings, a choice, kept as a line of JSON at once."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import ipywidgets as widgets

from gptlib.alignment.preferences import Comparison

Judge = Callable[[Sequence[Comparison]], Sequence[bool]]  # whether it would have chosen the same


def load_choices(path: str | Path) -> list[Comparison]:
    """Return the choices of a file of JSON lines; a last line that was not written whole is left out.

    Raises ValueError when another line is no choice, naming it.
    """
    path = Path(path)
    *lines, rest = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    choices = [_choice(line) for line in lines]
    if None in choices:
        number = choices.index(None) + 1
        raise ValueError(f"line {number} of {path} is no choice: delete the line, or the file")
    return [choice for choice in (*choices, _choice(rest)) if choice]


def save_choice(path: str | Path, choice: Comparison) -> None:
    """Append a choice to a file, and wait until it is on the disk. What was not written whole goes."""
    with Path(path).open("a+b") as file:
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


class Annotate(widgets.VBox):
    """A panel that shows one pair after the other and keeps what is chosen in `path`.

    `pairs` are (signature, first, second). Pairs that the file has choices for are not asked again, so a
    restart goes on where it stopped. `judges` names others whose agreement with the reader is shown.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str, str]], path: str | Path, judges: dict[str, Judge] | None = None
    ):
        self.path, self.judges = Path(path), judges or {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.choices = load_choices(self.path)
        self.verdicts = {
            name: list(judge(self.choices)) if self.choices else [] for name, judge in self.judges.items()
        }
        done = {(c.signature, frozenset((c.chosen, c.rejected))) for c in self.choices}
        self.to_go = [pair for pair in pairs if (pair[0], frozenset(pair[1:])) not in done]
        self.signature, self.score = widgets.HTML(), widgets.HTML()
        self.options = [widgets.Button(layout={"width": "auto"}) for _ in range(2)]
        for i, button in enumerate(self.options):
            button.on_click(lambda _, i=i: self.choose(i))
        super().__init__([self.signature, *self.options, self.score])
        self._show()

    def choose(self, which: int) -> None:
        """Prefer the first (0) or the second (1) response of the pair that is shown; go on to the next.

        Raises ValueError when all pairs are answered.
        """
        if not self.to_go:
            raise ValueError("all pairs are answered: give the panel more")
        signature, *responses = self.to_go[0]
        choice = Comparison(signature, responses[which], responses[1 - which])
        save_choice(self.path, choice)
        self.choices.append(choice)
        for name, judge in self.judges.items():
            self.verdicts[name] += judge([choice])
        del self.to_go[0]
        self._show()

    def agreement(self) -> dict[str, float]:
        """Return the share of the reader's choices that each judge would have made too."""
        if not self.choices:
            return {}
        return {name: sum(verdicts) / len(verdicts) for name, verdicts in self.verdicts.items()}

    def _show(self) -> None:
        signature, *responses = self.to_go[0] if self.to_go else ("", "", "")
        for button, response in zip(self.options, responses, strict=True):
            button.description, button.disabled = response or "(nothing)", not self.to_go
        title = f"<code>{_plain(signature)}</code>" if self.to_go else "All pairs are answered. Thank you!"
        self.signature.value = f"<b>Which docstring is better?</b> {title}"
        shares = ", ".join(f"{share:.0%} with {name}" for name, share in self.agreement().items())
        told = f"; you agree {shares}" if shares else ""
        self.score.value = f"{len(self.choices)} choices kept, {len(self.to_go)} to go{told}."


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
