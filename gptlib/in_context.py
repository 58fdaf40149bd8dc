"""Few-shot prompting: tasks shown by examples in the prompt, to models that are not updated.

Prompts have the format of the GPT-3 paper (Brown et al. 2020, figure 2.1). `evaluate` scores any model
that `generate` can write with, the reader's own or a real GPT-2.
"""

import copy
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import nn

from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.pretrained import load_causal_lm
from gptlib.sampling import continuations
from gptlib.tasks import (
    COPIES,
    EXAMPLES,
    FAMILIES,
    HELD_OUT_MAPPINGS,
    TRAINED_MAPPINGS,
    VOCABULARY,
    Example,
    document,
    training_text,
)
from gptlib.tokenizers import EncodedCorpus, Tokenizer, WordTokenizer
from gptlib.training import TrainConfig, answer_loss, train

TOKENIZER = WordTokenizer(VOCABULARY)
CONTEXT = 100  # tokens: the longest prompt, fifteen examples of picking, has 97
TOKENS_AT_ONCE = 8192  # of context, of all prompts answered side by side: bounds the memory for the past
N_DOCUMENTS = 30_000
RECIPE = TrainConfig(batch_size=32, lr=0.004, muon_lr=0.015, decay_fraction=0.5, eval_every=0)
SHOTS = (0, 1, 2, 4, 8, 15)
WIDTHS = (8, 16, 24, 32, 48, 64, 128)  # of the recorded models, in channels
COPYING = {"arrowed": (COPIES, True), "plain": (COPIES, False), "none": (0.0, False)}  # share, with arrows
GROUPS = {  # what is measured apart
    "held-out mappings": HELD_OUT_MAPPINGS,
    "trained mappings": TRAINED_MAPPINGS,
    "add, new step": ("add, new step",),
    "add": ("add",),
    "pick, new letters": ("pick, new letters",),
    "pick": ("pick",),
}


def task_corpus(seed: int = 0, copies: float = COPIES, arrows: bool = True) -> EncodedCorpus:
    """Return documents of the trained families, encoded, and others of the same kind to validate on."""
    texts = [training_text(n, 2 * seed + part, copies, arrows) for part, n in enumerate((N_DOCUMENTS, 300))]
    ids = [torch.tensor(TOKENIZER.encode(text)) for text in texts]
    per_token = [len(text) / len(its_ids) for text, its_ids in zip(texts, ids, strict=True)]
    return EncodedCorpus(*ids, per_token[1], per_token[0], TOKENIZER.vocab_size)


def task_model(data: EncodedCorpus, width: int, seed: int = 0, steps: int = 600) -> GPT:
    """Return a GPT of two layers and `width` channels, trained to continue the documents of `data`.

    Raises KeyboardInterrupt when the training is stopped before its end.
    """
    config = GPTConfig.of_width(data.vocab_size, width, context_length=CONTEXT, n_layer=2)
    model = GPT(config, seed)
    how = replace(RECIPE, steps=steps, seed=seed)
    train(model, data, how, Budget.detect().in_float32()).finished()
    return model.eval()


@dataclass(frozen=True)
class Prompt:
    """A question after its examples, and the answer that the task gives."""

    description: str
    examples: tuple[Example, ...]
    question: str
    answer: str
    labels: tuple[str, ...]  # all answers of the task
    arrow: str = " => "

    @property
    def text(self) -> str:
        """The whole prompt: the description, the shots, and the question."""
        return document(self.description, self.examples, self.question, self.arrow)


