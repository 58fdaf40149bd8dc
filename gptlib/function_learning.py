"""Learn a function from its examples within one forward pass (Garg et al. 2022, "What can transformers
learn in-context?").

Every sequence holds points of a new linear function y = w . x. A transformer reads x_1, y_1, x_2, y_2, ...
and predicts each y from what came before; the classical estimators do the same with the same points.

Shapes: B functions, n points each, d dimensions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.budget import Budget
from gptlib.checks import check_types
from gptlib.layers import Linear
from gptlib.memory import send
from gptlib.minimising import Recipe, train_on_loss
from gptlib.model import Block, GPTConfig, make_norm

Predictor = Callable[[Tensor, Tensor], Tensor]  # x (B, n, d), y (B, n) -> predictions of y (B, n)

RECORDED = {  # by dimensions: layers, heads, channels, steps, functions a step
    2: (6, 4, 32, 1200, 64),
    3: (8, 4, 32, 1200, 64),
    5: (8, 4, 48, 1500, 64),
}


@dataclass(frozen=True)
class LinearFunctions:
    """Where functions and their points come from: w and x are normal, y = w . x and noise."""

    d: int = 2  # dimensions of x
    n: int = 7  # points of a function
    noise: float = 0.0  # standard deviation added to y
    scale: float = 1.0  # standard deviation of the inputs
    skew: float = 0.0  # the i-th coordinate is scaled by i^-skew, then all so that |x|^2 keeps its mean

    def __post_init__(self):
        check_types(self)
        if self.d < 1 or self.n < 1 or self.noise < 0 or not self.scale > 0:
            raise ValueError("d and n are at least 1, noise is 0 or more, scale is above 0")

    def draw(self, B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw B functions and n points of each: x (B, n, d) and y (B, n)."""
        w = torch.randn(B, 1, self.d, generator=generator)
        spread = torch.arange(1.0, self.d + 1) ** -self.skew  # (d,)
        spread = self.scale * spread * math.sqrt(self.d) / spread.norm()
        x = torch.randn(B, self.n, self.d, generator=generator) * spread
        y = (w * x).sum(-1) + self.noise * torch.randn(B, self.n, generator=generator)
        return x, y

    @property
    def trivial_error(self) -> float:
        """The mean squared error of always answering 0, noise left out: d scale^2."""
        return self.d * self.scale**2


def zero(x: Tensor, y: Tensor) -> Tensor:
    """Always answer 0: (B, n)."""
    return torch.zeros_like(y)


def averaging(x: Tensor, y: Tensor) -> Tensor:
    """Take the mean of x y for w, which is right on average as x has unit variance: (B, n)."""
    products = torch.cumsum(x * y[..., None], 1)  # (B, n, d)
    counts = torch.arange(1, y.shape[1])[:, None]  # examples before the second point, the third, ...
    w = F.pad(products[:, :-1] / counts, (0, 0, 1, 0))  # (B, n, d): 0 where there is no example yet
    return (w * x).sum(-1)


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Answer the mean y of the three nearest examples, or of as many as there are: (B, n)."""
    answers = torch.zeros_like(y)
    for k in range(1, y.shape[1]):
        distances = (x[:, :k] - x[:, k : k + 1]).norm(dim=-1)  # (B, k)
        near = distances.topk(min(3, k), largest=False).indices  # (B, 3)
        answers[:, k] = y[:, :k].gather(1, near).mean(1)
    return answers


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Answer by the line through the examples; by the shortest w where several fit: (B, n)."""
    return _by_weights(x, y, lambda seen, told: torch.linalg.pinv(seen) @ told)


def ridge(penalty: float) -> Predictor:
    """Return ridge regression. With the noise's variance for a penalty, none errs less.

    As w is standard normal, its answer is then the mean over all functions that could have made the
    examples, each by its probability (Bayes).
    """

    def predict(x: Tensor, y: Tensor) -> Tensor:
        identity = torch.eye(x.shape[-1], dtype=torch.double)  # a small penalty is lost in float32

        def weights(seen: Tensor, told: Tensor) -> Tensor:
            return torch.linalg.solve(seen.mT @ seen + penalty * identity, seen.mT @ told)

        return _by_weights(x.double(), y.double(), weights).float()

    return predict


