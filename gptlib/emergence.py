"""Emergent abilities: where a sum comes out right to the last digit, and what other yardsticks say of it.

A family of models that differ in width alone learns to add (or subtract, or multiply) numbers written in
digits. Their answers are scored by exact match, which is all or nothing, and by measures that give
credit for less (Schaeffer et al. 2023).

Shapes: B problems, L tokens of a problem, n digits of an answer, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gptlib.budget import Budget
from gptlib.memory import send
from gptlib.minimising import Recipe, train_family
from gptlib.model import GPT, GPTConfig
from gptlib.sampling import generate
from gptlib.tasks import is_held_out
from gptlib.tokenizers import CharTokenizer
from gptlib.training import answer_loss, next_token_loss

TOKENIZER = CharTokenizer("0123456789+-*=")
OPERATIONS = ("+", "-", "*")
WIDTHS = (8, 12, 16, 24, 32, 48, 64, 128)  # of the recorded models, in channels
HEADS = 4
BATCH_SIZE, STEPS = 192, 1800
LR, MUON_LR = 0.004, 0.015
LOOKS = 12  # scores taken on the way


@dataclass(frozen=True)
class Arithmetic:
    """Problems such as 123+456=9750: numbers of `digits` digits, the answer from its last digit on."""

    operation: str = "+"  # "+"; "-", the smaller from the larger; "*", by a number from 2 to 9
    digits: int = 3

    def __post_init__(self):
        if self.operation not in OPERATIONS or not 1 <= self.digits <= 9:
            raise ValueError("operation is '+', '-' or '*', digits are 1 to 9")

    @property
    def n(self) -> int:
        """The number of digits of an answer."""
        return self.digits + 1

    @property
    def length(self) -> int:
        """The number of tokens of a problem with its answer."""
        return 2 * self.digits + 2 + self.n

    def draw(self, B: int, generator: torch.Generator, held_out: bool = False) -> Tensor:
        """Draw problems with their answers: (B, L). Held-out pairs of numbers are not among the others.

        A pair is held out in both orders: b + a would tell a + b.
        """
        pairs = torch.empty(0, 2, dtype=torch.long)
        while len(pairs) < B:
            drawn = torch.randint(10**self.digits, (4 * B, 2), generator=generator)
            if self.operation == "*":
                drawn[:, 1] = drawn[:, 1] % 8 + 2
            if self.operation == "-":
                drawn = drawn.sort(1, descending=True).values
            larger, smaller = drawn.amax(1), drawn.amin(1)  # each (4 B,)
            pairs = torch.cat([pairs, drawn[is_held_out(larger * 1_000_003 + smaller) == held_out]])
        return self.write(*pairs[:B].T)

    def write(self, a: Tensor, b: Tensor) -> Tensor:
        """Write numbers (B,) and (B,), for "-" the larger first, as problems with answers: (B, L)."""
        answer = {"+": a + b, "-": a - b, "*": a * b}[self.operation]
        signs = torch.tensor(TOKENIZER.encode(self.operation + "=")).expand(len(a), 2)
        places = 10 ** torch.arange(self.n)  # from the last digit on
        a, b = (number[:, None] // places[: self.digits].flip(0) % 10 for number in (a, b))
        return torch.cat([a, signs[:, :1], b, signs[:, 1:], answer[:, None] // places % 10], 1)


def arithmetic_model(
    problems: Sequence[Arithmetic],
    width: int,
    seed: int = 0,
    steps: int = STEPS,
    rate: float = 1.0,
    on_step: Callable[[GPT, int], None] | None = None,
) -> GPT:
    """Return a GPT of two layers and `width` channels, trained on answers to problems drawn anew each step.

    All kinds of problems come equally often, and have the same length. `rate` multiplies the learning
    rates; `on_step` is called with the model and the number of each step.
    """
    return arithmetic_family(problems, width, [seed], steps, rate, on_step)[0]


def arithmetic_family(
    problems: Sequence[Arithmetic],
    width: int,
    seeds: Sequence[int],
    steps: int = STEPS,
    rate: float = 1.0,
    on_step: Callable[[GPT, int], None] | None = None,
) -> list[GPT]:
    """Return the models that `arithmetic_model` trains for these seeds, trained as one.

    `on_step` is called with each model after each step.
    """
    shape = dict(context_length=problems[0].length - 1, n_layer=2, n_head=HEADS, n_embd=width)
    config, device = GPTConfig.aligned(TOKENIZER.vocab_size, **shape), Budget.detect().device
    models = [GPT(config, seed).to(device) for seed in seeds]

    def draw(generator: torch.Generator) -> tuple[Tensor]:
        ids = torch.cat([each.draw(BATCH_SIZE // len(problems), generator) for each in problems])
        return (send(ids, device),)

    def loss(model: GPT, ids: Tensor) -> Tensor:
        return answer_loss(model, ids, problems[0].n)

    def look(step: int) -> None:
        for model in models:
            on_step(model, step)

    recipe = Recipe(steps, rate * LR, rate * MUON_LR)
    train_family(models, draw, loss, recipe, seeds=seeds, on_step=look if on_step else None)
    return models


@torch.no_grad()
def scores(model: GPT, problems: Arithmetic, B: int = 1000, seed: int = 10_000) -> dict[str, float]:
    """Return a model's scores on B held-out problems.

    `exact`: the share of answers with all digits right. A model that writes on its own has written right
    digits as long as its answer is right, so this is also the share in which every digit is right after
    the true ones before it. `digit 1`, ... from the number's last, and `digits`, their mean: shares of
    right digits after the true ones. `product`: what `exact` would be if digits failed independently.
    `edits`: the mean number of single-digit edits from the written answer to the true one. `loss`: nats
    per digit.
    """
    ids = problems.draw(B, torch.Generator().manual_seed(seed), held_out=True)
    ids, n = ids.to(next(model.parameters()).device), problems.n
    logits = model(ids[:, :-1])[:, -n:]  # (B, n, V)
    right = (logits.argmax(-1) == ids[:, -n:]).float()  # (B, n)
    written = generate(model, ids[:, :-n], max_tokens=n, temperature=0)[:, -n:]  # (B, n)
    edits = [levenshtein(a, b) for a, b in zip(written.tolist(), ids[:, -n:].tolist(), strict=True)]
    by_digit = right.mean(0)
    return {f"digit {i}": share for i, share in enumerate(by_digit.tolist(), 1)} | {
        "exact": right.all(1).float().mean().item(),
        "digits": by_digit.mean().item(),
        "product": by_digit.prod().item(),
        "edits": sum(edits) / B,
        "loss": next_token_loss(logits, ids[:, -n:]).item(),
    }


def levenshtein(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the least number of insertions, deletions and replacements that turn a into b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(before + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def modular_sums(p: int = 97, share: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return all problems a + b = c modulo p, written a b = c in one token each: trained and held out.

    A pair of numbers comes once, the smaller first: with both orders, b + a would tell a + b. Token p is
    the "=". `share` is that of the trained problems. Shapes (N, 4) and (M, 4). After Power et al. (2022).
    Raises ValueError when one of the parts would be empty.
    """
    a, b = torch.triu_indices(p, p)
    ids = torch.stack([a, b, torch.full_like(a, p), (a + b) % p], 1)  # (N + M, 4)
    ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
    if not 0 < round(share * len(ids)) < len(ids):
        raise ValueError(f"share is that of the trained problems, between 0 and 1, not {share}")
    return ids.tensor_split([round(share * len(ids))])