def draw_prompts(family: str, shots: int, n: int, seed: int) -> list[Prompt]:
    """Draw n tasks of a family and a question of each, after `shots` examples.

    With the same seed, fewer shots are the last of more, and tasks and questions stay.
    Raises ValueError when there is no such family, or shots are not 0 to 15.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}; there are {', '.join(FAMILIES)}")
    if not 0 <= shots < EXAMPLES:
        raise ValueError(f"from 0 to {EXAMPLES - 1} shots fit into the context, not {shots}")
    rng, prompts = random.Random(f"{family}, {seed}"), []  # not the same draws in every family
    for _ in range(n):
        task = FAMILIES[family].draw(rng)
        *examples, (question, answer) = task.examples(EXAMPLES, rng)
        labels = tuple(dict.fromkeys(task.answers.values()))
        shown = tuple(examples[len(examples) - shots :])
        prompts.append(Prompt(task.description, shown, question, answer, labels))
    return prompts


def wrong_labels(prompt: Prompt, rng: random.Random) -> Prompt:
    """Give every example another answer of the task, never its own."""
    changed = [(asked, rng.choice([label for label in prompt.labels if label != answer]))
               for asked, answer in prompt.examples]  # fmt: skip
    return replace(prompt, examples=tuple(changed))


def shuffled(prompt: Prompt, rng: random.Random) -> Prompt:
    """Show the examples in another order."""
    return replace(prompt, examples=tuple(rng.sample(prompt.examples, len(prompt.examples))))


def answers(model: nn.Module, tokenizer: Tokenizer, prompts: Sequence[Prompt], max_tokens: int) -> list[str]:
    """Return what the model writes after each prompt, the most probable tokens, up to a line's end."""
    ids = [tokenizer.encode(prompt.text) for prompt in prompts]
    at_once = max(TOKENS_AT_ONCE // model.context_length, 1)
    how = dict(max_tokens=max_tokens, temperature=0, stop=tokenizer.encode("\n")[-1])
    new = continuations(model, ids, at_once, tokenizer, **how)
    return [tokenizer.decode(row).split("\n")[0].strip() for row in new]


def evaluate(
    model: nn.Module,
    tokenizer: Tokenizer = TOKENIZER,
    families: Sequence[str] = HELD_OUT_MAPPINGS,
    shots: Sequence[int] = SHOTS,
    n: int = 60,
    seed: int = 1000,
    change: Callable[[Prompt, random.Random], Prompt] | None = None,
    max_tokens: int = 1,
) -> pd.DataFrame:
    """Prompt a model with n tasks of each family after each number of shots; return a row for each of both.

    A row has the counts `prompts`, `right` (the answer, to the letter), `majority` (what the most frequent
    answer among the examples would have got right; without examples, a guess), `seen` (the question was
    among the examples) and `chance` (a guess among as many answers as the family has). `change` alters
    each prompt before it is put; the right answer stays the task's.
    """
    rows, rng = [], random.Random(seed)
    for family in families:
        for k in shots:
            prompts = draw_prompts(family, k, n, seed)
            put = [change(prompt, rng) for prompt in prompts] if change else prompts
            given = answers(model, tokenizer, put, max_tokens)
            chance = n / FAMILIES[family].n_answers
            rows.append({
                "family": family,
                "shots": k,
                "prompts": n,
                "right": sum(a == p.answer for a, p in zip(given, prompts, strict=True)),
                "majority": sum(_majority(p) == p.answer for p in put) if k else chance,
                "seen": sum(p.question in dict(p.examples) for p in put),
                "chance": chance,
            })  # fmt: skip
    return pd.DataFrame(rows)


def evaluate_pretrained(
    names: Sequence[str], families: Sequence[str], shots: Sequence[int], n: int, max_tokens: int = 8
) -> pd.DataFrame:
    """Put the same prompts to pre-trained models, one after the other; return their rows.

    Names are folders, or models on the Hugging Face hub. What cannot be opened is named, with the reason,
    and left out. The other arguments are those of `evaluate`.
    """
    tables = []
    for name in names:
        try:
            model, tokenizer = load_causal_lm(name)
        except (OSError, ImportError, ValueError) as error:
            print(f"{name} is left out: {error}")
            continue
        model.to(Budget.detect().device)
        rows = evaluate(model, tokenizer, families, shots, n, max_tokens=max_tokens)
        tables.append(rows.assign(model=str(name)))
        del model
    return pd.concat(tables) if tables else pd.DataFrame()


def _majority(prompt: Prompt) -> str:
    return Counter(answer for _, answer in prompt.examples).most_common(1)[0][0]


def shares(rows: pd.DataFrame, by: Sequence[str] = ("shots",)) -> pd.DataFrame:
    """Add rows up; return accuracies in [0, 1] with Wilson's 95 % interval (`low`, `high`)."""
    counts = rows.groupby(list(by), sort=False)[["prompts", "right", "majority", "seen", "chance"]].sum()
    table = counts.div(counts["prompts"], axis=0).drop(columns="prompts")
    tests = [binomtest(int(right), int(n)) for right, n in counts[["right", "prompts"]].to_numpy()]
    intervals = [test.proportion_ci(method="wilson") for test in tests]
    table.insert(1, "low", [interval.low for interval in intervals])
    table.insert(2, "high", [interval.high for interval in intervals])
    return table


def accuracies(width: int, copies: str, seed: int, steps: int = 1200) -> dict[str, float]:
    """Train a model on texts with such copies (see COPYING); return its accuracies as "group@shots"."""
    model = task_model(task_corpus(seed, *COPYING[copies]), width, seed, steps)
    row = {"steps": steps, "params": model.n_params}
    for group, families in GROUPS.items():
        table = shares(evaluate(model, families=families, n=300 // len(families)))
        row |= {f"{group}@{k}": round(right, 4) for k, right in table["right"].items()}
    return row


def weights_hash(model: nn.Module) -> str:
    """Return a SHA-256 of all that a model has learned: it differs when a single bit does."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def finetune_on(
    model: GPT, description: str, examples: Sequence[Example], steps: int = 30, lr: float = 1e-3
) -> GPT:
    """Return a copy of a model, trained to answer the questions of these examples, each put alone.

    The loss is that of the answer; all examples are in every step. Raises ValueError when their lengths
    differ, or when the loss is not finite.
    """
    model = copy.deepcopy(model).train()
    texts = [document(description, [], question) + f" {answer}" for question, answer in examples]
    rows = [TOKENIZER.encode(text) for text in texts]
    if len(set(map(len, rows))) != 1:
        raise ValueError("give at least one example, and only examples that have equally many words")
    ids = torch.tensor(rows, device=next(model.parameters()).device)  # (B, T)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        loss = answer_loss(model, ids, 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not loss.isfinite():
        raise ValueError(f"the loss ended as {loss.item()}: lower the learning rate")
    return model.eval()
