"""Three sliders over a fitted surface L(N, D): what does a budget buy?"""

from collections.abc import Iterable

import anywidget
import traitlets

from gptlib.scaling import JointFit
from gptlib.widgets import script


class ScalingExplorer(anywidget.AnyWidget):
    """Sliders for compute, size and tokens, over the contours of a fit and the runs it was fitted to."""

    _esm = script(__file__)
    constants = traitlets.Dict().tag(sync=True)  # E, A, B, alpha, beta
    per_token = traitlets.Float(6.0).tag(sync=True)  # FLOPs per parameter and token
    runs = traitlets.List().tag(sync=True)  # (params, tokens, loss) of each run
    unit = traitlets.Unicode("nats per token").tag(sync=True)

    def __init__(
        self,
        fit: JointFit,
        runs: Iterable[tuple[float, float, float]],
        per_token: float = 6.0,
        unit: str = "nats per token",
    ):
        constants = {name: getattr(fit, name) for name in ("E", "A", "B", "alpha", "beta")}
        runs = [[float(f"{value:.5g}") for value in run] for run in runs]
        super().__init__(constants=constants, runs=runs, per_token=per_token, unit=unit)
