"""A progress bar that suits where it is shown: a notebook, a terminal, or nowhere."""

import os
import sys
from collections.abc import Iterable

from tqdm.auto import tqdm


class Bar(tqdm):
    """A bar that vanishes where it cannot be printed: what it counts goes on."""

    def display(self, *args, **how) -> None:
        """Show the bar, or show it no more when its terminal, pipe or page is gone."""
        try:
            super().display(*args, **how)
        except (OSError, ValueError):  # a closed pipe or file, an encoding that lacks a letter
            self.disable = True

    def close(self) -> None:
        """Take the bar away."""
        try:
            super().close()
        except (OSError, ValueError):
            self.disable = True


def progress(iterable: Iterable | None = None, **how) -> tqdm:
    """Return a tqdm bar that vanishes when done; `how` are tqdm's arguments.

    With TQDM_DISABLE in the environment there is none, in notebooks too, where tqdm itself does
    not look: so a notebook that is executed for the book keeps no bar among its outputs.
    """
    nowhere = "TQDM_DISABLE" in os.environ or sys.stderr is None
    try:
        return Bar(iterable, leave=False, disable=nowhere, **how)
    except (OSError, ValueError):  # closed before the first look at it
        return Bar(iterable, leave=False, disable=True, **how)


def say(text: str) -> None:
    """Print a line, with ? for letters that a terminal lacks; a pipe that was closed stops nothing."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except (OSError, ValueError, AttributeError):  # closed, or a program without a terminal
        sys.stdout = None  # print is then silent, and Python flushes nothing when it ends
