"""Fits are checked on points drawn from known laws, against SciPy, and on a published refit."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from gptlib import scaling
from gptlib.record import recorded
from gptlib.scaling import fit_joint, fit_power_law, isoflop_minima

CONSTANTS = ("E", "A", "B", "alpha", "beta")
CHINCHILLA = dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def runs(law=CHINCHILLA, noise=0.0, seed=0):
    """Points of a grid of sizes and token counts, with relative noise on the loss."""
    params, tokens = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e9, 7), np.geomspace(1e8, 1e11, 7)))
    loss = law["E"] + law["A"] * params ** -law["alpha"] + law["B"] * tokens ** -law["beta"]
    return params, tokens, loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))


def drawn_law(seed):
    rng = np.random.default_rng(seed)
    return dict(E=rng.uniform(0.5, 2), A=10 ** rng.uniform(1.5, 3), B=10 ** rng.uniform(1.5, 3.5),
                alpha=rng.uniform(0.2, 0.6), beta=rng.uniform(0.2, 0.6))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_constants_drawn_at_random_are_recovered(seed):
    law = drawn_law(seed)
    fit = fit_joint(*runs(law), n_boot=0)
    assert [getattr(fit, name) for name in CONSTANTS] == pytest.approx([law[n] for n in CONSTANTS], rel=1e-3)


def test_with_noise_they_lie_in_the_intervals_about_as_often_as_promised():
    inside = []
    for seed in range(5):
        law = drawn_law(seed)
        fit = fit_joint(*runs(law, noise=0.003, seed=seed), n_boot=50)
        for name in CONSTANTS:
            low, high = fit.intervals[name]
            assert low <= getattr(fit, name) <= high
            inside.append(low <= law[name] <= high)
    assert np.mean(inside) >= 0.8


def test_no_other_start_ends_lower():
    """The lowest of many starts: no single L-BFGS run from a random start may find a lower one."""
    params, tokens, loss = runs(noise=0.01)
    logs, log_y = np.log([params, tokens]), np.log(loss)
    centred = logs - logs.mean(axis=1, keepdims=True)
    [best] = scaling._fit(logs, log_y, True, 0)
    best[:2] -= best[2:4] * logs.mean(axis=1)
    found, _ = scaling._misfit(best, centred, log_y)
    rng = np.random.default_rng(1)
    others = [scaling._solve(rng.normal([0, 0, 0.5, 0.5, 0], 0.5), centred, log_y).fun for _ in range(20)]
    assert found <= min(others) + 1e-6


def test_the_gradient_is_that_of_the_misfit():
    params, tokens, loss = runs(noise=0.01)
    logs = np.log([params / 1e7, tokens / 1e9])
    theta = np.array([0.1, -0.2, 0.3, 0.4, 0.5])
    _, gradient = scaling._misfit(theta, logs, np.log(loss))
    misfit = [
        [scaling._misfit(theta + h, logs, np.log(loss))[0] for h in (side, -side)]
        for side in np.eye(5) * 1e-6
    ]
    numerical = [(above - below) / 2e-6 for above, below in misfit]
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4)


def test_240_published_points_give_the_published_refit():
    """Besiroglu et al. 2024, table 1, from points they read off figure 4 of Hoffmann et al. 2022."""
    points = recorded("hoffmann2022")
    began = time.perf_counter()
    fit = fit_joint(points.params, points.flops / 6 / points.params, points.loss)
    assert time.perf_counter() - began < 60
    refit = dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
    for name, value in refit.items():
        assert getattr(fit, name) == pytest.approx(value, rel=0.04)
        low, high = fit.intervals[name]
        assert low < value < high


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_a_power_law_is_that_of_scipys_robust_least_squares(floor):
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 1e4, 30)
    y = (floor + 3 * x**-0.4) * np.exp(0.01 * rng.standard_normal(30))
    fit = fit_power_law(x, y, floor=floor > 0, n_boot=50)

    def misses(theta):
        return np.log((np.exp(theta[2]) if floor else 0) + np.exp(theta[0] - theta[1] * np.log(x))) - np.log(
            y
        )

    start = [1.0, 0.4, 0.4][: 2 + (floor > 0)]
    theirs = least_squares(misses, start, loss="huber", f_scale=1e-3, xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    assert [np.log(fit.A), fit.alpha] == pytest.approx(theirs[:2], rel=0.01)
    assert pytest.approx(np.exp(theirs[2]) if floor else 0, rel=0.01) == fit.E
    low, high = fit.band(x)
    assert (low <= fit.predict(x)).all() and (fit.predict(x) <= high).all()
    assert 0.98 < fit.explained(x, y) <= 1


def test_a_rising_power_law_has_a_negative_exponent():
    x = np.geomspace(1e10, 1e13, 5)
    assert fit_power_law(x, 0.1 * x**0.5, floor=False, n_boot=0).alpha == pytest.approx(-0.5, rel=1e-4)


def test_the_best_size_is_where_the_loss_along_a_budget_is_lowest():
    fit = fit_joint(*runs(), n_boot=0)
    for flops, per_token in ((1e19, 6.0), (1e21, 7.5)):
        params, tokens = fit.optimal(flops, per_token)
        assert params * tokens * per_token == pytest.approx(flops)
        beside = params * np.array([0.9, 1.0, 1.1])
        losses = fit.predict(beside, flops / per_token / beside)
        assert losses.argmin() == 1


def parabolas(best=(1e5, 2e5, 4e5), width=1.0, noise=0.0):
    rng = np.random.default_rng(0)
    rows = []
    for budget, size in zip((1e12, 4e12, 16e12), best, strict=True):
        for params in np.geomspace(2e4, 2e6, 7):
            loss = 1.5 + 0.1 * width * np.log(params / size) ** 2 + noise * rng.standard_normal()
            rows.append(
                dict(
                    flops=budget * rng.uniform(0.99, 1.01),
                    params=params,
                    tokens=budget / 6 / params,
                    loss=loss,
                )
            )
    return pd.DataFrame(rows)


def test_minima_of_parabolas_are_found():
    found = isoflop_minima(parabolas().sample(frac=1, random_state=0))
    assert found.params.tolist() == pytest.approx([1e5, 2e5, 4e5], rel=1e-6)
    assert found.loss.tolist() == pytest.approx([1.5] * 3)
    assert (found.params * found.tokens * 6).tolist() == pytest.approx([1e12, 4e12, 16e12], rel=1e-6)
    noisy = isoflop_minima(parabolas(noise=0.01))
    assert ((noisy.low < [1e5, 2e5, 4e5]) & (noisy.high > [1e5, 2e5, 4e5])).all()


@pytest.mark.parametrize(("best", "what"), [((1e5, 2e5, 1e8), "largest"), ((1e3, 2e5, 4e5), "smallest")])
def test_a_minimum_at_the_edge_is_refused(best, what):
    with pytest.raises(ValueError, match=f"at the edge, that of the {what}"):
        isoflop_minima(parabolas(best))


def test_a_budget_needs_four_sizes():
    with pytest.raises(ValueError, match="four sizes"):
        isoflop_minima(pd.concat([parabolas().iloc[:3]] * 2))


def test_losses_on_two_texts_are_refused():
    params, tokens, loss = runs()
    texts = ["python_docs", "shakespeare"] * 24 + ["shakespeare"]
    for attempt in (
        lambda: fit_joint(params, tokens, loss, corpus=texts),
        lambda: fit_power_law(params, loss, corpus=texts),
        lambda: isoflop_minima(parabolas().assign(corpus=texts[:21])),
    ):
        with pytest.raises(ValueError, match="python_docs, shakespeare"):
            attempt()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("column", range(3))
def test_values_that_no_power_law_can_have_are_refused(bad, column):
    columns = [np.array(values) for values in runs()]
    columns[column][7] = bad
    name = ("params", "tokens", "the loss")[column]
    with pytest.raises(ValueError, match=f"{name} must be above 0 and finite; point 7"):
        fit_joint(*columns)


@pytest.mark.parametrize("n", [0, 3, 5])
def test_fewer_points_than_constants_are_refused(n):
    with pytest.raises(ValueError, match=f"5 constants need at least 6 points, not {n}"):
        fit_joint(*(values[:n] for values in runs()))


def test_one_size_says_nothing_of_sizes():
    params, tokens, loss = runs()
    with pytest.raises(ValueError, match="params takes fewer than three values"):
        fit_joint(np.full_like(params, 1e6), tokens, loss)
    with pytest.raises(ValueError, match="one value a point"):
        fit_joint(params[:-1], tokens, loss)
