"""Scaling laws: power laws fitted to training runs, and the best size for a budget.

Params, tokens and flops are the N, D and C of the formulas. The runs are `gptlib.sweep`'s.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult, minimize, nnls
from scipy.special import logsumexp

from gptlib.sweep import sweep

__all__ = ["JointFit", "PowerLaw", "fit_joint", "fit_power_law", "isoflop_minima", "sweep"]

LEVELS = (0.025, 0.975)  # of the intervals
DELTA = 1e-3  # misses of the log loss beyond this count in proportion, not squared
EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)  # that fits start from
STEEPEST = 5.0  # exponent, either way, that a fit may end at


@dataclass(frozen=True)
class PowerLaw:
    """y = E + A x^-alpha, fitted."""

    E: float  # the floor, in the unit of y; 0 when fitted without one
    A: float
    alpha: float
    intervals: dict[str, tuple[float, float]]  # 95 %, by name
    draws: np.ndarray  # (n_boot, 3), the fits of the bootstrap: E, A, alpha

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Return y at x, of any shape."""
        return self.E + self.A * np.asarray(x, dtype=float) ** -self.alpha

    def band(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the curve's 95 % interval at x (n,), each (n,)."""
        E, A, alpha = self.draws.T[:, :, None]  # each (n_boot, 1)
        low, high = np.quantile(E + A * np.asarray(x, dtype=float) ** -alpha, LEVELS, axis=0)
        return low, high

    def explained(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the share of the variance of log(y - E) that the fit explains; at most 1."""
        excess = np.log(np.asarray(y, dtype=float) - self.E)
        return float(1 - (excess - np.log(self.predict(x) - self.E)).var() / excess.var())


@dataclass(frozen=True)
class JointFit:
    """L(N, D) = E + A / N^alpha + B / D^beta, fitted (Hoffmann et al. 2022, equation 2)."""

    E: float  # nats per token, that no size and no amount of text takes away
    A: float
    B: float
    alpha: float
    beta: float
    intervals: dict[str, tuple[float, float]]  # 95 %, by name
    draws: np.ndarray  # (n_boot, 5), the fits of the bootstrap: E, A, B, alpha, beta

    def predict(self, params: ArrayLike, tokens: ArrayLike) -> np.ndarray:
        """Return the loss of models of so many params after so many tokens: shapes that broadcast."""
        params, tokens = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        return self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta

    def optimal(self, flops: float, per_token: float = 6.0) -> tuple[float, float]:
        """Return the params and tokens with the lowest loss for a budget (Hoffmann et al. 2022, equation 4).

        `per_token` is what training costs per parameter and token: 6, or more where attention counts.
        """
        both = self.alpha + self.beta
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        params = scale * (flops / per_token) ** (self.beta / both)
        return params, flops / per_token / params


def fit_power_law(
    x: ArrayLike, y: ArrayLike, floor: bool = True, n_boot: int = 200, corpus: Iterable[str] = ()
) -> PowerLaw:
    """Fit y = E + A x^-alpha to points (n,), with E = 0 where there is no `floor`.

    How, and what is refused, `fit_joint` says.
    """
    x, y = _checked({"x": x}, y, 2 + floor, corpus)
    fits = _fit(np.log(x), np.log(y), floor, n_boot)
    constants = np.exp(fits[:, 2]) if floor else np.zeros(len(fits)), np.exp(fits[:, 0]), fits[:, 1]
    return PowerLaw(*_with_intervals(("E", "A", "alpha"), np.stack(constants, axis=1)))


def fit_joint(
    params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, n_boot: int = 200, corpus: Iterable[str] = ()
) -> JointFit:
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to runs (n,) each (Hoffmann et al. 2022, approach 3).

    The Huber loss, delta 1e-3, of the predicted log loss, itself a log-sum-exp, is minimised by L-BFGS
    from each of 64 starts: a grid of exponents, for which A, B and E follow by least squares. The
    lowest is taken. Intervals are the bootstrap's, over runs. Raises ValueError on values that are not
    finite and positive, on too few points, and when `corpus`, the text of each run, names more than one.
    """
    x, loss = _checked({"params": params, "tokens": tokens}, loss, 5, corpus)
    fits = _fit(np.log(x), np.log(loss), True, n_boot)
    constants = np.concatenate([np.exp(fits[:, [4, 0, 1]]), fits[:, 2:4]], axis=1)
    return JointFit(*_with_intervals(("E", "A", "B", "alpha", "beta"), constants))


def _with_intervals(names: tuple[str, ...], constants: np.ndarray) -> tuple:
    """Return the constants of the first fit, the intervals of all others, and these."""
    ends = np.quantile(constants[1:], LEVELS, axis=0) if len(constants) > 1 else constants[[0, 0]]
    return (
        *map(float, constants[0]),
        dict(zip(names, zip(*ends.tolist(), strict=True), strict=True)),
        constants[1:],
    )


def _checked(
    given: dict, loss: ArrayLike, constants: int, corpus: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is given as (k, n) and the losses (n,), or refuse them."""
    columns = {name: np.asarray(values, dtype=float) for name, values in (given | {"the loss": loss}).items()}
    loss = columns["the loss"]
    if len(texts := set(corpus)) > 1:
        raise ValueError(
            f"losses on different texts share no law: {', '.join(sorted(texts))}: fit each alone"
        )
    if loss.ndim != 1 or len(loss) <= constants:
        raise ValueError(f"{constants} constants need at least {constants + 1} points, not {loss.size}")
    for name, values in columns.items():
        if values.shape != loss.shape:
            raise ValueError(f"{name} has the shape {values.shape}, the loss {loss.shape}: one value a point")
        if (wrong := ~(np.isfinite(values) & (values > 0))).any():
            raise ValueError(
                f"{name} must be above 0 and finite; point {wrong.argmax()} has {values[wrong][0]}"
            )
        if len(set(values)) < 3:
            raise ValueError(f"{name} takes fewer than three values: nothing can be fitted along it")
    return np.stack([columns[name] for name in given]), loss


def _fit(logs: np.ndarray, log_y: np.ndarray, floor: bool, n_boot: int) -> np.ndarray:
    """Fit sums of k power laws to points (k, n); return (1 + n_boot, 2 k + floor): log A, alpha, log E."""
    k, middle = len(logs), logs.mean(axis=1, keepdims=True)
    logs = logs - middle  # so that amplitudes and exponents are nearly independent
    best = min((_solve(start, logs, log_y) for start in _starts(logs, log_y, floor)), key=lambda fit: fit.fun)
    fits, rng = [best.x], np.random.default_rng(0)
    while len(fits) <= n_boot:
        drawn = rng.integers(len(log_y), size=len(log_y))
        if min(len(set(row)) for row in logs[:, drawn]) >= 3:
            fits.append(_solve(best.x, logs[:, drawn], log_y[drawn]).x)
    fits = np.array(fits)
    fits[:, :k] += fits[:, k : 2 * k] * middle[:, 0]
    return fits


def _starts(logs: np.ndarray, log_y: np.ndarray, floor: bool) -> Iterable[np.ndarray]:
    for alphas in itertools.product(EXPONENTS if floor else (0.0,), repeat=len(logs)):
        terms = [np.exp(-alpha * row) for alpha, row in zip(alphas, logs, strict=True)]
        terms = (
            np.stack(terms + [np.ones_like(log_y)] * floor, axis=1) / np.exp(log_y)[:, None]
        )  # (n, k + floor)
        found, _ = nnls(terms, np.ones_like(log_y))  # of the relative errors
        found = np.log(np.maximum(found, 1e-3 * np.exp(log_y.min())))
        yield np.concatenate([found[: len(logs)], alphas, found[len(logs) :]])


def _solve(start: np.ndarray, logs: np.ndarray, log_y: np.ndarray) -> OptimizeResult:
    k = len(logs)
    bounds = [(None, None)] * k + [(-STEEPEST, STEEPEST)] * k + [(None, None)] * (len(start) - 2 * k)
    precise = dict(maxiter=5000, maxfun=20_000, maxcor=20, ftol=1e-14, gtol=1e-9)
    return minimize(_misfit, start, (logs, log_y), "L-BFGS-B", jac=True, bounds=bounds, options=precise)


def _misfit(theta: np.ndarray, logs: np.ndarray, log_y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean Huber loss over the points, in units of DELTA squared, and its gradient."""
    k = len(logs)
    terms = theta[:k, None] - theta[k : 2 * k, None] * logs  # (k, n)
    if len(theta) > 2 * k:
        terms = np.vstack([terms, np.full_like(log_y, theta[-1])])  # (k + 1, n)
    predicted = logsumexp(terms, axis=0)
    miss = (predicted - log_y) / DELTA
    value = np.where(abs(miss) <= 1, miss**2 / 2, abs(miss) - 0.5).mean()
    by_term = np.exp(terms - predicted) * np.clip(miss, -1, 1) / DELTA / len(log_y)
    return value, np.concatenate([by_term[:k].sum(1), -(by_term[:k] * logs).sum(1), by_term[k:].sum(1)])


def isoflop_minima(rows: pd.DataFrame, n_boot: int = 1000) -> pd.DataFrame:
    """Return the best size for each budget (Hoffmann et al. 2022, approach 2): a parabola in log N for each.

    `rows` has the columns flops, params, tokens and loss, perhaps corpus; runs whose flops agree to a
    tenth form a budget. Returned are flops, params, the ends `low` and `high` of its 95 % interval (the
    parabola's coefficients drawn from their distribution, t with its degrees of freedom), tokens, loss.
    Raises ValueError where a budget has fewer than four sizes, or its lowest loss at the edge.
    """
    _checked(
        {name: rows[name] for name in ("flops", "params", "tokens")}, rows.loss, 3, rows.get("corpus", ())
    )
    rows = rows.sort_values("flops")
    budget = (np.log(rows.flops).diff() > 0.1).cumsum()
    return pd.DataFrame([_minimum(alike, n_boot) for _, alike in rows.groupby(budget)])


def _minimum(rows: pd.DataFrame, n_boot: int) -> dict[str, float]:
    flops, means = np.exp(np.log(rows.flops).mean()), rows.groupby("params").loss.mean()
    if len(means) < 4:
        raise ValueError(
            f"a parabola with an interval needs four sizes; at {flops:.2g} FLOPs there are {len(means)}"
        )
    x = np.log(rows.params.to_numpy(float))
    middle = x.mean()
    coefficients, covariance = np.polyfit(x - middle, rows.loss, 2, cov=True)
    vertex = middle - coefficients[1] / 2 / coefficients[0]
    edges = {means.index[0]: "smallest: add smaller", means.index[-1]: "largest: add larger"}
    if means.idxmin() in edges:
        raise ValueError(
            f"at {flops:.2g} FLOPs the lowest loss is at the edge, that of the {edges[means.idxmin()]} ones, "
            "or leave this budget out"
        )
    if coefficients[0] <= 0 or not x.min() < vertex < x.max():
        raise ValueError(
            f"at {flops:.2g} FLOPs the parabola has no minimum between the sizes: repeat with more seeds"
        )
    rng, free = np.random.default_rng(0), len(rows) - 3
    wide = rng.multivariate_normal(np.zeros(3), covariance, n_boot) / np.sqrt(
        rng.chisquare(free, (n_boot, 1)) / free
    )
    a, b, _ = (coefficients + wide).T
    low, high = np.exp(middle + np.quantile((-b / 2 / a)[a > 0], LEVELS))
    tokens = np.exp(np.polyval(np.polyfit(x, np.log(rows.tokens), 1), vertex))
    loss = np.polyval(coefficients, vertex - middle)
    return dict(flops=flops, params=np.exp(vertex), low=low, high=high, tokens=tokens, loss=loss)
