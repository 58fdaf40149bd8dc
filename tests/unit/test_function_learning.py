"""Classical predictors are those of the textbooks; the learner is asked nothing that it was told."""

import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from gptlib import function_learning
from gptlib.function_learning import (
    FunctionLearner,
    LinearFunctions,
    averaging,
    error_after,
    errors,
    evaluate,
    fit,
    least_squares,
    nearest,
    ridge,
    zero,
)

LEARNER = FunctionLearner(3, 8, n_layer=2, n_head=2, n_embd=16)
with torch.no_grad():
    for parameter in LEARNER.parameters():  # no weight at zero, so that everything in it matters
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
PREDICTORS = {
    "zero": zero,
    "averaging": averaging,
    "nearest": nearest,
    "least squares": least_squares,
    "ridge": ridge(0.1),
    "transformer": LEARNER,
}


def draw(**choices):
    return LinearFunctions(3, 8, **choices).draw(5, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("predict", PREDICTORS.values(), ids=PREDICTORS)
def test_an_answer_depends_on_the_examples_before_and_the_question_alone(predict):
    x, y = draw(noise=0.3)
    with torch.no_grad():
        before = predict(x, y)
        later_x, later_y = x.clone(), y.clone()
        later_x[:, 5:] += 1
        later_y[:, 4:] += 1  # the answer to question 4 too
        after = predict(later_x, later_y)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    if predict is not zero:
        assert not torch.allclose(before[:, 6], after[:, 6])


def test_least_squares_is_exact_from_d_examples_on():
    x, y = draw()
    wrong = (least_squares(x, y) - y).abs()
    assert (wrong[:, 3:] < 1e-3).all() and (wrong[:, :3] > 1e-3).any()


def test_ridge_with_hardly_a_penalty_is_least_squares_also_with_few_examples():
    x, y = LinearFunctions(20, 23).draw(5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(ridge(1e-6)(x, y), least_squares(x, y), atol=2e-3, rtol=0)


def test_ridge_and_nearest_are_those_of_scikit_learn():
    x, y = draw(noise=0.5)
    ours, near = ridge(0.7)(x, y), nearest(x, y)
    for row in range(5):
        for k in range(3, 8):
            seen, told, asked = x[row, :k].numpy(), y[row, :k].numpy(), x[row, k : k + 1].numpy()
            theirs = Ridge(0.7, fit_intercept=False).fit(seen, told).predict(asked)
            assert ours[row, k].item() == pytest.approx(theirs[0], abs=1e-4)
            theirs = KNeighborsRegressor(3).fit(seen, told).predict(asked)
            assert near[row, k].item() == pytest.approx(theirs[0], abs=1e-5)


def test_averaging_by_hand():
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    y = torch.tensor([[3.0, 4.0, 0.0]])
    # w after two examples: the mean of (3, 0) and (0, 8), so (1.5, 4) . (1, 1) = 5.5
    torch.testing.assert_close(averaging(x, y), torch.tensor([[0.0, 0.0, 5.5]]))


@pytest.mark.parametrize("choices", [{}, {"scale": 2.0}, {"skew": 2}, {"scale": 0.5, "skew": 1.0}])
def test_always_answering_zero_errs_by_the_trivial_error(choices):
    functions = LinearFunctions(3, 8, **choices)
    rows = evaluate({"zero": zero}, functions, B=20_000)
    assert rows["clean"].mean() == pytest.approx(1.0, abs=0.03)
    assert (rows["error"] == rows["clean"]).all()


def test_noise_is_in_the_error_and_not_in_the_clean_one():
    rows = evaluate({"zero": zero}, LinearFunctions(2, 4, noise=0.5), B=20_000)
    assert (rows["error"] - rows["clean"]).mean() == pytest.approx(0.25 / 2, abs=0.01)


def test_ridge_with_the_noise_for_its_penalty_beats_other_penalties():
    noisy = LinearFunctions(3, 8, noise=0.5)
    rows = evaluate({p: ridge(p) for p in (0.05, 0.25, 1.5)}, noisy, B=20_000)
    late = rows[rows["examples"] >= 3].groupby("predictor")["clean"].mean()
    assert late.idxmin() == 0.25


def test_a_learner_learns_and_every_parameter_takes_part(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    functions, learner = LinearFunctions(1, 4), FunctionLearner(1, 4, n_layer=2, n_head=2, n_embd=16)
    before = [parameter.clone() for parameter in learner.parameters()]
    losses = fit(learner, functions, steps=150)
    assert len(losses) == 150 and sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    rows = evaluate({"transformer": learner}, functions)
    assert rows["error"].iloc[-1] < 0.2 < rows["error"].iloc[0]


def test_a_loss_that_is_not_finite_stops_the_run(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    learner = FunctionLearner(1, 4, n_layer=1, n_head=2, n_embd=8)
    with pytest.raises(ValueError, match="at step 1"):
        fit(learner, LinearFunctions(1, 4, scale=1e30), steps=3)


def test_the_same_seed_gives_the_same_learner(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setitem(function_learning.RECORDED, 2, (1, 2, 8, 4, 8))
    first, again, other = errors(2, 0.5, 0), errors(2, 0.5, 0), errors(2, 0.5, 1)
    assert first == again != other
    texts = first["ridge error"].split()
    assert len(texts) == 7  # 2 d + 3 points
    runs = pd.DataFrame([first, other]).assign(d=2)
    assert error_after(runs, "ridge", 1) == [float(texts[2]), float(other["ridge error"].split()[2])]


@pytest.mark.parametrize("bad", [dict(d=0), dict(n=0), dict(noise=-1.0), dict(scale=0.0)])
def test_functions_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="at least 1"):
        LinearFunctions(**bad)
