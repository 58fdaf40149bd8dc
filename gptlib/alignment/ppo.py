"""Step 3: proximal policy optimisation against a reward (Schulman et al. 2017; Ouyang et al. 2022)."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gptlib.alignment.reward_model import RewardModel
from gptlib.alignment.rollouts import (
    Responses,
    Reward,
    Row,
    alike,
    answer_logps,
    check_finite,
    draw_prompts,
    masked_mean,
    roll_out,
    update,
)
from gptlib.checks import check_types
from gptlib.memory import keep_freed_memory, send
from gptlib.model import GPT
from gptlib.progress import progress


@dataclass(frozen=True)
class PPOConfig:
    """How a policy is optimised."""

    steps: int = 60  # batches of fresh responses
    batch_size: int = 64  # S, responses a step
    epochs: int = 2  # passes over each batch
    minibatch: int = 32  # responses an update
    lr: float = 3e-4  # AdamW's, of policy and critic
    kl_weight: float = 0.05  # beta, what a nat of KL to the reference costs in rewards
    clip: float = 0.2  # how far a token's probability ratio may move within a step and still gain
    gamma: float = 1.0  # discount, a token
    lam: float = 0.95  # of generalised advantage estimation
    pretraining_weight: float = 0.0  # gamma of PPO-ptx: weight of the pre-training loss, per token
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        if self.batch_size % self.minibatch:
            raise ValueError(f"minibatch must divide batch_size: {self.minibatch} and {self.batch_size}")
        if self.kl_weight < 0 or self.clip <= 0:
            raise ValueError("kl_weight is at least 0, clip above 0")


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_weight: float) -> Tensor:
    """Return each token's reward: minus the KL's cost, and at an answer's last token its score.

    (S,), (S, T - 1) twice -> (S, T - 1); 0 outside of answers.
    """
    steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    is_last = (steps * mask).argmax(-1, keepdim=True) == steps - 1  # (S, T - 1)
    return mask * (is_last * scores[:, None] - kl_weight * kl)


def generalised_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Return by how much each token was better than foreseen: A_t = d_t + gamma lam A_{t+1}.

    d_t = r_t + gamma V_{t+1} - V_t; after an answer's last token V and A are 0 (Schulman et al. 2016,
    equation 16). All (S, T - 1).
    """
    advantages, values = torch.zeros_like(rewards), values * mask
    following = next_value = torch.zeros_like(rewards[:, 0])  # (S,)
    for t in reversed(range(rewards.shape[1])):
        error = rewards[:, t] + gamma * next_value - values[:, t]
        following = mask[:, t] * (error + gamma * lam * following)
        advantages[:, t], next_value = following, values[:, t]
    return advantages


def clipped_loss(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """Return PPO's loss and the share of tokens whose ratio is clipped: () each (Schulman 2017, equation 7).

    The ratio of new to old probability earns its advantage only up to 1 - clip or 1 + clip: past that,
    nothing pulls further. Means over all answers' tokens.
    """
    ratio = (logps - old_logps).exp()  # (S, T - 1)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * advantages, bounded * advantages)
    return -masked_mean(gain, mask), masked_mean((ratio != bounded).float(), mask)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale to mean 0 and standard deviation 1 over all answers' tokens; 0 where all are alike."""
    mean = masked_mean(values, mask)
    scaled = (values - mean) * mask / (masked_mean((values - mean) ** 2, mask).sqrt() + 1e-6)
    return scaled.masked_fill(alike(torch.where(mask, values, mean).flatten()), 0.0)


def ppo(
    reference: GPT,
    critic: RewardModel,
    reward: Reward,
    prompts: Sequence[list[int]],
    stop: int,
    config: PPOConfig | None = None,
    *,
    pretraining_loss: Callable[[nn.Module], Tensor] | None = None,
    watch: Callable[[Responses], Row] | None = None,
    on_step: Callable[[int, GPT], None] | None = None,
) -> tuple[GPT, list[Row]]:
    """Optimise a copy of `reference` for `reward` minus the KL's cost; return it and a row a step.

    `critic` is copied too: it foresees, at every token, what a response will earn. `pretraining_loss` of
    a policy is added, times its weight (PPO-ptx). `watch` adds columns to the rows that no learner sees;
    `on_step` is called with each step's number, from 1. Raises ValueError when there are too few prompts, or
    a reward, a loss or the KL is not finite.
    """
    config = config or PPOConfig()
    if bool(config.pretraining_weight) != bool(pretraining_loss):
        raise ValueError("pretraining_weight and pretraining_loss belong together: give both, or neither")
    policy, critic = copy.deepcopy(reference), copy.deepcopy(critic)
    keep_freed_memory()
    parameters = [*policy.parameters(), *critic.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.lr, weight_decay=0.0, fused=True)
    rng, rows = random.Random(config.seed), []
    for step in progress(range(1, config.steps + 1), desc="PPO", unit="step"):
        asked = draw_prompts(prompts, config.batch_size, rng)
        seed = rng.randrange(2**31)
        drawn = roll_out(step, policy, reference, reward, asked, stop, seed=seed, watch=watch)
        ids, mask = drawn.responses.ids, drawn.mask
        with torch.no_grad():
            values = critic.values(ids)[:, :-1]  # (S, T - 1), before each token
            rewards = token_rewards(drawn.scores, drawn.kl, mask, config.kl_weight)
            advantages = generalised_advantages(rewards, values, mask, config.gamma, config.lam)
            returns, advantages = advantages + values, whitened(advantages, mask)
        losses, clipped = [], []
        for _ in range(config.epochs):
            order = torch.tensor(rng.sample(range(len(ids)), len(ids)))
            for some in order.split(config.minibatch):
                there = send(some, mask.device)  # indices on the CPU would make a GPU wait
                logps = answer_logps(policy, ids[some], drawn.responses.mask[some])
                old = drawn.logps[there]
                loss, share = clipped_loss(logps, old, advantages[there], mask[there], config.clip)
                errors = critic.values(ids[some])[:, :-1] - returns[there]
                loss = loss + 0.5 * masked_mean(errors**2, mask[there])
                if pretraining_loss:
                    loss = loss + config.pretraining_weight * pretraining_loss(policy)
                update(optimizer, loss)
                losses.append(loss.detach())
                clipped.append(share)
        loss, share = torch.stack([torch.stack(losses), torch.stack(clipped)]).mean(1).tolist()
        check_finite(step, loss=loss)
        rows.append(drawn.row | {"clipped": share})
        if on_step:
            on_step(step, policy)
    return policy.eval(), rows
