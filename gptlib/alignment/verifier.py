"""A verifier as the reward, beside a model of people who do not check every answer (Lambert et al. 2024).

The policy is chapter 6's: it writes the steps of a sum and an answer. Whether that is right, a program knows.
"""

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.reward_model import Pairs, margins, train_reward_model
from gptlib.alignment.rollouts import Responses, Reward, kl_per_response, respond
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

WIDTH, TRAINED_STEPS = 48, 900  # of the model that starts, which is often wrong
STEPS, GROUP, LR = 40, 16, 4e-4  # of its improvement; GROUP prompts a step, as many answers to each
N_PROMPTS = 1000  # problems to improve on
N_HELD_OUT = 500  # problems to be judged by
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


def verified_scores(seed: int, steps: int = STEPS, width: int = WIDTH) -> dict[str, str | float]:
    """Improve one model twice, by people's reward model and by the verifier; return held-out accuracies.

    Greedy, and `drawn` at temperature 1; `score` is what people's model thinks of the latter, in standard
    deviations of the first answers, and `kl` their distance from the first model, in nats an answer.
    """
    start = reasoning_model(width, seed, TRAINED_STEPS)
    prompts = draw_prompts("arithmetic", True, N_PROMPTS, seed, held_out=False)
    held_out = draw_prompts("arithmetic", True, N_HELD_OUT)
    ids, asked = ([TOKENIZER.encode(prompt.text) for prompt in some] for some in (prompts, held_out))
    pairs = judged(start, prompts, seed)
    people = train_reward_model(start, pairs, seed=seed)
    people.normalise(pairs.responses)
    how = dict(steps=steps, n_prompts=GROUP, group=GROUP, lr=LR, kl_weight=0.0, max_tokens=MOST_WRITTEN)
    config = GRPOConfig(seed=seed, **how)
    row: dict[str, str | float] = {"agreement": (margins(people, pairs) > 0).float().mean().item()}
    for name, reward in (("start", None), ("people", people.scores), ("verifier", verifier(prompts))):
        policy, rows = grpo(start, reward, ids, LINE_END, config) if reward else (start, [])
        drawn = respond(policy, asked, LINE_END, MOST_WRITTEN, seed=50_000 + seed)
        row |= {
            name: share_right(held_out, write(policy, held_out)),
            f"{name} drawn": verifier(held_out)(drawn).mean().item(),
            f"{name} score": people.scores(drawn).mean().item(),
            f"{name} kl": kl_per_response(policy, start, drawn).mean().item(),
            f"{name} path": " ".join(f"{r['proxy']:.3f}" for r in rows),
        }
    return row
