"""The loop for losses of one's own does what it is told, step by step."""

import pytest
import torch
from torch import nn

from gptlib.minimising import minimise


def quadratic(target=3.0):
    """A linear layer without inputs to speak of, and a loss that wants its output at a target."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))

    def loss(generator):
        x = torch.randn(16, 4, generator=generator)
        return (model(x) - target).square().mean()

    return model, loss


def test_the_loss_falls_and_every_step_is_reported():
    model, loss = quadratic()
    seen = []
    losses = minimise(model, loss, 200, lr=0.05, on_step=seen.append)
    assert seen == list(range(1, 201)) and len(losses) == 200
    assert losses[-1] < 0.05 * losses[0] and not model.training


def test_a_seed_gives_one_curve_whatever_ran_before():
    curves = []
    for seed in (0, 0, 1):
        torch.randn(7)
        curves.append(minimise(*quadratic(), 10, seed=seed))
    assert curves[0] == curves[1] != curves[2]


def test_a_loss_that_is_not_finite_stops_the_run():
    model, loss = quadratic(float("inf"))
    with pytest.raises(ValueError, match="at step 1: lower the learning rates"):
        minimise(model, loss, 10)
