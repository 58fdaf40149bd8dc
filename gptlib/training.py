"""Train a model to predict the next token, and measure how well it does."""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from gptlib.budget import Budget
from gptlib.checkpoints import Keeper, TrainingState
from gptlib.checks import check_types
from gptlib.distributed import mean_over_ranks, process_group, rank, world_size
from gptlib.history import History, Interrupted, Record, steps_between_looks
from gptlib.memory import keep_freed_memory, send
from gptlib.model import GPT
from gptlib.optim import make_optimizers, schedule, update
from gptlib.progress import progress
from gptlib.tokenizers import EncodedCorpus


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Bad values are refused here, before any time is spent."""

    steps: int = 1000  # updates of the weights
    batch_size: int = 16  # B, windows a forward pass, of all processes together
    accumulate: int = 1  # forward passes an update; the effective batch is batch_size x accumulate
    optimizer: str = "muon"  # for the hidden matrices, AdamW for the rest; or "adamw" for all
    lr: float = 0.007  # AdamW's peak rate beside Muon; alone it wants 0.001 to 0.004
    muon_lr: float = 0.03  # Muon's peak rate
    betas: tuple[float, float] = (0.8, 0.95)  # AdamW's memory of the gradient and of its square
    weight_decay: float = 0.0  # pull of the matrices towards 0, times the rate, a step
    warmup: int = 0  # steps over which the rate rises
    decay: str = "linear"  # or "cosine" or "constant"
    decay_fraction: float = 0.8  # share of the steps, the last ones, over which the rate falls
    final_lr: float = 0.0  # where it falls to, as a share of the peak
    grad_clip: float = 1.0  # largest norm of the gradient; 0 turns clipping off
    eval_every: int = 100  # steps between evaluations; 0: only at the end
    eval_tokens: int = 20_000  # validation tokens read at each evaluation on the way
    seed: int = 0  # of the batches and of dropout
    compile: bool = False  # torch.compile: takes a minute to start, worth it for long runs on a GPU

    def __post_init__(self):
        check_types(self)
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

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1, as a share of its peak."""
        return schedule(step - 1, self.steps, self.warmup, self.decay, self.decay_fraction, self.final_lr)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over B and T of -log p(target), in nats: logits (B, T, V), targets (B, T) -> ()."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def answer_loss(model: nn.Module, ids: Tensor, n: int) -> Tensor:
    """Return the mean loss of each row's last n tokens, in nats: (B, T) -> ()."""
    given = ids[:, :-1]
    logits = model.head(model.states(given, last=n)) if isinstance(model, GPT) else model(given)[:, -n:]
    return next_token_loss(logits, ids[:, -n:])


def check_length(ids: Tensor, context_length: int) -> None:
    """Raise ValueError when ids (N,) are fewer than one context and the token after it."""
    if len(ids) <= context_length:
        raise ValueError(
            f"{len(ids)} tokens are fewer than one context of {context_length} and the token after it: "
            "take a longer text or a smaller context_length"
        )


