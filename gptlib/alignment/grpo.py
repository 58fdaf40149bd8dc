"""Group relative policy optimisation: several responses a prompt replace the critic (Shao et al. 2024)."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.alignment.ppo import Row, clipped_loss, describe, update
from gptlib.alignment.rollouts import (
    MAX_RESPONSE,
    Responses,
    Reward,
    check_finite,
    kl_estimates,
    masked_mean,
    respond,
    token_logps,
)
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
    kl_weight: float = 0.05  # beta, on the second KL estimate, in the loss
    clip: float = 0.2
    max_tokens: int = MAX_RESPONSE
    seed: int = 0

    def __post_init__(self):
        if self.group < 2:
            raise ValueError(f"a group has at least two responses, to compare them, not {self.group}")


def group_advantages(scores: Tensor, group: int) -> Tensor:
    """Return how far each score is above its group's mean, in the group's standard deviations: (S,) -> (S,).

    Responses of a prompt stand next to each other. Where all score alike it is 0.
    """
    groups = scores.view(-1, group)  # (prompts, G)
    centred = groups - groups.mean(-1, keepdim=True)
    return (centred / (groups.std(-1, keepdim=True, correction=0) + 1e-6)).view(-1)


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

    `watch` adds columns to the rows that no learner sees. Raises ValueError when loss or KL is not finite.
    """
    config = config or GRPOConfig()
    policy = copy.deepcopy(reference)
    optimizer = torch.optim.AdamW(policy.parameters(), config.lr, weight_decay=0.0)
    rng, rows = random.Random(config.seed), []
    for step in progress(range(1, config.steps + 1), desc="GRPO", unit="step"):
        asked = [prompt for prompt in rng.sample(prompts, config.n_prompts) for _ in range(config.group)]
        responses = respond(policy, asked, stop, config.max_tokens, seed=rng.randrange(2**31))
        with torch.no_grad():
            old_logps, entropies = token_logps(policy, responses.ids)  # (S, T - 1)
            reference_logps, _ = token_logps(reference, responses.ids)
            scores = reward(responses).to(old_logps.device)  # (S,)
            mask = responses.mask.to(old_logps.device)
            advantages = group_advantages(scores, config.group)[:, None].expand_as(old_logps)
            drift, _ = kl_estimates(old_logps, reference_logps)
        row = describe(scores, drift, entropies, mask) | (watch(responses) if watch else {})
        for _ in range(config.epochs):
            logps, _ = token_logps(policy, responses.ids)
            gain, clipped = clipped_loss(logps, old_logps, advantages, mask, config.clip)
            _, kl = kl_estimates(logps, reference_logps)
            loss = gain + config.kl_weight * masked_mean(kl, mask)
            check_finite(step, loss=loss.detach(), KL=drift.sum())
            update(optimizer, loss)
        rows.append(row | {"step": step, "clipped": clipped.item()})
    return policy.eval(), rows
