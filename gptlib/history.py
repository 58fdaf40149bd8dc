"""What a training run leaves behind: its losses, and what each had cost."""

from dataclasses import astuple, dataclass, field


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

    @classmethod
    def from_rows(cls, rows: dict[str, list]) -> "History":
        """Return the history that `as_rows` told."""
        return cls([Record(*row) for row in rows["train"]], [Record(*row) for row in rows["validation"]])
