"""What a training run leaves behind: its losses, and what each had cost."""

import math
from dataclasses import astuple, dataclass, field, replace

import torch
from torch import Tensor


class Interrupted(UserWarning):
    """A reader has stopped a training, which returns what it has done so far."""


@dataclass(frozen=True)
class Record:
    """One loss and what had been spent when it was measured."""

    step: int  # updates done, that of this loss included
    tokens: int  # training tokens read
    flops: float  # spent in training, in matrix products
    seconds: float  # spent in training, evaluation and checkpoints left out
    loss: float  # nats per token: mean over the batch, or over the validation tokens read
    lr_factor: float  # the learning rate, as a share of its peak


@dataclass
class History:
    """The losses of a run: `train` at every step, `validation` where it was measured."""

    train: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    interrupted: bool = False  # stopped by the reader before its last step

    @property
    def final(self) -> Record:
        """The last validation: over the whole validation text, unless the run was interrupted."""
        return self.validation[-1]

    def finished(self) -> "History":
        """Return this history of a whole run. Raises KeyboardInterrupt, as the reader did, for a part."""
        if self.interrupted:
            done = self.train[-1].step if self.train else 0
            raise KeyboardInterrupt(f"stopped after step {done}: part of a run is not kept as its result")
        return self

    def as_rows(self) -> dict[str, list]:
        """Return plain lists of numbers, for JSON."""
        return {"train": [*map(astuple, self.train)], "validation": [*map(astuple, self.validation)]}

    def then(self, after: "History") -> "History":
        """Return this history and that of a run that went on from its model, as one."""
        spent = self.train[-1]

        def later(record: Record) -> Record:
            names = ("step", "tokens", "flops", "seconds")
            return replace(record, **{name: getattr(record, name) + getattr(spent, name) for name in names})

        return History(
            self.train + [later(record) for record in after.train],
            self.validation + [later(record) for record in after.validation],
            after.interrupted,
        )

    @classmethod
    def from_rows(cls, rows: dict[str, list]) -> "History":
        """Return the history that `as_rows` told."""
        return cls([Record(*row) for row in rows["train"]], [Record(*row) for row in rows["validation"]])


def steps_between_looks(device: torch.device) -> int:
    """Return how many steps go by between two looks at the losses: every look lets a GPU run dry."""
    return 1 if device.type == "cpu" else 10


class Watched:
    """Numbers of a run's steps, () each, that a device may still be working on: read a few steps at once."""

    def __init__(self, remedy: str = "lower the learning rate"):
        self.rows: list[dict[str, float]] = []  # a row a step
        self._waiting: list[dict[str, Tensor]] = []
        self._remedy = remedy

    def add(self, **values: Tensor) -> None:
        """Take a step's numbers. Raises ValueError, naming the step, when one of them is not finite.

        That may come some steps late on a GPU, and comes at the end at the latest: see `read`.
        """
        self._waiting.append({name: value.detach() for name, value in values.items()})
        if len(self._waiting) >= steps_between_looks(next(iter(values.values())).device):
            self.read()

    def read(self) -> list[dict[str, float]]:
        """Wait for all numbers; return a row a step. Raises ValueError when one of them is not finite."""
        if not self._waiting:
            return self.rows
        names = list(self._waiting[0])
        table = torch.stack([torch.stack([row[name] for name in names]) for row in self._waiting]).tolist()
        self._waiting.clear()
        for values in table:
            for name, value in zip(names, values, strict=True):
                if not math.isfinite(value):
                    raise ValueError(f"the {name} is {value} at step {len(self.rows) + 1}: {self._remedy}")
            self.rows.append(dict(zip(names, values, strict=True)))
        return self.rows
