"""Train a model to predict the next token, and measure how well it does."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptlib.budget import Budget
from gptlib.optim import make_optimizers, schedule
from gptlib.progress import progress
from gptlib.tokenizers import EncodedCorpus


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Bad values are refused here, before any time is spent."""

    steps: int = 1000  # updates of the weights
    batch_size: int = 16  # B, windows a forward pass
    accumulate: int = 1  # forward passes an update; the effective batch is batch_size x accumulate
    optimizer: str = "muon"  # for the hidden matrices, AdamW for the rest; or "adamw" for all
    lr: float = 0.01  # AdamW's peak rate
    muon_lr: float = 0.02  # Muon's peak rate
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's memory of the gradient and of its square
    weight_decay: float = 0.0  # pull of the matrices towards 0, times the rate, a step
    warmup: int = 0  # steps over which the rate rises
    decay: str = "linear"  # or "cosine" or "constant"
    decay_fraction: float = 0.5  # share of the steps, the last ones, over which the rate falls
    final_lr: float = 0.0  # where it falls to, as a share of the peak
    grad_clip: float = 1.0  # largest norm of the gradient; 0 turns clipping off
    eval_every: int = 100  # steps between evaluations; 0: only at the end
    eval_tokens: int = 20_000  # validation tokens read at each evaluation on the way
    seed: int = 0  # of the batches and of dropout

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "lr", "muon_lr", "eval_tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} must be above 0, or nothing is learned; it is {getattr(self, name)}"
                )
        for name in ("weight_decay", "warmup", "grad_clip", "eval_every", "final_lr"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 < self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction is a share of the steps in (0, 1], not {self.decay_fraction}")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer must be 'muon' or 'adamw', not {self.optimizer!r}")
        if self.decay not in ("linear", "cosine", "constant"):
            raise ValueError(f"decay must be 'linear', 'cosine' or 'constant', not {self.decay!r}")


@dataclass(frozen=True)
class Record:
    """One loss and what had been spent when it was measured."""

    step: int  # updates done
    tokens: int  # training tokens read
    flops: float  # spent in training, in matrix products
    seconds: float  # spent in training, evaluation left out
    loss: float  # nats per token: mean over the batch, or over the validation tokens read
    lr_factor: float  # the learning rate, as a share of its peak


@dataclass
class History:
    """The losses of a run: `train` at every step, `validation` where it was measured."""

    train: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)

    @property
    def final(self) -> Record:
        """The last validation: over the whole validation text."""
        return self.validation[-1]


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over B and T of -log p(target), in nats: logits (B, T, V), targets (B, T) -> ()."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def check_length(ids: Tensor, context_length: int) -> None:
    """Raise ValueError when ids (N,) are fewer than one context and the token after it."""
    if len(ids) <= context_length:
        raise ValueError(
            f"{len(ids)} tokens are fewer than one context of {context_length} and the token after it: "
            "take a longer text or a smaller context_length"
        )


