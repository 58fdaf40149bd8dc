"""How weights move: AdamW, or Muon for the hidden matrices; warm-up and decay as functions of the step."""

import math

import torch
from torch import nn


def schedule(step: int, steps: int, warmup: int, decay: str, decay_fraction: float, final: float) -> float:
    """Return the factor on the peak learning rate at a step, in (0, 1]; step counts from 0.

    The rate rises linearly over `warmup` steps, stays at its peak, and over the last
    `decay_fraction` of the steps falls to `final`, in a line or as half a cosine
    (Loshchilov and Hutter 2017, equation 5, one period).
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    start = max(warmup, steps - decay_fraction * steps)
    progress = min(max((step - start) / max(steps - start, 1), 0.0), 1.0)
    if decay == "constant":
        return 1.0
    fall = progress if decay == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return 1 - (1 - final) * fall


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of all linear layers but the one called ``head``: those that Muon is made for."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return [module.weight for name, module in linear.items() if name.split(".")[-1] != "head"]


def make_optimizers(
    model: nn.Module,
    optimizer: str,
    lr: float,
    muon_lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together move every parameter once.

    ``"adamw"`` moves all with AdamW (Loshchilov and Hutter 2019); ``"muon"`` moves the hidden
    matrices with Muon (Jordan et al. 2024), which orthogonalises each update, and the rest
    (embeddings, head, norms, biases) with AdamW. Only matrices decay. Each parameter group keeps
    its peak rate in ``"peak_lr"``.
    """
    muon = {id(p): p for p in hidden_matrices(model)} if optimizer == "muon" else {}
    rest = [p for p in model.parameters() if id(p) not in muon]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)
    ]
    if muon:
        optimizers.append(torch.optim.Muon(muon.values(), lr=muon_lr, weight_decay=weight_decay))
    for group in (group for each in optimizers for group in each.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers
