"""Recorded runs: the chain by seed, and each method's reward against its distance from the SFT model."""

import functools
import random
import time

import pandas as pd
from torch import Tensor

from gptlib.alignment.best_of_n import best_of_n, best_of_n_kl
from gptlib.alignment.docstrings import answer, decode_answers, encode_prompt, encode_responses, setting
from gptlib.alignment.dpo import DPOConfig, dpo
from gptlib.alignment.evaluation import against, gold, reading_loss
from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.ppo import PPOConfig, ppo
from gptlib.alignment.preferences import annotators, ceiling
from gptlib.alignment.reward_model import (
    PROMPTS_A_STEP,
    Pairs,
    RewardModel,
    collect_comparisons,
    encode_comparisons,
    margins,
    reward_for_docstrings,
    train_reward_model,
)
from gptlib.alignment.rollouts import Responses, Row
from gptlib.alignment.sft import fine_tune
from gptlib.model import GPT, GPTConfig
from gptlib.training import evaluate

SMALL = dict(n_layer=1, n_head=2, n_embd=32)  # of the small reward model
N_DRAWN, N_ASKED = 128, 128  # responses a prompt, and prompts, that the best of n is taken of
PASSES = 3  # over the signatures of a reward model, whatever their number
UNPENALISED_STEPS, STEPS = 70, 50  # a policy that nothing holds goes on longer


@functools.cache
def sft_model(seed: int) -> GPT:
    """Fine-tune the base model on the demonstrations."""
    return fine_tune(setting().baby.model, setting().baby.tokenizer, setting().train, seed=seed)[0]


@functools.cache
def comparisons(seed: int) -> Pairs:
    """Return annotators' comparisons of four responses to every signature to learn on."""
    its, tokenizer = setting(), setting().baby.tokenizer
    people = annotators(seed=seed)
    given = collect_comparisons(sft_model(seed), tokenizer, its.signatures, people, seed=seed)
    return encode_comparisons(tokenizer, given)


@functools.cache
def reward_model(seed: int, small: bool = False) -> RewardModel:
    """Train a reward model that starts from the SFT model, or a small one from nothing."""
    start, pairs = sft_model(seed), comparisons(seed)
    if small:
        device = next(start.parameters()).device
        start = GPT(GPTConfig.modern(start.config.vocab_size, **SMALL), seed).to(device)
    model = train_reward_model(start, pairs, seed=seed)
    model.normalise(pairs.responses)
    return model


@functools.cache
def before(seed: int) -> tuple[Responses, float, float]:
    """Return the SFT model's answers to held-out signatures, their gold reward, and its loss at reading."""
    its, model = setting(), sft_model(seed)
    responses = answer(model, its.baby.tokenizer, its.held_out_signatures, seed=20_000 + seed)
    truth = gold(its.baby.tokenizer)(responses).mean().item()
    return responses, truth, evaluate(model, its.baby.data.validation)


def reward_model_scores(n_prompts: int, seed: int) -> Row:
    """Train a reward model on the comparisons of some signatures; return its held-out accuracy."""
    its, tokenizer, sft = setting(), setting().baby.tokenizer, sft_model(seed)
    some = random.Random(seed).sample(its.signatures, n_prompts)
    given = collect_comparisons(sft, tokenizer, some, annotators(seed=seed), seed=10 + seed)
    steps = max(round(PASSES * n_prompts / PROMPTS_A_STEP), 1)
    model = train_reward_model(sft, encode_comparisons(tokenizer, given), steps, seed)
    people = annotators(seed=100 + seed)
    asked = collect_comparisons(sft, tokenizer, its.held_out_signatures, people, seed=100 + seed)
    right = (margins(model, encode_comparisons(tokenizer, asked)) > 0).float().mean().item()
    row = {"comparisons": len(given), "steps": steps, "asked": len(asked)}
    return row | {"accuracy": right, "ceiling": ceiling(asked)}


