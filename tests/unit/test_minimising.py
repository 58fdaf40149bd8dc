"""The loop for losses of one's own does what it is told, step by step, for one model and for a family."""

import pytest
import torch
from torch import nn

from gptlib.minimising import Recipe, train_family, train_on_loss
from gptlib.model import GPT, GPTConfig
from gptlib.training import answer_loss


def quadratic(target=3.0):
    """A linear layer without inputs to speak of, and a loss that wants its output at a target."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))

    def draw(generator):
        return (torch.randn(16, 4, generator=generator),)

    return model, draw, lambda model, x: (model(x) - target).square().mean()


def test_the_loss_falls_and_every_step_is_reported():
    seen, (model, *problem) = [], quadratic()
    losses = train_on_loss(model, *problem, Recipe(200, lr=0.05), on_step=seen.append)
    assert seen == list(range(1, 201)) and len(losses) == 200
    assert losses[-1] < 0.05 * losses[0] and not model.training


def test_a_seed_gives_one_curve_whatever_ran_before():
    curves = []
    for seed in (0, 0, 1):
        torch.randn(7)
        curves.append(train_on_loss(*quadratic(), Recipe(10), seed=seed))
    assert curves[0] == curves[1] != curves[2]


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(ValueError, match="at step 1: lower the learning rates"):
        train_on_loss(*quadratic(float("inf")), Recipe(10))


SHAPES = {
    "fixed places": GPTConfig.aligned(9, context_length=7, n_layer=2, n_head=2, n_embd=8),
    "rotated": GPTConfig.modern(9, context_length=7, n_layer=2, n_head=2, n_embd=8, tie_embeddings=True),
    "gpt2": GPTConfig.gpt2(9, context_length=40, n_layer=1, n_head=2, n_embd=8),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_family_is_trained_as_its_members_one_by_one(name):
    """Own seeds, own batches, own rates: the same losses and the same weights, but for rounding."""
    config, seeds, rates = SHAPES[name], (0, 3, 5), (1.0, 2.0, 1.0)
    T = config.context_length + 1

    def drawing(high):
        return lambda generator: (torch.randint(high, (4, T), generator=generator),)

    def loss(model, ids):
        return answer_loss(model, ids, 2)

    draws, recipe = [drawing(high) for high in (9, 9, 5)], Recipe(6, lr=0.01, weight_decay=0.1)
    together, alone = ([GPT(config, seed) for seed in seeds] for _ in range(2))
    losses = train_family(together, draws, loss, recipe, seeds=seeds, rates=rates)
    for model, mine, seed, rate, draw, its in zip(together, alone, seeds, rates, draws, losses, strict=True):
        own = Recipe(6, lr=0.01 * rate, muon_lr=0.015 * rate, weight_decay=0.1)
        expected = train_on_loss(mine, draw, loss, own, seed=seed)
        assert its == pytest.approx(expected, abs=1e-5) and its != losses[(seeds.index(seed) + 1) % 3]
        for ours, theirs in zip(model.parameters(), mine.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_a_family_of_two_shapes_or_without_seeds_is_refused():
    _, *problem = quadratic()
    small, large = nn.Linear(4, 1), nn.Linear(4, 2)
    with pytest.raises(ValueError, match="have one shape"):
        train_family([small, large], *problem, Recipe(1), seeds=[0, 1])
    with pytest.raises(ValueError, match="2 models a seed"):
        train_family([small, small], *problem, Recipe(1), seeds=[0])


def test_a_diverging_member_of_a_family_is_named():
    models = [nn.Linear(4, 1), nn.Linear(4, 1)]
    models[1].weight.data[:] = torch.nan
    _, *problem = quadratic()
    with pytest.raises(ValueError, match="loss of model 1 is nan at step 1"):
        train_family(models, *problem, Recipe(2), seeds=[0, 1])
