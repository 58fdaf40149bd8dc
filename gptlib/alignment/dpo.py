"""Direct preference optimisation: comparisons teach the policy itself (Rafailov et al. 2023)."""

import copy
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gptlib.alignment.reward_model import Pairs, bradley_terry_loss
from gptlib.alignment.rollouts import Responses, Row, answer_logps, update
from gptlib.checks import check_types
from gptlib.history import Watched
from gptlib.memory import keep_freed_memory
from gptlib.model import GPT
from gptlib.progress import progress


@dataclass(frozen=True)
class DPOConfig:
    """How a policy is optimised."""

    steps: int = 150
    batch_size: int = 32  # comparisons
    lr: float = 2e-4  # AdamW's, falling to 0
    beta: float = 0.1  # what a nat of KL costs, in rewards
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, not {self.beta}: at 0 nothing holds the policy")


def response_logps(model: nn.Module, responses: Responses) -> Tensor:
    """Return log p of each whole answer, the sum over its tokens, in nats: (S,)."""
    return answer_logps(model, responses.ids, responses.mask).sum(-1)


def implicit_reward(logps: Tensor, reference_logps: Tensor, beta: float) -> Tensor:
    """Return beta log(policy / reference), the reward that a policy is optimal for, but for a constant."""
    return beta * (logps - reference_logps)


def dpo_loss(chosen: Tensor, rejected: Tensor, reference: tuple[Tensor, Tensor], beta: float) -> Tensor:
    """Return the Bradley-Terry loss of implicit rewards, in nats: () from (B,) (Rafailov 2023, equation 7).

    `chosen` and `rejected` are log p of whole answers under the policy, `reference` the same two under the
    reference.
    """
    rewards = (implicit_reward(*pair, beta) for pair in zip((chosen, rejected), reference, strict=True))
    return bradley_terry_loss(*rewards)


def dpo(reference: GPT, pairs: Pairs, config: DPOConfig | None = None) -> tuple[GPT, list[Row]]:
    """Train a copy of `reference` on comparisons; return it and a row a step: loss, accuracy on its batch.

    Raises ValueError when the loss is not finite.
    """
    config = config or DPOConfig()
    policy = copy.deepcopy(reference)
    keep_freed_memory()
    optimizer = torch.optim.AdamW(policy.parameters(), config.lr, weight_decay=0.0, fused=True)
    rng, order, rows = random.Random(config.seed), [], Watched()
    for step in progress(range(1, config.steps + 1), desc="DPO", unit="step"):
        while len(order) < config.batch_size:
            order += rng.sample(range(len(pairs)), len(pairs))
        sides = pairs.sides([order.pop() for _ in range(config.batch_size)])
        with torch.no_grad():
            known = tuple(response_logps(reference, side) for side in sides)
        chosen, rejected = (response_logps(policy, side) for side in sides)
        loss = dpo_loss(chosen, rejected, known, config.beta)
        optimizer.param_groups[0]["lr"] = config.lr * (1 - (step - 1) / config.steps)
        update(optimizer, loss)
        right = (chosen - known[0] > rejected - known[1]).float().mean()
        rows.add(loss=loss, accuracy=right)
    return policy.eval(), [{"step": step} | row for step, row in enumerate(rows.read(), 1)]
