"""What pre-training is worth, in labels: four ways to learn a task, each given the same n examples."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from gptlib.babygpt import BabyGPT
from gptlib.budget import Budget
from gptlib.finetuning import (
    Encoded,
    FinetuneConfig,
    InputFormat,
    TaskModel,
    accuracy,
    check_same_kind,
    encode,
    extracted_states,
    finetune,
    transfer,
)
from gptlib.labels import Example, Task

MAX_TOKENS = 64  # of a sequence: the texts are short, and half of the context is half of the time
TEST_EXAMPLES = 400
MIN_STEPS, EPOCHS = 120, 3  # GPT-1 took three epochs; a few examples are seen more often than that
ROLES = ("\n", "\n", "def")  # tokens whose embeddings start, delimiter and extract start from


def measure(
    baby: BabyGPT,
    task: Task,
    n: int,
    seed: int = 0,
    *,
    pretrained: bool = True,
    layers: int | None = None,
    lm_weight: float = 0.0,
    roles: tuple[str, ...] = ROLES,
    budget: Budget | None = None,
) -> float:
    """Fine-tune on the first n examples of a task; return the accuracy on its test examples.

    Not `pretrained`: the same network, its weights drawn anew. `layers` transfers only so many blocks,
    `lm_weight` adds the auxiliary loss, `roles` without tokens lets the special tokens start at random.
    Raises ValueError when there are fewer than n examples.
    """
    gpt = transfer(baby.model, layers if pretrained else 0, tokens_of(baby, roles), seed)
    model = TaskModel(gpt, task.kind, len(task.answers), seed)
    train, test = encoded(baby, task, n)
    steps = max(MIN_STEPS, EPOCHS * n // FinetuneConfig.batch_size)
    finetune(model, train, FinetuneConfig(steps, lm_weight=lm_weight, seed=seed), budget)
    return accuracy(model, test)


def linear_probe(baby: BabyGPT, task: Task, n: int) -> float:
    """Fit the linear layer alone, on frozen states of the pre-trained model; return the test accuracy."""
    model = TaskModel(transfer(baby.model, special=tokens_of(baby)), task.kind, len(task.answers))
    train, test = encoded(baby, task, n)
    fit_head(model, train)
    return accuracy(model, test)


def tokens_of(baby: BabyGPT, roles: Sequence[str] = ROLES) -> list[int]:
    """Return the tokens that start, delimiter and extract start from: the first of each role."""
    return [baby.tokenizer.encode(role)[0] for role in roles]


def encoded(baby: BabyGPT, task: Task, n: int) -> tuple[Encoded, Encoded]:
    """Return the first n training examples and the test examples as token sequences."""
    if not 0 < n <= len(task.train):
        raise ValueError(f"there are {len(task.train)} labelled examples of {task.kind}, not {n}")
    form = InputFormat(baby.tokenizer, MAX_TOKENS, truncate=True)
    parts = task.train[:n], task.test[:TEST_EXAMPLES]
    train, test = (encode(task.kind, part, len(task.answers), form) for part in parts)
    return train, test


def fit_head(model: TaskModel, data: Encoded, l2: float = 1e-3) -> None:
    """Fit the linear layer in place, by L-BFGS on the mean loss + l2 times the squared weights."""
    check_same_kind(model, data)
    states, labels = extracted_states(model, data), torch.tensor(data.labels)
    head = model.cpu().head
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(model.score(states), labels) + l2 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)


def word_counts(task: Task, n: int) -> float:
    """Return the test accuracy of TF-IDF and logistic regression on the first n labels: no network at all.

    Of two texts it sees the counts of each and their products, where common words show. Of several
    answers it scores each alone, and takes the best.
    """
    several = task.kind == "multiple_choice"
    train, test = task.train[:n], task.test[:TEST_EXAMPLES]
    reader = TfidfVectorizer(sublinear_tf=True).fit([text for e in train for text in e.texts])

    def features(examples: Sequence[Example]) -> np.ndarray:
        if task.kind == "classification":
            return reader.transform([e.texts[0] for e in examples]).toarray()
        pairs = [(e.texts[0], answer) for e in examples for answer in e.texts[1:]]
        a, b = (reader.transform(side).toarray() for side in zip(*pairs, strict=True))
        return np.hstack([a, b, a * b, (a * b).sum(1, keepdims=True)])

    labels, truth = (np.array([e.label for e in part]) for part in (train, test))
    if several:  # of each answer: is it the one?
        labels = (labels[:, None] == np.arange(len(task.answers))).ravel()
    fitted = LogisticRegression(C=10, max_iter=1000).fit(features(train), labels)
    if several:
        scores = fitted.decision_function(features(test)).reshape(len(truth), -1)
        return float((scores.argmax(1) == truth).mean())
    return float(fitted.score(features(test), truth))


METHODS: dict[str, Callable[[BabyGPT, Task, int, int], float]] = {
    "pre-trained": lambda baby, task, n, seed: measure(baby, task, n, seed),
    "from scratch": lambda baby, task, n, seed: measure(baby, task, n, seed, pretrained=False),
    "linear probe": lambda baby, task, n, seed: linear_probe(baby, task, n),
    "word counts": lambda baby, task, n, seed: word_counts(task, n),
}

# GPT-1's ablations (Radford et al. 2018, figure 2 and table 5), and one of ours.
VARIANTS: dict[str, Callable[[BabyGPT, Task, int, int], float]] = {
    "auxiliary loss": lambda baby, task, n, seed: measure(baby, task, n, seed, lm_weight=0.5),
    "embeddings and 2 blocks": lambda baby, task, n, seed: measure(baby, task, n, seed, layers=2),
    "embeddings and 1 block": lambda baby, task, n, seed: measure(baby, task, n, seed, layers=1),
    "special tokens at random": lambda baby, task, n, seed: measure(baby, task, n, seed, roles=()),
}


def labels_worth(rows: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """Return how many times the labels pre-training is worth on a task, with a 90 % interval.

    `rows` has the columns method, n, seed and accuracy. From scratch at the most labels reaches some
    accuracy: by how much do fewer suffice for the pre-trained model, its curve read between points in
    log n? The interval is the bootstrap's, over seeds. A curve that starts above gives a lower bound.
    Raises ValueError when a method is missing or the pre-trained model never gets there.
    """
    tables = {method: rows[rows.method == method].pivot(index="n", columns="seed", values="accuracy")
              for method in ("pre-trained", "from scratch")}  # fmt: skip
    if any(table.empty for table in tables.values()):
        raise ValueError("labels_worth compares the rows of 'pre-trained' with those of 'from scratch'")
    rng = np.random.default_rng(seed)
    draws = [_ratio(*(t.mean(axis=1) for t in tables.values()))]
    for _ in range(n_boot):
        drawn = (t.iloc[:, rng.integers(t.shape[1], size=t.shape[1])].mean(axis=1) for t in tables.values())
        draws.append(_ratio(*drawn))
    if not np.isfinite(draws[0]):
        raise ValueError("the pre-trained model does not reach what the other does with all labels")
    low, high = np.nanquantile(draws[1:], [0.05, 0.95])
    return draws[0], float(low), float(high)


def _ratio(pretrained: pd.Series, scratch: pd.Series) -> float:
    """All labels, divided by those at which the pre-trained curve first reaches what scratch ends at."""
    goal, sizes, values = scratch.iloc[-1], np.log(pretrained.index.to_numpy(float)), pretrained.to_numpy()
    above = np.flatnonzero(values >= goal)
    if not len(above):
        return float("nan")
    i = above[0]
    here = sizes[i] if i == 0 else np.interp(goal, values[i - 1 : i + 1], sizes[i - 1 : i + 1])
    return float(np.exp(np.log(scratch.index[-1]) - here))
