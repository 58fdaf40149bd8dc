"""The calls that readers make, on the smallest models: each of them takes its steps, updates or positions.

Why it exists: what CUDA and Apple's GPUs refuse, what a step launches and when the CPU waits for it is
asked of the same calls.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gptlib.alignment.dpo import DPOConfig, dpo
from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.ppo import PPOConfig, ppo
from gptlib.alignment.reward_model import Pairs, RewardModel, train_reward_model
from gptlib.alignment.rollouts import Responses
from gptlib.budget import Budget
from gptlib.finetuning import Encoded, FinetuneConfig, TaskModel, accuracy, finetune, transfer
from gptlib.model import GPT, GPTConfig
from gptlib.running_sums import RunningSums, sums_family
from gptlib.sampling import generate
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, evaluate, train

V, STOP = 64, 63
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_babygpt.ipynb"


def gpt(n_layer: int = 2, config: Callable[..., GPTConfig] = GPTConfig.modern, **sizes) -> GPT:
    """Return a model, as small as it may be without changing what it launches."""
    small = dict(context_length=64, n_layer=n_layer, n_head=2, n_embd=32)
    return GPT(config(V, **(small | sizes)))


def by_hand(name: str, *sizes: int) -> nn.Module:
    """Return one of the models that chapter 1 writes by hand."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict = {}
    exec("import math\nimport torch\nfrom torch import nn", names)
    for source in sources:
        if source.startswith("class ") and "def forward" in source:
            exec(source, names)
    return names[name](V, *sizes)


def text() -> EncodedCorpus:
    """Return a text of random tokens."""
    ids = torch.randint(V, (3000,), generator=torch.Generator().manual_seed(0))
    return EncodedCorpus(ids, ids[:300], 1.0, 1.0, V)


def training(model: nn.Module, steps: int, **how) -> None:
    """Train on a text."""
    config = TrainConfig(steps=steps, batch_size=2, eval_every=0, **how)
    train(model, text(), config, Budget.detect())


def fine_tuning(steps: int, n_layer: int = 2, lm_weight: float = 0.0) -> None:
    """Fine-tune on labelled examples."""
    model = TaskModel(transfer(gpt(n_layer)), "classification", 4)
    data = Encoded("classification", [[[1, 2, 3, 4]]] * 20, [0, 1] * 10)
    finetune(model, data, FinetuneConfig(steps, 4, lm_weight=lm_weight))
    accuracy(model, data)


def generation(positions: int, n_layer: int = 2) -> None:
    """Write after prompts of two lengths, until the last of sixteen has come to a stop."""
    model = on_device(gpt(n_layer)).eval()
    generate(model, [[1, 2], [3]] * 8, max_tokens=positions, temperature=0.8, stop=STOP)


def on_device(model: nn.Module) -> nn.Module:
    """Return the model where this machine computes."""
    return model.to(Budget.detect().device)


def family(steps: int) -> None:
    """Train three models as one."""
    sums_family(RunningSums(8, "scratchpad"), (0, 1, 2), steps, width=16)


def comparisons() -> Pairs:
    """Return answers to two prompts, and which was chosen."""
    rows = Responses([[1, 2, 3], [1, 2, 3], [4, 5], [4, 5]], [[6, STOP], [7, STOP], [8, 9, STOP], [9, STOP]])
    return Pairs(rows, torch.tensor([0, 2]), torch.tensor([1, 3]))


def reward_modelling(steps: int) -> None:
    """Learn from comparisons."""
    model = train_reward_model(on_device(gpt()), comparisons(), steps)
    model.scores(comparisons().responses)


def longest(responses: Responses) -> torch.Tensor:
    """Reward long answers."""
    return torch.tensor([float(len(answer)) for answer in responses.answers])


def ppo_updates(updates: int) -> None:
    """Make one step of PPO, of so many passes over its responses."""
    model = on_device(gpt()).eval()
    config = PPOConfig(steps=1, batch_size=4, minibatch=4, epochs=updates)
    ppo(model, RewardModel(model), longest, [[1, 2, 3]] * 8, STOP, config)


def grpo_updates(updates: int) -> None:
    """Make one step of GRPO, of so many passes over its responses."""
    config = GRPOConfig(steps=1, n_prompts=2, group=2, epochs=updates)
    grpo(on_device(gpt()).eval(), longest, [[1, 2, 3]] * 8, STOP, config)


def direct_preferences(steps: int) -> None:
    """Learn from comparisons without a reward model."""
    dpo(on_device(gpt()).eval(), comparisons(), DPOConfig(steps=steps, batch_size=2))


def evaluation(times: int) -> None:
    """Measure the loss on a text."""
    model, data = on_device(gpt()), text()
    for _ in range(times):
        evaluate(model, data.validation)


CALLS: dict[str, Callable[[int], None]] = {
    "train": lambda steps: training(gpt(), steps),
    "evaluate": evaluation,
    "generate": generation,
    "finetune": fine_tuning,
    "finetune, with the language-model loss": lambda steps: fine_tuning(steps, lm_weight=0.5),
    "train_family": family,
    "train_reward_model": reward_modelling,
    "ppo": ppo_updates,
    "grpo": grpo_updates,
    "dpo": direct_preferences,
}