def delayed_generalisation(
    trained: Tensor, held_out: Tensor, steps: int = 1800, weight_decay: float = 0.3, seed: int = 0
) -> list[dict[str, float]]:
    """Train one layer of 64 channels on problems, over and over; return both accuracies every 50 steps.

    Problems (N, 4) and (M, 4) as from `modular_sums`, 384 of the trained a step, drawn with replacement;
    the rates fall to 0 over the second half of the steps. What comes late on the held-out problems is
    called grokking (Power et al. 2022).
    """
    return delayed_family([(trained, held_out)], [seed], steps, weight_decay)[0]


def delayed_family(
    parts: Sequence[tuple[Tensor, Tensor]],
    seeds: Sequence[int],
    steps: int = 1800,
    weight_decay: float = 0.3,
) -> list[list[dict[str, float]]]:
    """Return the rows of `delayed_generalisation` for several parts and seeds, trained as one."""
    shape = dict(context_length=3, n_layer=1, n_head=HEADS, n_embd=64)
    device = Budget.detect().device
    parts = [(trained.to(device), held_out.to(device)) for trained, held_out in parts]
    config = GPTConfig.aligned(int(parts[0][0].max()) + 1, **shape)
    models = [GPT(config, seed).to(device) for seed in seeds]
    rows: list[list[dict[str, float]]] = [[] for _ in models]

    def drawing(trained: Tensor) -> Callable[[torch.Generator], tuple[Tensor]]:
        return lambda generator: (
            trained[send(torch.randint(len(trained), (384,), generator=generator), device)],
        )

    def look(step: int) -> None:
        if step % 50 == 0:
            for its_rows, model, (trained, held_out) in zip(rows, models, parts, strict=True):
                right = {"trained": _right(model, trained), "held out": _right(model, held_out)}
                its_rows.append({"step": step} | right)

    train_family(
        models,
        [drawing(trained) for trained, _ in parts],
        lambda model, ids: answer_loss(model, ids, 1),
        Recipe(steps, 0.002, 0.008, (0.9, 0.98), weight_decay),
        seeds=seeds,
        on_step=look,
    )
    return rows


