"""Step 2: a reward model, which learns from comparisons what people like (Christiano et al. 2017)."""

import copy
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.alignment.docstrings import decode_responses, encode_responses, write_docstrings
from gptlib.alignment.preferences import Annotator, Comparison, compare_all
from gptlib.alignment.rollouts import AT_ONCE, Responses, Reward, alike
from gptlib.memory import send
from gptlib.minimising import Recipe, train_on_loss
from gptlib.model import GPT
from gptlib.tokenizers import BPETokenizer

PROMPTS_A_STEP, STEPS = 16, 210
LR, MUON_LR = 0.004, 0.01


class RewardModel(nn.Module):
    """A GPT whose last state is read by one linear layer: a number for a whole response.

    `shift` and `scale` bring the scores of a given set of responses to mean 0 and standard deviation 1.
    """

    def __init__(self, gpt: GPT):
        super().__init__()
        self.gpt = copy.deepcopy(gpt)
        device = next(gpt.parameters()).device
        self.head = nn.Linear(gpt.config.n_embd, 1, bias=False, device=device)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("shift", torch.zeros((), device=device))
        self.register_buffer("scale", torch.ones((), device=device))

    def values(self, ids: Tensor) -> Tensor:
        """Return a number at every token, of the text up to it: (S, T) -> (S, T)."""
        states = self.gpt.states(send(ids, self.shift.device))  # (S, T, C)
        return (self.head(states)[..., 0] - self.shift) / self.scale

    def forward(self, responses: Responses) -> Tensor:
        """Score responses at their last token: (S,)."""
        rows = torch.arange(len(responses))
        values = self.values(responses.ids)  # (S, T)
        return values[send(rows, values.device), send(responses.last, values.device)]

    @torch.no_grad()
    def scores(self, responses: Responses) -> Tensor:
        """Score any number of responses, some at a time, without gradients: (S,)."""
        parts = torch.arange(len(responses)).split(AT_ONCE)
        return torch.cat([self(responses[part.tolist()]) for part in parts])

    def normalise(self, responses: Responses) -> None:
        """Choose shift and scale so that these responses have mean 0 and standard deviation 1.

        Raises ValueError when all score alike.
        """
        scores = self.scores(responses)
        if len(scores) < 2 or alike(scores):
            raise ValueError("these responses all score alike: give several, that differ")
        self.shift += self.scale * scores.mean()
        self.scale *= scores.std()


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(r_chosen - r_rejected): () from (B,) (Ouyang 2022, equation 1)."""
    return -F.logsigmoid(chosen - rejected).mean()


def collect_comparisons(
    policy: nn.Module,
    tokenizer: BPETokenizer,
    signatures: Sequence[str],
    people: Sequence[Annotator],
    k: int = 4,
    seed: int = 0,
) -> list[Comparison]:
    """Let a policy write k docstrings for each signature, and annotators compare all pairs of them."""
    written = [write_docstrings(policy, tokenizer, signatures, seed=100 * seed + i) for i in range(k)]
    rows = zip(signatures, *written, strict=True)
    pairs = [(signature, *pair) for signature, *row in rows for pair in itertools.combinations(row, 2)]
    return compare_all(pairs, people)


@dataclass(frozen=True)
class Pairs:
    """Comparisons as ids: responses, each once, and which rows were chosen and rejected.

    Raises ValueError when there are none.
    """

    responses: Responses
    chosen: Tensor  # (B,) rows of responses
    rejected: Tensor  # (B,)

    def __post_init__(self):
        if not len(self.chosen):
            raise ValueError("there are no comparisons to learn from: make some choices first")

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def by_prompt(self) -> list[list[int]]:
        """The comparisons of each prompt: those that are learned in one batch share its responses."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(self.chosen.tolist()):
            groups.setdefault(tuple(self.responses.prompts[row]), []).append(i)
        return list(groups.values())

    def sides(self, which: Sequence[int]) -> tuple[Responses, Responses]:
        """Return what was chosen and what was rejected in some of the comparisons."""
        which = list(which)
        return self.responses[self.chosen[which].tolist()], self.responses[self.rejected[which].tolist()]


def encode_comparisons(tokenizer: BPETokenizer, given: Sequence[Comparison]) -> Pairs:
    """Return comparisons of docstrings as ids."""
    rows: dict[tuple[str, str], int] = {}
    sides = [
        [rows.setdefault((c.signature, text), len(rows)) for text in (c.chosen, c.rejected)] for c in given
    ]
    signatures, docstrings = zip(*rows, strict=True) if rows else ((), ())
    chosen, rejected = torch.tensor(sides).view(-1, 2).T
    return Pairs(encode_responses(tokenizer, signatures, docstrings), chosen, rejected)


def train_reward_model(start: GPT, pairs: Pairs, steps: int = STEPS, seed: int = 0) -> RewardModel:
    """Return a reward model that starts from a GPT and learns comparisons, all of a prompt in one batch.

    So each response is scored once for all comparisons it is in (Ouyang et al. 2022, section 3.5).
    """
    model, rng, order = RewardModel(start), random.Random(seed), []

    def draw(generator: torch.Generator) -> tuple[Responses, Tensor]:
        while len(order) < PROMPTS_A_STEP:
            order.extend(rng.sample(pairs.by_prompt, len(pairs.by_prompt)))
        which = [i for _ in range(PROMPTS_A_STEP) for i in order.pop()]
        sides = torch.stack([pairs.chosen[which], pairs.rejected[which]])  # (2, B)
        rows, places = sides.unique(return_inverse=True)
        return pairs.responses[rows.tolist()], places

    def loss(model: RewardModel, responses: Responses, places: Tensor) -> Tensor:
        scores = model(responses)  # (rows,)
        return bradley_terry_loss(*scores[send(places, scores.device)])

    train_on_loss(model, draw, loss, Recipe(steps, LR, MUON_LR), seed=seed)
    return model


def reward_for_docstrings(model: RewardModel, tokenizer: BPETokenizer) -> Reward:
    """Return a reward model's scores of responses as people read them: decoded, up to the closing quotes.

    So nothing that stands after them can please it.
    """

    def reward(responses: Responses) -> Tensor:
        return model.scores(encode_responses(tokenizer, *decode_responses(tokenizer, responses)))

    return reward


def margins(model: RewardModel, pairs: Pairs) -> Tensor:
    """Return by how much a reward model prefers what was chosen, below 0 where it would not: (B,)."""
    scores = model.scores(pairs.responses).cpu()
    return scores[pairs.chosen] - scores[pairs.rejected]