def draw_batch(
    ids: Tensor, batch_size: int, context_length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut windows at random places: ids (N,) -> inputs (B, T) and targets (B, T), the inputs shifted by one.

    Raises ValueError when ids is not longer than context_length.
    """
    check_length(ids, context_length)
    starts = torch.randint(len(ids) - context_length, (batch_size, 1), generator=generator)  # (B, 1)
    windows = ids[(starts + torch.arange(context_length + 1)).to(ids.device)]  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def evaluate(model: nn.Module, ids: Tensor, tokens: int | None = None, batch_size: int = 64) -> float:
    """Return the mean loss over consecutive windows of ids (N,), in nats per token.

    Every token is predicted once, the remainder after the last whole window left out. `tokens`
    limits the cost: then evenly spaced windows, the same at every call, are read instead of all.
    Raises ValueError when ids is not longer than one context.
    """
    T = model.context_length
    check_length(ids, T)
    n_windows = (len(ids) - 1) // T
    wanted = n_windows if tokens is None else min(n_windows, max(tokens // T, 1))
    starts = torch.linspace(0, n_windows - 1, wanted).round().long()[:, None] * T  # (windows, 1)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = 0.0
    for start in starts.split(batch_size):
        windows = ids[(start + torch.arange(T + 1)).to(ids.device)].to(device)  # (B, T + 1)
        total += next_token_loss(model(windows[:, :-1]), windows[:, 1:]).item() * len(start)
    model.train(was_training)
    return total / wanted


def training_flops_per_token(model: nn.Module, T: int) -> float:
    """Return the floating-point operations that training on one token takes, read off the running modules.

    Counts the matrix products of a forward pass over T tokens; the backward pass costs twice as
    much again (Kaplan et al. 2020, section 2.1).
    """
    ids = torch.zeros((1, T), dtype=torch.long, device=next(model.parameters()).device)
    # The counter does not know the CPU's fused attention; the plain one is the same products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids)
    return 3 * counter.get_total_flops() / T


def train(
    model: nn.Module,
    data: EncodedCorpus,
    config: TrainConfig | None = None,
    budget: Budget | None = None,
    on_evaluation: Callable[[Record], None] | None = None,
) -> History:
    """Train a model in place on next-token prediction; return its losses.

    `model` maps ids (B, T) to logits (B, T, V) and has a `context_length`. The same seed on the
    same machine gives the same curve. `on_evaluation` is called with each validation record.
    Raises ValueError when a text is shorter than one context, or as soon as a loss is not finite.
    """
    config, budget = config or TrainConfig(), budget or Budget.detect()
    check_length(data.validation, model.context_length)
    with torch.random.fork_rng():  # dropout draws from the global generator: lend it our seed
        torch.manual_seed(config.seed)
        return _train(model.to(budget.device), data, config, budget, on_evaluation)


def _train(model, data, config, budget, on_evaluation) -> History:
    T, device = model.context_length, budget.device
    optimizers = make_optimizers(
        model, config.optimizer, config.lr, config.muon_lr, config.betas, config.weight_decay
    )
    scaler = torch.amp.GradScaler(device.type, enabled=budget.dtype == torch.float16)
    generator = torch.Generator().manual_seed(config.seed)
    ids = data.train.to(device)
    tokens_per_step = config.batch_size * config.accumulate * T
    flops_per_step = tokens_per_step * training_flops_per_token(model, T)
    history, seconds = History(), 0.0
    model.train()
    for step in (bar := progress(range(1, config.steps + 1), desc="training", unit="step")):
        began = time.perf_counter()
        factor = schedule(
            step - 1, config.steps, config.warmup, config.decay, config.decay_fraction, config.final_lr
        )
        loss = 0.0
        for _ in range(config.accumulate):
            inputs, targets = draw_batch(ids, config.batch_size, T, generator)  # each (B, T)
            with torch.autocast(device.type, budget.dtype, enabled=budget.dtype != torch.float32):
                batch_loss = next_token_loss(model(inputs), targets) / config.accumulate
            scaler.scale(batch_loss).backward()
            loss += batch_loss.item()
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {step}: lower the learning rate or warm up for longer"
            )
        _update(model, optimizers, scaler, factor, config.grad_clip)
        seconds += time.perf_counter() - began
        spent = (step, step * tokens_per_step, step * flops_per_step, seconds)
        history.train.append(Record(*spent, loss, factor))
        last = step == config.steps
        if last or (config.eval_every and step % config.eval_every == 0):
            validation_loss = evaluate(model, data.validation, None if last else config.eval_tokens)
            history.validation.append(Record(*spent, validation_loss, factor))
            bar.set_postfix(train=f"{loss:.3f}", validation=f"{validation_loss:.3f}")
            if on_evaluation:
                on_evaluation(history.validation[-1])
    return history


def _update(model, optimizers, scaler, factor: float, grad_clip: float) -> None:
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
    if grad_clip:
        nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    for optimizer in optimizers:
        optimizer.zero_grad()
