"""Running sums: a problem that takes n steps in a row, answered at once or by writing the steps down.

The problem is n digits below a base, the answer their sum modulo the base: for base 2 the parity of n
bits. The answer is written directly, after the running sums (a scratchpad; Nye et al. 2021), or after as
many filler tokens, which are given to the model and say nothing (Lanham et al. 2023; Pfau et al. 2024).

Shapes: B problems, n digits, L tokens of a problem with its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.budget import Budget
from gptlib.memory import send
from gptlib.minimising import Recipe, train_family
from gptlib.model import GPT, GPTConfig
from gptlib.sampling import generate
from gptlib.tasks import is_held_out
from gptlib.tokenizers import CharTokenizer
from gptlib.training import answer_loss

TOKENIZER = CharTokenizer("0123456789=.")
WAYS = ("direct", "scratchpad", "filler")
WIDTH, HEADS = 64, 4
BATCH_SIZE, STEPS = 64, 1500
FEW = 1000  # problems: when there are no more than that, none is held out


@dataclass(frozen=True)
class RunningSums:
    """Problems of n digits below `base`, written in one of three WAYS: 1011=1, 1011=1101, 1011=...1."""

    n: int
    way: str = "direct"
    base: int = 2

    def __post_init__(self):
        if self.way not in WAYS or not 2 <= self.base <= 10 or self.n < 1:
            raise ValueError(f"n is 1 or more, way one of {WAYS}, base 2 to 10")

    @property
    def n_written(self) -> int:
        """The number of tokens after the "="; the last is the answer."""
        return 1 if self.way == "direct" else self.n

    @property
    def n_predicted(self) -> int:
        """The number of tokens that the model has to write itself: not the filler, which is given."""
        return self.n if self.way == "scratchpad" else 1

    def draw(self, B: int, generator: torch.Generator, held_out: bool = False) -> Tensor:
        """Draw digits (B, n): what is held out is never among the others, if there are enough problems."""
        if self.base**self.n <= FEW:
            return torch.randint(self.base, (B, self.n), generator=generator)
        places, digits = self.base ** torch.arange(self.n), torch.empty(0, self.n, dtype=torch.long)
        while len(digits) < B:
            drawn = torch.randint(self.base, (4 * B, self.n), generator=generator)
            digits = torch.cat([digits, drawn[is_held_out((drawn * places).sum(1)) == held_out]])
        return digits[:B]

    def write(self, digits: Tensor) -> Tensor:
        """Write digits (B, n) as problems with answers: (B, L)."""
        sums = digits.cumsum(1) % self.base  # (B, n)
        equals, dot = (torch.full((len(digits), 1), TOKENIZER.encode(sign)[0]) for sign in "=.")
        steps = {"direct": sums[:, :0], "scratchpad": sums[:, :-1], "filler": dot.expand(-1, self.n - 1)}
        return torch.cat([digits, equals, steps[self.way], sums[:, -1:]], 1)


def sums_model(problems: RunningSums, seed: int = 0, steps: int = STEPS, width: int = WIDTH) -> GPT:
    """Return a GPT of two layers, trained on what it has to write; new problems at every step."""
    return sums_family(problems, [seed], steps, width)[0]


def sums_family(
    problems: RunningSums, seeds: Sequence[int], steps: int = STEPS, width: int = WIDTH
) -> list[GPT]:
    """Return the models that `sums_model` trains for these seeds, trained as one."""
    length = problems.n + problems.n_written  # tokens read
    shape = dict(context_length=length, n_layer=2, n_head=HEADS, n_embd=width)
    device = Budget.detect().device
    models = [GPT(GPTConfig.aligned(TOKENIZER.vocab_size, **shape), seed).to(device) for seed in seeds]

    def draw(generator: torch.Generator) -> tuple[Tensor]:
        return (send(problems.write(problems.draw(BATCH_SIZE, generator)), device),)

    def loss(model: GPT, ids: Tensor) -> Tensor:
        return answer_loss(model, ids, problems.n_predicted)

    train_family(models, draw, loss, Recipe(steps), seeds=seeds)
    return models


def accuracy(model: GPT, problems: RunningSums, B: int = 1000, seed: int = 10_000) -> float:
    """Return the share of B problems whose answer, written by the model on its own, is right.

    They are held out if there are more than FEW problems in all.
    """
    ids = problems.write(problems.draw(B, torch.Generator().manual_seed(seed), held_out=True))
    ids, n = ids.to(next(model.parameters()).device), problems.n_predicted
    written = generate(model, ids[:, :-n], max_tokens=n, temperature=0)
    return (written[:, -1] == ids[:, -1]).float().mean().item()


def sums_scores(base: int, n: int, way: str, seed: int) -> dict[str, int | float]:
    """Train a model; return its accuracy, and what an answer costs in tokens."""
    problems = RunningSums(n, way, base)
    model = sums_model(problems, seed)
    return {"params": model.n_params, "tokens": problems.n_written, "accuracy": accuracy(model, problems)}