def policy_scores(method: str, strength: float, seed: int) -> dict[str, str | float]:
    """Optimise a policy; return what it gained on held-out modules, by whom it is liked, what it cost.

    `strength` is the KL's weight of ppo and grpo, beta of dpo. All methods of a seed are compared with the
    same answers of the SFT model, by the same annotators. Paths are values at each step, over that step's
    prompts. Raises ValueError when there is no such method.
    """
    its, tokenizer = setting(), setting().baby.tokenizer
    sft, judge = sft_model(seed), reward_model(seed, small=method == "ppo small judge")
    began = time.perf_counter()
    policy, rows = _optimise(method, strength, seed, judge)
    seconds = time.perf_counter() - began
    theirs, gold_before, reading_before = before(seed)
    proxy = reward_for_docstrings(judge, tokenizer)
    known = dict(zip(its.held_out_signatures, decode_answers(tokenizer, theirs), strict=True))
    texts, row = against(policy, sft, tokenizer, known, annotators(seed=200 + seed), 30_000 + seed)
    row |= {
        "gold before": gold_before,
        "proxy": proxy(encode_responses(tokenizer, its.held_out_signatures, texts)).mean().item(),
        "proxy before": proxy(theirs).mean().item(),
        "reading": evaluate(policy, its.baby.data.validation),
        "reading before": reading_before,
        "seconds": seconds,
    }
    paths = {name: " ".join(f"{r[name]:.3f}" for r in rows if name in r) for name in ("kl", "proxy", "gold")}
    return row | {f"{name} path": path for name, path in paths.items()}


def steps_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return recorded runs step by step: a row for each step, with its KL, proxy and gold reward."""
    rows = []
    for _, run in runs.iterrows():
        paths = {name: map(float, run[f"{name} path"].split()) for name in ("kl", "proxy", "gold")}
        steps = pd.DataFrame(paths).assign(seed=run.seed, before=run["gold before"])
        steps.index += 1
        rows.append(steps.rename_axis("step").reset_index())
    return pd.concat(rows, ignore_index=True)


def _optimise(method: str, strength: float, seed: int, judge: RewardModel) -> tuple[GPT, list[Row]]:
    """Return a method's policy, and a row for each of its steps."""
    its, tokenizer, sft = setting(), setting().baby.tokenizer, sft_model(seed)
    prompts, stop = [encode_prompt(tokenizer, s) for s in its.signatures], tokenizer.end_of_text
    truth, reward = gold(tokenizer), reward_for_docstrings(judge, tokenizer)

    def watch(responses: Responses) -> Row:
        return {"gold": truth(responses).mean().item()}

    if method in ("ppo", "ppo-ptx", "ppo small judge"):
        mix = method == "ppo-ptx"
        steps = STEPS if strength else UNPENALISED_STEPS
        config = PPOConfig(steps=steps, kl_weight=strength, pretraining_weight=float(mix), seed=seed)
        reading = reading_loss(its.baby.data, seed=seed) if mix else None
        return ppo(sft, judge, reward, prompts, stop, config, pretraining_loss=reading, watch=watch)
    if method == "grpo":
        config = GRPOConfig(steps=STEPS, kl_weight=strength, seed=seed)
        return grpo(sft, reward, prompts, stop, config, watch=watch)
    if method == "dpo":
        return dpo(sft, comparisons(seed), DPOConfig(beta=strength, seed=seed))
    raise ValueError(f"there is no method {method!r}: there are ppo, ppo-ptx, ppo small judge, grpo and dpo")


@functools.cache
def draws(seed: int) -> tuple[Tensor, Tensor, float]:
    """Return proxy and gold rewards of many responses to some held-out signatures, and seconds a response.

    The rewards are (prompts, N) each.
    """
    asked, tokenizer = setting().held_out_signatures, setting().baby.tokenizer
    asked = asked[:: max(len(asked) // N_ASKED, 1)]
    began = time.perf_counter()
    several = [signature for signature in asked for _ in range(N_DRAWN)]
    responses = answer(sft_model(seed), tokenizer, several, seed=40_000 + seed)
    seconds = (time.perf_counter() - began) / len(responses)
    proxy = reward_for_docstrings(reward_model(seed), tokenizer)(responses).cpu()
    return proxy.view(-1, N_DRAWN), gold(tokenizer)(responses).view(-1, N_DRAWN), seconds


def best_of_n_scores(n: int, seed: int) -> dict[str, float]:
    """Return what the best of n by proxy gains on held-out signatures, its KL, and seconds an answer."""
    proxy, true, seconds = draws(seed)
    best = dict(zip(("proxy", "gold"), best_of_n(proxy, true, n), strict=True))
    means = {"proxy before": proxy.mean().item(), "gold before": true.mean().item()}
    return {"kl": best_of_n_kl(proxy, n)} | best | means | {"seconds": n * seconds}
