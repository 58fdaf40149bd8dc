"""Group relative policy optimisation: several responses a prompt replace the critic (Shao et al. 2024)."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.alignment.ppo import clipped_loss
from gptlib.alignment.rollouts import (
    MAX_RESPONSE,
    Responses,
    Reward,
    Row,
    alike,
    answer_logps,
    check_finite,
    draw_prompts,
    kl_estimates,
    masked_mean,
    roll_out,
    update,
)
from gptlib.checks import check_types
from gptlib.memory import keep_freed_memory
from gptlib.model import GPT
from gptlib.progress import progress


@dataclass(frozen=True)
class GRPOConfig:
    """How a policy is optimised."""

    steps: int = 60  # batches of fresh responses
    n_prompts: int = 8  # a step
    group: int = 8  # G, responses a prompt
    epochs: int = 2  # updates on each batch
    lr: float = 3e-4  # AdamW's
    kl_weight: float = 0.05  # beta, on the second KL estimate of the batch, in the loss
    clip: float = 0.2
    max_tokens: int = MAX_RESPONSE
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        if self.group < 2:
            raise ValueError(f"a group has at least two responses, to compare them, not {self.group}")
        if self.kl_weight < 0 or self.clip <= 0 or self.epochs < 1:
            raise ValueError("kl_weight is at least 0, clip above 0, epochs at least 1")


def group_advantages(scores: Tensor, group: int) -> Tensor:
    """Return how far each score is above its group's mean, in the group's standard deviations: (S,) -> (S,).

    Responses of a prompt stand next to each other. Where all score alike, up to the rounding of numbers of
    their size, it is 0.
    """
    groups = scores.view(-1, group)  # (prompts, G)
    centred = groups - groups.mean(-1, keepdim=True)
    advantages = centred / (groups.std(-1, keepdim=True, correction=0) + 1e-6)
    return advantages.masked_fill(alike(groups), 0.0).view(-1)


def grpo(
    reference: GPT,
    reward: Reward,
    prompts: Sequence[list[int]],
    stop: int,
    config: GRPOConfig | None = None,
    *,
    watch: Callable[[Responses], Row] | None = None,
) -> tuple[GPT, list[Row]]:
    """Optimise a copy of `reference` for `reward`, near the reference; return it and a row a step.

    Losses are means over all answers' tokens, where Shao et al. take each answer's mean first: a long answer
    counts more. `watch` adds columns to the rows that no learner sees. Raises ValueError when there are too
    few prompts, or a reward, a loss or the KL is not finite.
    """
    config = config or GRPOConfig()
    policy = copy.deepcopy(reference)
    keep_freed_memory()
    optimizer = torch.optim.AdamW(policy.parameters(), config.lr, weight_decay=0.0, fused=True)
    rng, rows = random.Random(config.seed), []
    for step in progress(range(1, config.steps + 1), desc="GRPO", unit="step"):
        asked = draw_prompts(prompts, config.n_prompts, rng)
        asked = [prompt for prompt in asked for _ in range(config.group)]
        how = dict(max_tokens=config.max_tokens, seed=rng.randrange(2**31), watch=watch)
        drawn = roll_out(step, policy, reference, reward, asked, stop, **how)
        ids, mask, losses = drawn.responses.ids, drawn.mask, []
        advantages = group_advantages(drawn.scores, config.group)[:, None]  # (S, 1): alike for all tokens
        for _ in range(config.epochs):
            logps = answer_logps(policy, ids, drawn.responses.mask)
            gain, clipped = clipped_loss(logps, drawn.logps, advantages, mask, config.clip)
            _, kl = kl_estimates(logps, drawn.reference_logps)
            loss = gain + config.kl_weight * masked_mean(kl, mask)
            update(optimizer, loss)
            losses.append(loss.detach())
        *losses, clipped = torch.stack([*losses, clipped]).tolist()
        check_finite(step, loss=sum(losses))
        rows.append(drawn.row | {"clipped": clipped})
    return policy.eval(), rows
