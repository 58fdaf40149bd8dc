"""Count what a step launches, and how often the CPU waits for it; write both by workload, as JSON.

Run by test_launches.py in a process of its own. A run of STEPS more steps is compared with a short one, so
what is done once is left out.
"""

import fake_t4  # noqa: I001  before torch
import json
import os
from collections.abc import Callable

from torch import nn

import calls
from gptlib import emergence, function_learning, running_sums
from gptlib.budget import Budget
from gptlib.model import GPTConfig

FEW, STEPS = 2, 20


def train_of(make: Callable[[], nn.Module]) -> Callable[[int], None]:
    """Return what trains such a model for so many steps."""
    return lambda steps: calls.training(make(), steps)


def wide(n_layer: int) -> nn.Module:
    """Return a model of 256 channels: from here on a T4 computes in float16."""
    return calls.gpt(n_layer, n_embd=256, n_head=4, context_length=8)


def functions(steps: int) -> None:
    """Train on linear functions, as chapter 4 does."""
    learner = function_learning.FunctionLearner(2, 7, 6, 2, 16)
    function_learning.fit(learner, function_learning.LinearFunctions(2, 7), steps, 4)


def arithmetic(steps: int) -> None:
    """Train on sums, differences and products, as chapter 5 does."""
    problems = [emergence.Arithmetic(operation) for operation in emergence.OPERATIONS]
    emergence.arithmetic_model(problems, 8, steps=steps)


def sums(steps: int) -> None:
    """Train on running sums, as chapter 6 does."""
    running_sums.sums_model(running_sums.RunningSums(8, "scratchpad"), steps=steps, width=16)


TRAINING: dict[str, Callable[[int], None]] = {
    "bigram, by hand": train_of(lambda: calls.by_hand("Bigram")),
    "one head, by hand": train_of(lambda: calls.by_hand("OneHead", 32)),
    "one block, by hand": train_of(lambda: calls.by_hand("HandGPT", 32, 1, 4)),
    "GPT-2's choices, 4 layers": train_of(lambda: calls.gpt(4, GPTConfig.gpt2, tie_embeddings=False)),
    "2 layers": calls.CALLS["train"],
    "6 layers": train_of(lambda: calls.gpt(6)),
    "6 layers, dropout, tied": train_of(lambda: calls.gpt(6, dropout=0.1, tie_embeddings=True)),
    "2 layers, float16": train_of(lambda: wide(2)),
    "attention only, 2 layers": train_of(lambda: calls.gpt(2, n_hidden=0, qk_norm=False)),
    "functions, 6 layers": functions,
    "arithmetic, 2 layers": arithmetic,
    "running sums, 2 layers": sums,
    "running sums, three models as one": calls.CALLS["train_family"],
    "fine-tuning, 2 layers": calls.CALLS["finetune"],
    "fine-tuning with the language-model loss": calls.CALLS["finetune, with the language-model loss"],
    "reward model, 2 layers": calls.CALLS["train_reward_model"],
    "PPO, an update": calls.CALLS["ppo"],
    "GRPO, an update": calls.CALLS["grpo"],
    "DPO, 2 layers": calls.CALLS["dpo"],
}
GENERATION = {f"generation, {n} layers": lambda m, n=n: calls.generation(m, n) for n in (2, 4, 6)}


def measured(call: Callable[[int], None]) -> dict[str, float]:
    """Return launches a step, and in STEPS steps how often the CPU waits, and what is drawn on the GPU."""
    found = []
    for steps in (FEW, FEW + STEPS):
        fake_t4.counts.clear(), fake_t4.syncs.clear()
        call(steps)
        launches, waits = sum(fake_t4.counts.values()), sum(fake_t4.syncs.values())
        found.append((launches, waits, fake_t4.counts["multinomial"] / fake_t4.kernels_of("multinomial")))
    launches, waits, draws = (more - less for less, more in zip(*found, strict=True))
    return {"launches": launches / STEPS, "waits": waits, "draws": draws}


def main() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    Budget.detect()  # looks once whether the device computes right
    rows = {name: measured(call) for name, call in (TRAINING | GENERATION).items()}
    print(json.dumps({"steps": STEPS, "training": list(TRAINING), "rows": rows}))


if __name__ == "__main__":
    main()
