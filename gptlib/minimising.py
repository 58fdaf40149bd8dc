"""Train on a loss of one's own: problems drawn anew at every step, where `train` reads a text.

Models of one shape can be trained as one, a family: each small product becomes a part of a larger one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from gptlib.history import Watched
from gptlib.memory import keep_freed_memory
from gptlib.optim import make_optimizers, schedule, update
from gptlib.progress import progress

Draw = Callable[[torch.Generator], Sequence[Tensor]]  # the tensors of one batch
Loss = Callable[..., Tensor]  # of a model and the tensors of a batch: ()


@dataclass(frozen=True)
class Recipe:
    """How a model is trained on a loss: Muon moves the matrices but the head, AdamW the rest.

    The rates are constant for half of the steps, then fall to 0.
    """

    steps: int
    lr: float = 0.004  # AdamW's
    muon_lr: float = 0.015
    betas: tuple[float, float] = (0.8, 0.95)  # AdamW's memory of the gradient and of its square
    weight_decay: float = 0.0


def train_on_loss(
    model: nn.Module,
    draw: Draw,
    loss: Loss,
    recipe: Recipe,
    *,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train a model in place on `loss(model, *draw(generator))`, (); return each step's loss.

    `on_step` is called after each step with its number, from 1. Raises ValueError when a loss is not finite.
    """
    return train_family([model], draw, loss, recipe, seeds=[seed], on_step=on_step)[0]


def train_family(
    models: Sequence[nn.Module],
    draw: Draw | Sequence[Draw],
    loss: Loss,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    rates: Sequence[float] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[list[float]]:
    """Train models of one shape in place, each on batches of its own; return the losses, a list a model.

    The same as `train_on_loss` one by one, but for rounding, in less time. A seed draws a model's batches;
    `draw` may be one for each model, whose batches have one shape; `rates` multiply both learning rates.
    Raises ValueError when the shapes differ, or a loss is not finite.
    """
    check_family(models, seeds, rates)
    keep_freed_memory()
    # Models draw their weights from 2 * seed, or seed.
    generators = [torch.Generator().manual_seed(2 * seed + 1) for seed in seeds]
    draws = list(draw) if isinstance(draw, Sequence) else [draw] * len(models)
    optimizers, losses = _optimizers(models, recipe, rates), Watched("lower the learning rates")
    for model in models:
        model.train()
    for step in progress(range(1, recipe.steps + 1), desc="training", unit="step"):
        batches = [each(generator) for each, generator in zip(draws, generators, strict=True)]
        values = _losses(models, batches, loss)  # (models,)
        values.sum().backward()
        update(models, optimizers, schedule(step - 1, recipe.steps, 0, "linear", 0.5, 0.0), 1.0)
        losses.add(**{f"loss of model {i}" if i else "loss": value for i, value in enumerate(values)})
        if on_step:
            on_step(step)
    for model in models:
        model.eval()
    return [list(column) for column in zip(*(row.values() for row in losses.read()), strict=True)]


class _Objective(nn.Module):
    """A model and its loss as one module, whose weights can be lent to it: those of all models at once."""

    def __init__(self, model: nn.Module, loss: Loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss on a batch: ()."""
        return self.loss(self.model, *batch)


def _losses(models: Sequence[nn.Module], batches: Sequence[Sequence[Tensor]], loss: Loss) -> Tensor:
    """Return each model's loss on its own batch: (models,)."""
    if len(models) == 1:
        return loss(models[0], *batches[0])[None]
    objective = _Objective(models[0], loss)
    weights = [dict(model.named_parameters(prefix="model")) for model in models]
    stacked = {name: torch.stack([its[name] for its in weights]) for name in weights[0]}
    parts = [torch.stack(part) for part in zip(*batches, strict=True)]  # (models, ...) each
    all_at_once = vmap(lambda lent, *batch: functional_call(objective, lent, batch), randomness="different")
    with sdpa_kernel(SDPBackend.MATH):  # vmap knows no rule for the fused kernels, and would loop over models
        return all_at_once(stacked, *parts)


def _optimizers(
    models: Sequence[nn.Module], recipe: Recipe, rates: Sequence[float] | None
) -> list[torch.optim.Optimizer]:
    """Return optimizers for all models: together where their rates are one: Muon takes all at once."""
    rates = rates or [1.0] * len(models)
    groups = {rate: [m for m, its in zip(models, rates, strict=True) if its == rate] for rate in rates}
    return [
        optimizer
        for rate, alike in groups.items()
        for optimizer in make_optimizers(
            nn.ModuleList(alike) if len(alike) > 1 else alike[0],
            "muon",
            rate * recipe.lr,
            rate * recipe.muon_lr,
            recipe.betas,
            recipe.weight_decay,
            torch.float32,
        )
    ]


def check_family(models: Sequence[nn.Module], seeds: Sequence[int], rates: Sequence[float] | None) -> None:
    """Raise ValueError unless there is a seed, and perhaps a rate, for each model, and all have one shape."""
    if not models or len(seeds) != len(models) or (rates is not None and len(rates) != len(models)):
        raise ValueError(f"give each of the {len(models)} models a seed, and a rate if any has one")
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in models]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the models of a family have one shape: train others one by one, or side by side")
