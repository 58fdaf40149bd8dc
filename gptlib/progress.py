"""A progress bar that suits where it is shown: a notebook, a terminal, or nowhere."""

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress(iterable: Iterable | None = None, **how) -> tqdm:
    """Return a tqdm bar that vanishes when done; `how` are tqdm's arguments.

    With TQDM_DISABLE in the environment there is none, in notebooks too, where tqdm itself does
    not look: so a notebook that is executed for the book keeps no bar among its outputs.
    """
    return tqdm(iterable, leave=False, disable="TQDM_DISABLE" in os.environ, **how)
