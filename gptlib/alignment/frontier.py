"""Recorded runs: the chain by seed, and each method's reward against its distance from the SFT model."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gptlib.alignment.best_of_n import best_of_n, best_of_n_kl
from gptlib.alignment.docstrings import decode_answers, encode_prompt, setting
from gptlib.alignment.dpo import DPOConfig, dpo
from gptlib.alignment.evaluation import gold, reading_loss, win_rate
from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.ppo import PPOConfig, Row, ppo
from gptlib.alignment.preferences import annotators, ceiling
from gptlib.alignment.reward_model import (
    Pairs,
    RewardModel,
    collect_comparisons,
    encode_comparisons,
    margins,
    train_reward_model,
)
from gptlib.alignment.rollouts import Responses, kl_per_response, respond
from gptlib.alignment.sft import fine_tune
from gptlib.model import GPT, GPTConfig
from gptlib.training import evaluate

SMALL = dict(n_layer=1, n_head=2, n_embd=32)  # of the small reward model
N_DRAWN, N_ASKED = 128, 128  # responses a prompt, and prompts, that the best of n is taken of
UNPENALISED_STEPS, STEPS = 80, 60


@dataclass(frozen=True)
class Chain:
    """InstructGPT's first two steps: the SFT model, comparisons of what it writes, the reward model."""

    sft: GPT
    pairs: Pairs
    reward: RewardModel


@functools.cache
def chain(seed: int) -> Chain:
    """Fine-tune, collect comparisons and train a reward model, all from one seed."""
    its, tokenizer = setting(), setting().baby.tokenizer
    sft, _ = fine_tune(its.baby.model, tokenizer, its.train, seed=seed)
    pairs = encode_comparisons(
        tokenizer, collect_comparisons(sft, tokenizer, its.signatures, annotators(seed=seed), seed=seed)
    )
    reward = train_reward_model(sft, pairs, seed=seed)
    reward.normalise(_answers(sft, seed))
    return Chain(sft, pairs, reward)


def _answers(policy: GPT, seed: int, signatures: Sequence[str] | None = None) -> Responses:
    """Let a policy answer the held-out signatures."""
    its, tokenizer = setting(), setting().baby.tokenizer
    prompts = [encode_prompt(tokenizer, s) for s in signatures or its.held_out_signatures]
    return respond(policy, prompts, tokenizer.end_of_text, seed=1000 + seed)