@torch.no_grad()
def _right(model: GPT, ids: Tensor) -> float:
    """Return the share of problems (N, 4) whose last token a model predicts."""
    predicted = model.head(model.states(ids[:, :-1], last=1))[:, 0].argmax(-1)  # (N,)
    return (predicted == ids[:, -1]).float().mean().item()


def recorded_scores(width: int, rate: float, seeds: Sequence[int]) -> list[dict[str, str | int | float]]:
    """Train on all operations; return the scores of each at the end, and some along the way: a row a seed."""
    problems = [Arithmetic(operation) for operation in OPERATIONS]
    traces: dict[GPT, dict[str, list[float]]] = {}

    def look(model: GPT, step: int) -> None:
        if step % (STEPS // LOOKS) == 0:
            for each in problems:
                now, trace = scores(model, each, B=300), traces.setdefault(model, {})
                for what in ("exact", "digits", "loss"):
                    trace.setdefault(f"{each.operation} {what} on the way", []).append(now[what])

    tokens, rows = STEPS * BATCH_SIZE * (problems[0].length - 1), []
    for model in arithmetic_family(problems, width, seeds, STEPS, rate, look):
        row = {"params": model.n_params, "flops": 3 * tokens * model.config.flops_per_token()}
        for each in problems:
            row |= {f"{each.operation} {name}": round(its, 5) for name, its in scores(model, each).items()}
        trace = traces[model].items()
        rows.append(row | {name: " ".join(f"{value:.3f}" for value in values) for name, values in trace})
    return rows


def scores_by_digits(width: int, digits: int, seeds: Sequence[int]) -> list[dict[str, int | float]]:
    """Train on all operations with numbers of so many digits; return some scores at the end: a row a seed."""
    problems = [Arithmetic(operation, digits) for operation in OPERATIONS]
    return [
        {"params": model.n_params}
        | {
            f"{each.operation} {name}": round(value, 5)
            for each in problems
            for name, value in scores(model, each).items()
            if name in ("exact", "digits", "product", "loss")
        }
        for model in arithmetic_family(problems, width, seeds, STEPS)
    ]


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """Return where y first reaches a level, between two values of x on a log scale; x ascends.

    Raises ValueError when y starts at the level or above it, or never reaches it.
    """
    reached = np.flatnonzero(np.asarray(y) >= level)
    if not len(reached) or reached[0] == 0:
        raise ValueError(f"y goes from {y[0]:.3g} to {y[-1]:.3g}: it does not cross {level} on the way")
    i = reached[0]
    share = (level - y[i - 1]) / (y[i] - y[i - 1])
    return float(np.exp(np.log(x[i - 1]) + share * np.log(x[i] / x[i - 1])))
