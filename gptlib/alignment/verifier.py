"""A verifier as the reward, beside a model of people who do not check every answer (Lambert et al. 2024).

The policy is chapter 6's: it writes the steps of a sum and an answer. Whether that is right, a program knows.
"""

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.reward_model import Pairs, train_reward_model
from gptlib.alignment.rollouts import Responses, Reward, respond
from gptlib.chain_of_thought import (
    LINE_END,
    MOST_WRITTEN,
    TOKENIZER,
    Prompt,
    answer_in,
    draw_prompts,
    reasoning_model,
    share_right,
    write,
)
from gptlib.model import GPT

WIDTH = 32  # channels: a model that is sometimes wrong
TRAINED_STEPS = 1500  # of the model that starts
N_PROMPTS = 1000  # problems to improve on
SAMPLES = 4  # answers to a problem, that people compare
CARE = 0.75  # how often people, who do not check the sums, prefer the right answer of two


def verifier(prompts: Sequence[Prompt]) -> Reward:
    """Return a reward of 1 for a right answer to one of these prompts, else 0."""
    right = {tuple(TOKENIZER.encode(prompt.text)): prompt.problem.answer for prompt in prompts}

    def reward(responses: Responses) -> Tensor:
        answers = [answer_in(TOKENIZER.decode(answer).strip()) for answer in responses.answers]
        asked = map(tuple, responses.prompts)
        return torch.tensor([float(right[p] == a) for p, a in zip(asked, answers, strict=True)])

    return reward


def judged(policy: GPT, prompts: Sequence[Prompt], seed: int = 0) -> Pairs:
    """Return people's comparisons of a policy's answers: the right of two in CARE of all cases.

    Two that are both right or both wrong are compared by a coin.
    """
    ids = [TOKENIZER.encode(prompt.text) for prompt in prompts for _ in range(SAMPLES)]
    responses = respond(policy, ids, LINE_END, MOST_WRITTEN, seed=seed)
    good, rng, sides = verifier(prompts)(responses).tolist(), random.Random(seed), []
    for start in range(0, len(ids), SAMPLES):
        for a, b in itertools.combinations(range(start, start + SAMPLES), 2):
            likely = CARE if good[a] > good[b] else 1 - CARE if good[b] > good[a] else 0.5
            sides.append((a, b) if rng.random() < likely else (b, a))
    return Pairs(responses, *torch.tensor(sides).T)


def verified_scores(seed: int, steps: int = 60, width: int = WIDTH) -> dict[str, float]:
    """Improve one model twice, by people's reward model and by the verifier; return held-out accuracies.

    `people proxy` is how far the reward model's score rose, in standard deviations of the first answers.
    """
    start = reasoning_model(width, seed, TRAINED_STEPS)
    prompts = draw_prompts("arithmetic", True, N_PROMPTS, seed, held_out=False)
    held_out = draw_prompts("arithmetic", True, 500)
    pairs = judged(start, prompts, seed)
    people = train_reward_model(start, pairs, seed=seed)
    people.normalise(pairs.responses)
    ids = [TOKENIZER.encode(prompt.text) for prompt in prompts]
    config = GRPOConfig(steps=steps, max_tokens=MOST_WRITTEN, seed=seed)
    checked, row = verifier(prompts), {"start": share_right(held_out, write(start, held_out))}
    for name, reward in (("people", people.scores), ("verifier", checked)):
        policy, rows = grpo(
            start, reward, ids, LINE_END, config, watch=lambda r: {"right": checked(r).mean().item()}
        )
        row[name] = share_right(held_out, write(policy, held_out))
        row |= {f"{name} proxy": rows[-1]["proxy"], f"{name} kl": rows[-1]["kl"]}
        row[f"{name} path"] = " ".join(f"{r['right']:.3f}" for r in rows)
    return row
