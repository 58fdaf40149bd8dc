"""How weights move: AdamW, or Muon for the hidden matrices; warm-up and decay as functions of the step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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


ITERATIONS = 3  # of Newton and Schulz; five, as usual, cost more and gained nothing here, two lost


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal (Jordan et al. 2024): all its singular values near 1.

    A gradient's few large directions then do not drown the many small ones. Matrices of one shape are
    orthogonalised side by side, in `dtype`. The update is that of torch.optim.Muon with ns_steps=3,
    which takes them one by one. Where a GradScaler has set `found_inf`, (), to 1, nothing moves.
    """

    _step_supports_amp_scaling = True  # a GradScaler then need not wait for the GPU to know whether to step

    def __init__(self, params, lr: float, weight_decay: float, dtype: torch.dtype, momentum: float = 0.95):
        self.dtype = dtype
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Move every matrix by an orthogonal one, times the rate and sqrt(max(1, rows / columns))."""
        found_inf = getattr(self, "found_inf", None)  # () on the device: 1 for a skipped step
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for shape in dict.fromkeys(p.shape for p in moving):
                alike = [p for p in moving if p.shape == shape]
                update = orthogonal(self._look_ahead(alike, group["momentum"], found_inf), self.dtype)
                scale, decay = (
                    group["lr"] * max(1, shape[0] / shape[1]) ** 0.5,
                    group["lr"] * group["weight_decay"],
                )
                if found_inf is not None:
                    update, decay = update * (1 - found_inf), decay * (1 - found_inf)
                if group["weight_decay"]:
                    torch._foreach_mul_(alike, 1 - decay)
                torch._foreach_add_(alike, update.to(alike[0].dtype).unbind(), alpha=-scale)

    def _look_ahead(self, params: list[nn.Parameter], momentum: float, found_inf: Tensor | None) -> Tensor:
        """Return Nesterov's momentum, gradients partly replaced by their running mean: (n, rows, columns)."""
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        means, grads = [self.state[p]["momentum"] for p in params], [p.grad for p in params]
        if found_inf is not None:  # a mean that is mixed with itself stays
            grads = [torch.where(found_inf > 0, mean, grad) for mean, grad in zip(means, grads, strict=True)]
        torch._foreach_lerp_(means, grads, 1 - momentum)
        return torch.stack(torch._foreach_lerp(grads, means, momentum))


def orthogonal(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Draw all singular values towards 1, by Newton and Schulz: (n, rows, columns), the shape it returns."""
    a, b, c = 3.4445, -4.7750, 2.0315  # of the polynomial, chosen to be steep at 0 (Jordan et al. 2024)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # all singular values are at most 1
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).to(dtype, memory_format=torch.contiguous_format)
    for _ in range(ITERATIONS):
        square = x @ x.mT  # (n, rows, rows)
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def make_optimizers(
    model: nn.Module,
    optimizer: str,
    lr: float,
    muon_lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    dtype: torch.dtype,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together move every parameter once.

    ``"adamw"`` moves all with AdamW (Loshchilov and Hutter 2019); ``"muon"`` moves the hidden
    matrices with Muon (Jordan et al. 2024), computing in `dtype`, and the rest (embeddings, head,
    norms, biases) with AdamW. Only matrices decay. Each parameter group keeps
    its peak rate in ``"peak_lr"``.
    """
    muon = {id(p): p for p in hidden_matrices(model)} if optimizer == "muon" else {}
    rest = [p for p in model.parameters() if id(p) not in muon]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, fused=True)
    ]
    if muon:
        optimizers.append(Muon(muon.values(), muon_lr, weight_decay, dtype))
    for group in (group for each in optimizers for group in each.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers


class Together:
    """Several optimizers as one: a GradScaler then decides once for all of them whether a step is skipped."""

    _step_supports_amp_scaling = True

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]):
        self.optimizers = optimizers
        self.param_groups = [group for each in optimizers for group in each.param_groups]

    def step(self) -> None:
        """Let each move its parameters, or none where the scaler found a gradient that is not finite."""
        for each in self.optimizers:
            each.grad_scale, each.found_inf = None, getattr(self, "found_inf", None)
            each.step()


def update(
    models: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    factor: float,
    grad_clip: float,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Move all parameters once along their gradients, at `factor` times the peak rates; clear the gradients.

    Each model's gradient is clipped to the norm `grad_clip`, 0 for not at all. Of float16's scaled
    gradients it is decided first, before clipping, whether all are finite: if not, no optimizer moves.
    """
    together = Together(optimizers)
    for group in together.param_groups:
        group["lr"] = group["peak_lr"] * factor
    if scaler:
        scaler.unscale_(together)
    for model in models if grad_clip else ():
        nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    if scaler:
        scaler.step(together)
        scaler.update()
    else:
        together.step()
    for optimizer in optimizers:
        optimizer.zero_grad()