def draw_batch(
    ids: Tensor,
    batch_size: int,
    context_length: int,
    generator: torch.Generator,
    share: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Cut windows at random places: ids (N,) -> inputs (B, T) and targets (B, T), the inputs shifted by one.

    `share` says which of the B windows this process is to have. Raises ValueError when ids is not
    longer than context_length.
    """
    check_length(ids, context_length)
    starts = torch.randint(len(ids) - context_length, (batch_size, 1), generator=generator)[share]  # (B, 1)
    places = send(starts, ids.device) + torch.arange(context_length + 1, device=ids.device)
    windows = ids[places]  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def evaluate(
    model: nn.Module, ids: Tensor, tokens: int | None = None, batch_size: int | None = None
) -> float:
    """Return the mean loss over consecutive windows of ids (N,), in nats per token.

    Every token is predicted once, the remainder after the last whole window left out. `tokens`
    limits the cost: then evenly spaced windows, the same at every call, are read instead of all;
    batch_size of them at once (None: 8,192 tokens). Several processes share the work.
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
    total = torch.zeros((), device=device)
    for start in starts[rank() :: world_size()].split(batch_size or max(8192 // T, 1)):
        if not len(start):  # more processes than windows: this one adds nothing, and none waits in vain
            continue
        windows = ids[(start + torch.arange(T + 1)).to(ids.device)].to(device)  # (B, T + 1)
        total += next_token_loss(model(windows[:, :-1]), windows[:, 1:]) * len(start)
    model.train(was_training)
    return mean_over_ranks(total).item() * world_size() / wanted


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
    *,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
) -> History:
    """Train a model in place on next-token prediction, leave it in evaluation mode; return its losses.

    `model` maps ids (B, T) to logits (B, T, V) and has a `context_length`. The same seed on the
    same machine gives the same curve. `on_evaluation` is called with each validation record.
    With a `checkpoint_dir`, all that is needed to go on is written there every `checkpoint_every`
    steps; `resume` goes on from the newest, and the result is that of a run never stopped. More steps, or
    another decay, may be asked of it, as long as the steps done keep their rates.
    Interrupted from the keyboard, it warns and returns the history so far. Under torchrun, all
    processes train the same model together.
    Raises ValueError when a text is shorter than one context, as soon as a loss is not finite, or when
    a checkpoint is damaged or belongs to another run; OSError when one cannot be written.
    """
    config, budget = config or TrainConfig(), budget or Budget.detect()
    T = model.context_length
    check_length(data.train, T)
    check_length(data.validation, T)
    keep_freed_memory()
    keeper = Keeper(checkpoint_dir, checkpoint_every, resume)
    with torch.random.fork_rng(), process_group(budget.device) as device, keeper.alone():
        tokens_per_step = config.batch_size * config.accumulate * T
        flops_per_step = tokens_per_step * training_flops_per_token(model.to(device), T)
        # Dropout draws from the global generator: lend it our seed, another to each process.
        torch.manual_seed(config.seed + rank())
        dtype = budget.dtype_for(model)
        state = _start(model, config, device, dtype)
        keeper.take_up(state, asdict(config), config.lr_factor, data)
        forward = DistributedDataParallel(model) if world_size() > 1 else model
        forward = torch.compile(forward) if config.compile else forward
        ids, history, waiting = data.train.to(device), state.history, []
        wait_for = steps_between_looks(device)
        steps = range(state.step + 1, config.steps + 1)
        bar = progress(steps, initial=state.step, total=config.steps, desc="training", unit="step")
        model.train()
        try:
            for step in bar:
                began = time.perf_counter()
                factor = config.lr_factor(step)
                loss = _backward(forward, ids, T, config, dtype, state)
                spent = (step, step * tokens_per_step, step * flops_per_step)
                waiting.append((spent, state.seconds + time.perf_counter() - began, loss, factor))
                last = step == config.steps
                evaluating = last or (config.eval_every and step % config.eval_every == 0)
                if evaluating or keeper.due(step) or len(waiting) == wait_for:
                    history.train += _arrived(waiting)
                update([model], state.optimizers, factor, config.grad_clip, state.scaler)
                state.step, state.seconds = step, state.seconds + time.perf_counter() - began
                if evaluating:
                    validation_loss = evaluate(model, data.validation, None if last else config.eval_tokens)
                    history.validation.append(Record(*spent, state.seconds, validation_loss, factor))
                    bar.set_postfix(
                        train=f"{history.train[-1].loss:.3f}", validation=f"{validation_loss:.3f}"
                    )
                    if on_evaluation and rank() == 0:
                        on_evaluation(history.validation[-1])
                if last or keeper.due(step):
                    keeper.keep(state)
        except KeyboardInterrupt:
            if world_size() > 1:
                raise
            _wind_up(state, waiting, data, config)
    model.eval()
    return history


def _start(model: nn.Module, config: TrainConfig, device: torch.device, dtype: torch.dtype) -> TrainingState:
    """Make what a run needs beside the model."""
    if config.batch_size % world_size():
        raise ValueError(
            f"batch_size is that of all processes together: {config.batch_size} windows do not divide "
            f"among {world_size()}"
        )
    half = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32  # float16 has too few exponents
    optimizers = make_optimizers(
        model, config.optimizer, config.lr, config.muon_lr, config.betas, config.weight_decay, half
    )
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return TrainingState(model, optimizers, scaler, torch.Generator().manual_seed(config.seed))


def _backward(forward, ids: Tensor, T: int, config: TrainConfig, dtype: torch.dtype, state) -> Tensor:
    """Add up the gradients of one step; return its loss, (), which a GPU may still be working on."""
    loss = torch.zeros((), device=ids.device)
    share = slice(rank(), None, world_size())
    for part in range(1, config.accumulate + 1):
        inputs, targets = draw_batch(ids, config.batch_size, T, state.batches, share)  # each (B, T)
        alone = world_size() > 1 and part < config.accumulate  # gradients are exchanged once a step
        with (
            forward.no_sync() if alone else nullcontext(),
            torch.autocast(ids.device.type, dtype, enabled=dtype != torch.float32),
        ):
            part_loss = next_token_loss(forward(inputs), targets) / config.accumulate
        state.scaler.scale(part_loss).backward()
        loss += part_loss.detach()
    return loss


def _arrived(waiting: list[tuple]) -> list[Record]:
    """Wait for the losses, and empty the list. Raises ValueError when one of them is not finite."""
    losses = mean_over_ranks(torch.stack([loss for *_, loss, _ in waiting])).tolist()
    records = []
    for (spent, seconds, _, factor), loss in zip(waiting, losses, strict=True):
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {spent[0]}: lower the learning rate or warm up for longer"
            )
        records.append(Record(*spent, seconds, loss, factor))
    waiting.clear()
    return records


def _wind_up(state: TrainingState, waiting: list[tuple], data: EncodedCorpus, config: TrainConfig) -> None:
    """End an interrupted run so that its history can be read."""
    history = state.history
    history.interrupted = True
    if waiting:
        history.train += _arrived(waiting)
    del history.train[state.step :]  # the loss of a step that was not finished
    now = history.train[-1] if history.train else Record(0, 0, 0.0, 0.0, 0.0, 1.0)
    history.validation.append(replace(now, loss=evaluate(state.model, data.validation, config.eval_tokens)))
    warnings.warn(
        f"interrupted after step {state.step} of {config.steps}: the model is as it is now, the history "
        "that of the steps done",
        Interrupted,
        stacklevel=3,
    )
