"""Train on a loss of one's own: problems drawn anew at every step, where `train` reads a text."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptlib.optim import make_optimizers, schedule
from gptlib.progress import progress


def minimise(
    model: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    steps: int,
    *,
    lr: float = 0.004,
    muon_lr: float = 0.015,
    betas: tuple[float, float] = (0.8, 0.95),
    weight_decay: float = 0.0,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train a model in place on `loss(generator)`, (), which draws its own batch; return each step's loss.

    Muon moves the matrices but the head, AdamW the rest; the rates are constant for half of the steps, then
    fall to 0. `on_step` is called after each step with its number, from 1. Raises ValueError when a loss is
    not finite.
    """
    model.train()
    # Models draw their weights from 2 * seed, or seed.
    generator = torch.Generator().manual_seed(2 * seed + 1)
    optimizers = make_optimizers(model, "muon", lr, muon_lr, betas, weight_decay, torch.float32)
    losses = []
    for step in progress(range(1, steps + 1), desc="training", unit="step"):
        value = loss(generator)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * schedule(step - 1, steps, 0, "linear", 0.5, 0.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(value.detach())
        if step % 100 in (0, 1):  # seldom, to let a GPU work ahead
            _finite(losses)
        if on_step:
            on_step(step)
    model.eval()
    return _finite(losses)


def _finite(losses: list[Tensor]) -> list[float]:
    values = torch.stack(losses).tolist()
    for step, value in enumerate(values, 1):
        if not math.isfinite(value):
            raise ValueError(f"the loss is {value} at step {step}: lower the learning rates")
    return values
