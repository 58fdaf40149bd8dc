import pandas as pd
import pytest
import torch

from gptlib.babygpt import BabyGPT
from gptlib.budget import Budget
from gptlib.finetuning import InputFormat, TaskModel, accuracy, encode, transfer
from gptlib.history import History
from gptlib.label_efficiency import fit_head, labels_worth, linear_probe, measure, tokens_of, word_counts
from gptlib.labels import Example, Task
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import BPETokenizer

CPU = Budget("cpu", torch.device("cpu"), torch.float32)
WORDS = ["read", "write", "open", "close", "parse", "send"]


def word_task(kind):
    """Make a task that common words decide."""
    examples = []
    for i in range(48):
        word, other = WORDS[i % 6], WORDS[(i + 1 + i // 6 % 5) % 6]
        if kind == "classification":
            examples.append(Example((f"do {word} now",), i % 6 % 2))
        elif kind == "multiple_choice":
            answers = [f"to {other} it", f"to {other} them"]
            answers.insert(i // 6 % 3, f"to {word} it")
            examples.append(Example((f"def {word} file", *answers), i // 6 % 3))
        else:
            same = i // 6 % 2
            examples.append(Example((f"{word} one", f"two {word if same else other}"), same))
    n = {"classification": 2, "multiple_choice": 3}.get(kind, 2)
    return Task(kind, "?", tuple("abc"[:n]), examples, examples)


@pytest.mark.parametrize("kind", ["classification", "similarity", "multiple_choice"])
def test_word_counts_solve_what_words_decide(kind):
    assert word_counts(word_task(kind), 48) > 0.9


def test_word_counts_cannot_tell_what_only_order_decides():
    texts = [("a dog bites the man", 0), ("the man bites a dog", 1)] * 8
    task = Task("classification", "?", ("0", "1"), [Example((t,), y) for t, y in texts], [])
    task = Task(task.kind, "?", task.answers, task.train, task.train)
    assert word_counts(task, 16) == 0.5


@pytest.fixture(scope="module")
def baby():
    tokenizer = BPETokenizer.train("def read(self):\n    close the file\n" * 20, 270)
    config = GPTConfig.modern(tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, zero_init=False)
    return BabyGPT(GPT(config, seed=7), tokenizer, None, History())


def test_from_scratch_forgets_the_pretrained_weights(baby, monkeypatch):
    seen = []
    monkeypatch.setattr("gptlib.label_efficiency.finetune", lambda model, *rest: seen.append(model))
    task = word_task("classification")
    measure(baby, task, 8, budget=CPU)
    measure(baby, task, 8, pretrained=False, budget=CPU)
    own = baby.model.tokens.weight
    kept, anew = (model.gpt.tokens.weight[: len(own)] for model in seen)
    assert torch.equal(kept, own) and not torch.equal(anew, own)


def test_more_labels_than_there_are_is_refused(baby):
    with pytest.raises(ValueError, match="48 labelled examples"):
        measure(baby, word_task("classification"), 49, budget=CPU)


def test_the_probe_changes_the_head_alone_and_separates_what_can_be(baby):
    task = word_task("classification")
    model = TaskModel(transfer(baby.model), task.kind, 2)
    before = {name: p.clone() for name, p in model.gpt.named_parameters()}
    data = encode(task.kind, task.train, 2, InputFormat(baby.tokenizer, 64))
    fit_head(model, data, l2=1e-6)
    assert all(torch.equal(p, before[name]) for name, p in model.gpt.named_parameters())
    assert accuracy(model, data) == 1
    fit_head(probe := TaskModel(transfer(baby.model, special=tokens_of(baby)), task.kind, 2), data)
    assert linear_probe(baby, task, 48) == accuracy(probe, data) > 0.6


def curves(pretrained, scratch, seeds=2):
    return pd.DataFrame(
        [
            (method, n, seed, accuracy)
            for method, values in (("pre-trained", pretrained), ("from scratch", scratch))
            for n, accuracy in values.items()
            for seed in range(seeds)
        ],
        columns=["method", "n", "seed", "accuracy"],
    )


def test_labels_worth_reads_the_curve_in_log_n():
    # scratch ends at .5 with 1600; pre-trained passes .5 half-way, in log n, from 100 to 400: at 200
    rows = curves({100: 0.4, 400: 0.6, 1600: 0.9}, {100: 0.3, 1600: 0.5})
    assert labels_worth(rows) == pytest.approx((8, 8, 8))


def test_labels_worth_is_a_lower_bound_where_the_curve_starts_above():
    assert labels_worth(curves({100: 0.6, 1600: 0.9}, {100: 0.3, 1600: 0.5}))[0] == pytest.approx(16)


def test_labels_worth_has_an_interval_where_seeds_differ():
    rows = curves({100: 0.4, 400: 0.6, 1600: 0.9}, {100: 0.3, 1600: 0.5})
    rows.loc[(rows.seed == 1) & (rows.method == "from scratch"), "accuracy"] -= 0.05
    worth, low, high = labels_worth(rows)
    assert low < worth < high


def test_labels_worth_refuses_what_cannot_be_compared():
    rows = curves({100: 0.4, 400: 0.45}, {100: 0.3, 400: 0.5})
    with pytest.raises(ValueError, match="does not reach"):
        labels_worth(rows)
    with pytest.raises(ValueError, match="compares"):
        labels_worth(rows[rows.method == "pre-trained"])