def _by_weights(x: Tensor, y: Tensor, weights: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Answer each question by the w, (B, d, 1), that `weights` finds in its k examples: (B, n)."""
    answers = torch.zeros_like(y)
    for k in range(1, y.shape[1]):
        w = weights(x[:, :k], y[:, :k, None])  # of (B, k, d) and (B, k, 1)
        answers[:, k] = (x[:, k] * w[..., 0]).sum(-1)
    return answers


class FunctionLearner(nn.Module):
    """A GPT's blocks over points instead of words: each x and each y is a vector read in by one matrix."""

    def __init__(self, d: int, n: int, n_layer: int, n_head: int, n_embd: int, seed: int = 0):
        super().__init__()
        self.d = d
        config = GPTConfig.modern(1, context_length=2 * n, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
        self.read = Linear(d + 1, n_embd, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(n_layer))
        self.norm, self.head = make_norm(config), Linear(n_embd, 1, bias=False)
        generator = torch.Generator().manual_seed(2 * seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 2:
                    into_residual = name.endswith("out.weight")
                    std = 0.0 if into_residual else 1 / math.sqrt(weight.shape[1])
                    weight.normal_(0, std, generator=generator)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Predict each y from the points before it and its own x: (B, n, d), (B, n) -> (B, n)."""
        inputs = F.pad(x, (0, 1))  # (B, n, d + 1): the last channel is that of y
        outputs = F.pad(y[..., None], (self.d, 0))  # (B, n, d + 1)
        points = torch.stack([inputs, outputs], 2).flatten(1, 2)  # (B, 2n, d + 1): x_1, y_1, x_2, y_2, ...
        states = self.read(send(points, self.read.weight.device))  # (B, 2n, C)
        for block in self.blocks:
            states = block(states)
        return self.head(self.norm(states[:, 0::2]))[..., 0]  # (B, n): asked where an x was read


def fit(
    learner: FunctionLearner,
    functions: LinearFunctions,
    steps: int = 1200,
    batch_size: int = 64,
    seed: int = 0,
) -> list[float]:
    """Train a learner in place, on functions drawn anew each step; return each step's mean squared error."""
    learner.to(Budget.detect().device)
    recipe = Recipe(steps, lr=0.003, muon_lr=0.02, betas=(0.9, 0.95))
    return train_on_loss(
        learner, lambda generator: functions.draw(batch_size, generator), error, recipe, seed=seed
    )


def error(learner: FunctionLearner, x: Tensor, y: Tensor) -> Tensor:
    """Return a learner's mean squared error: () from (B, n, d) and (B, n)."""
    predicted = learner(x, y)
    return F.mse_loss(predicted, send(y, predicted.device))


@torch.no_grad()
def evaluate(
    predictors: Mapping[str, Predictor], functions: LinearFunctions, B: int = 4000, seed: int = 10_000
) -> pd.DataFrame:
    """Return the mean squared error of each predictor after 0 to n - 1 examples, on B new functions.

    A row each: predictor, examples, `error` over the trivial error (noise included in both targets
    and error), and `clean`, the same against w . x without its noise.
    """
    x, y = functions.draw(B, torch.Generator().manual_seed(seed))
    _, truth = replace(functions, noise=0.0).draw(B, torch.Generator().manual_seed(seed))
    rows = []
    for name, predictor in predictors.items():
        answers = predictor(x, y).cpu()  # (B, n)
        noisy, clean = ((answers - goal).square().mean(0) / functions.trivial_error for goal in (y, truth))
        rows += [
            {"predictor": name, "examples": k, "error": noisy[k].item(), "clean": clean[k].item()}
            for k in range(functions.n)
        ]
    return pd.DataFrame(rows)


def errors(d: int, noise: float, seed: int) -> dict[str, str | int | float]:
    """Train a learner of the size in RECORDED; return its errors beside ridge's, after 0, 1, ... examples."""
    n_layer, n_head, n_embd, steps, batch_size = RECORDED[d]
    functions = LinearFunctions(d, 2 * d + 3, noise)
    learner = FunctionLearner(d, functions.n, n_layer, n_head, n_embd, seed)
    fit(learner, functions, steps, batch_size, seed)
    rows = evaluate({"transformer": learner, "ridge": ridge(noise**2 or 1e-6)}, functions)
    row: dict[str, str | int | float] = {"params": sum(p.numel() for p in learner.parameters())}
    for name, its_rows in rows.groupby("predictor"):
        for kind in ("error", "clean"):
            row[f"{name} {kind}"] = " ".join(f"{value:.5f}" for value in its_rows[kind])
    return row


def error_after(runs: pd.DataFrame, predictor: str, per_dimension: int) -> list[float]:
    """Return, for each recorded run, a predictor's error after per_dimension * d examples."""
    pairs = zip(runs[f"{predictor} error"].str.split(), runs["d"], strict=True)
    return [float(errors[per_dimension * d]) for errors, d in pairs]