def reward_model_scores(n_prompts: int, k: int, steps: int, seed: int) -> Row:
    """Train a reward model on k responses to each of some signatures; return its held-out accuracy."""
    its, tokenizer, sft = setting(), setting().baby.tokenizer, chain(seed).sft
    given = collect_comparisons(
        sft,
        tokenizer,
        its.signatures[:: max(len(its.signatures) // n_prompts, 1)][:n_prompts],
        annotators(seed=seed),
        k,
        seed,
    )
    model = train_reward_model(sft, encode_comparisons(tokenizer, given), steps, seed)
    asked = collect_comparisons(sft, tokenizer, its.held_out_signatures, annotators(seed=100), 4, 100 + seed)
    right = (margins(model, encode_comparisons(tokenizer, asked)) > 0).float().mean().item()
    return {"comparisons": len(given), "accuracy": right, "ceiling": ceiling(asked), "asked": len(asked)}


def policy_scores(method: str, strength: float, seed: int) -> dict[str, str | float]:
    """Optimise a policy; return what it gained on held-out modules, by whom it is liked, what it cost.

    `strength` is the KL's weight of ppo and grpo, beta of dpo, and n of best of n. Paths are values at each
    step, over that step's prompts. Raises ValueError when there is no such method.
    """
    its, tokenizer, start = setting(), setting().baby.tokenizer, chain(seed)
    began = time.perf_counter()
    if method == "best of n":
        return _best_of_n_scores(int(strength), seed)
    policy, rows, judge = _optimise(method, strength, seed)
    seconds = time.perf_counter() - began
    mine, before = _answers(policy, seed), _answers(start.sft, seed)
    ours, theirs = (decode_answers(tokenizer, responses) for responses in (mine, before))
    win, low, high = win_rate(its.held_out_signatures, ours, theirs, annotators(seed=200 + seed))
    truth = gold(tokenizer)
    row = {
        "kl": kl_per_response(policy, start.sft, mine).mean().item(),
        "proxy": judge.scores(mine).mean().item(),
        "gold": truth(mine).mean().item(),
        "gold before": truth(before).mean().item(),
        "win": win,
        "low": low,
        "high": high,
        "distinct": len(set(ours)) / len(ours),
        "reading": evaluate(policy, its.baby.data.validation),
        "reading before": evaluate(start.sft, its.baby.data.validation),
        "seconds": seconds,
    }
    paths = {name: " ".join(f"{r[name]:.3f}" for r in rows if name in r) for name in ("kl", "proxy", "gold")}
    return row | {f"{name} path": path for name, path in paths.items()}


def _optimise(method: str, strength: float, seed: int) -> tuple[GPT, list[Row], RewardModel]:
    """Return a method's policy, a row for each of its steps, and the reward model that is its judge."""
    its, tokenizer, start = setting(), setting().baby.tokenizer, chain(seed)
    prompts, stop = [encode_prompt(tokenizer, s) for s in its.signatures], tokenizer.end_of_text
    truth, judge = gold(tokenizer), start.reward
    watch = lambda responses: {"gold": truth(responses).mean().item()}  # noqa: E731
    if method == "ppo small judge":
        small = GPT(GPTConfig.modern(tokenizer.vocab_size, **SMALL), seed).to(judge.shift.device)
        judge = train_reward_model(small, start.pairs, seed=seed)
        judge.normalise(_answers(start.sft, seed))
    if method in ("ppo", "ppo-ptx", "ppo small judge"):
        mix = 1.0 if method == "ppo-ptx" else 0.0
        steps = STEPS if strength else UNPENALISED_STEPS
        config = PPOConfig(steps=steps, kl_weight=strength, pretraining_weight=mix, seed=seed)
        reading = reading_loss(its.baby.data, seed=seed)
        how = dict(pretraining_loss=reading, watch=watch)
        return *ppo(start.sft, judge, judge.scores, prompts, stop, config, **how), judge
    if method == "grpo":
        config = GRPOConfig(steps=STEPS, kl_weight=strength, seed=seed)
        return *grpo(start.sft, judge.scores, prompts, stop, config, watch=watch), judge
    if method == "dpo":
        return *dpo(start.sft, start.pairs, DPOConfig(beta=strength, seed=seed)), judge
    raise ValueError(
        f"there is no method {method!r} among ppo, ppo-ptx, ppo small judge, grpo, dpo, best of n"
    )


@functools.cache
def draws(seed: int) -> tuple[Tensor, Tensor]:
    """Return proxy and gold rewards of many responses to some held-out signatures: each (prompts, N)."""
    asked = setting().held_out_signatures[:N_ASKED]
    responses = _answers(chain(seed).sft, seed, [s for s in asked for _ in range(N_DRAWN)])
    proxy = chain(seed).reward.scores(responses).cpu()
    return proxy.view(N_ASKED, N_DRAWN), gold(setting().baby.tokenizer)(responses).view(N_ASKED, N_DRAWN)


def _best_of_n_scores(n: int, seed: int) -> dict[str, float]:
    began = time.perf_counter()
    drawn = draws(seed)
    proxy, true = best_of_n(*drawn, n)
    row = {
        "kl": best_of_n_kl(drawn[0], n),
        "proxy": proxy,
        "gold": true,
        "gold before": drawn[1].mean().item(),
    }
    return row | {"seconds": time.perf_counter() - began}
