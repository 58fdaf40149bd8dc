"""Recorded policies by distance from SFT and what they gained: which does the reward model choose?"""

import anywidget
import pandas as pd
import traitlets

from gptlib.alignment.frontier import steps_of
from gptlib.widgets import script

NAMES = {
    "ppo": "PPO",
    "ppo-ptx": "PPO-ptx",
    "ppo small judge": "PPO, small judge",
    "grpo": "GRPO",
    "dpo": "DPO",
}
STEPS = 5  # of a path are one point of it: their mean
Row = dict[str, str | int | float | list[list[float]] | None]


class Frontier(anywidget.AnyWidget):
    """A price of the KL, and the runs that the reward model and the gold reward choose at it.

    `runs` are the recorded rows "alignment", `best_of` the rows "best_of_n". Raises ValueError when there
    are none.
    """

    _esm = script(__file__)
    rows = traitlets.List().tag(sync=True)  # a dictionary for each policy; see rows_of

    def __init__(self, runs: pd.DataFrame, best_of: pd.DataFrame):
        super().__init__(rows=rows_of(runs, best_of))


def rows_of(runs: pd.DataFrame, best_of: pd.DataFrame) -> list[Row]:
    """Return each policy with what it gained over its seed's SFT model, which is a row too.

    A row has method, name, seed, kl in nats a response, score in the reward model's units, gold of 7, win
    (None where it is not recorded), and path: [kl, score, gold] on the way there. Raises ValueError when
    `runs` or `best_of` is empty.
    """
    if runs.empty or best_of.empty:
        raise ValueError(
            "there are no runs to show: give recorded('alignment-cpu'), recorded('best_of_n-cpu')"
        )
    start = {"kl": 0.0, "score": 0.0, "gold": 0.0, "win": 0.5, "path": []}
    rows = [
        {"method": "SFT", "name": "SFT", "seed": int(seed)} | start for seed in sorted(runs.seed.unique())
    ]
    for _, run in runs.iterrows():
        method = NAMES[run.method]
        name = f"{method}, β = {run.strength:g}"
        rows.append(_row(method, name, run) | {"win": round(run.win, 4), "path": _path(run)})
    for seed, draws in best_of[best_of.n > 1].sort_values("n").groupby("seed"):
        path = [[0.0, 0.0, 0.0]]
        for _, best in draws.iterrows():
            row = _row("best of n", f"best of {best.n:.0f}", best)
            path.append([row["kl"], row["score"], row["gold"]])
            rows.append(row | {"seed": int(seed), "win": None, "path": list(path)})
    return rows


def _row(method: str, name: str, run: pd.Series) -> Row:
    gains = {"score": run.proxy - run["proxy before"], "gold": run.gold - run["gold before"]}
    rounded = {key: round(value, 4) for key, value in ({"kl": run.kl} | gains).items()}
    return {"method": method, "name": name, "seed": int(run.seed)} | rounded


def _path(run: pd.Series) -> list[list[float]]:
    """Return means of a run's steps, from SFT on; nothing where none is recorded."""
    if pd.isna(run["kl path"]):
        return []
    steps = steps_of(run.to_frame().T)
    means = steps.groupby((steps.step - 1) // STEPS)[["kl", "proxy", "gold"]].mean()
    means = means - [0.0, run["proxy before"], run["gold before"]]
    return [[0.0, 0.0, 0.0], *means.round(3).to_numpy().tolist()]
