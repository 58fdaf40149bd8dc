"""Prompts, their scores and what is done beside them, on models whose answers are known."""

import copy
import dataclasses
import random

import pandas as pd
import pytest
import torch
from torch import nn

from gptlib import in_context
from gptlib.budget import Budget
from gptlib.history import History
from gptlib.in_context import (
    CONTEXT,
    GROUPS,
    SHOTS,
    TOKENIZER,
    accuracies,
    answers,
    draw_prompts,
    evaluate,
    evaluate_pretrained,
    finetune_on,
    shares,
    shuffled,
    task_corpus,
    task_model,
    weights_hash,
    wrong_labels,
)
from gptlib.tasks import EVERYDAY, FAMILIES, KINDS, MAPPINGS, document

OWN = [name for name in FAMILIES if name not in EVERYDAY]


class LookUp(nn.Module):
    """Answers a mapping's question as the last example with this question did, else with a line break."""

    context_length = CONTEXT

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, TOKENIZER.vocab_size)
        for row, tokens in enumerate(ids.tolist()):
            question = tokens[-2]
            told = [tokens[t + 2] for t in range(len(tokens) - 3) if tokens[t] == question]
            logits[row, -1, told[-1] if told else 0] = 1
        return logits


@pytest.fixture
def tiny(monkeypatch):
    """A model of sixteen channels that has been trained for a moment."""
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(in_context, "N_DOCUMENTS", 300)
    return task_model(task_corpus(), 16, steps=3)


def test_fewer_shots_are_the_last_of_more_and_the_question_stays():
    more, fewer = (draw_prompts("noun to name", k, 20, seed=3) for k in (8, 2))
    for long, short in zip(more, fewer, strict=True):
        assert long.examples[-2:] == short.examples
        assert (long.question, long.answer) == (short.question, short.answer)
    assert [p.text for p in draw_prompts("add", 4, 5, 0)] != [p.text for p in draw_prompts("add", 4, 5, 1)]


@pytest.mark.parametrize("family", OWN)
def test_every_prompt_fits_into_the_context(family):
    prompts = draw_prompts(family, max(SHOTS), 5, seed=0)
    assert max(len(TOKENIZER.encode(prompt.text)) for prompt in prompts) <= CONTEXT - 1


def test_two_families_of_one_kind_do_not_draw_alike():
    def places(family):
        asked = KINDS[family.split(" to ")[0]]
        return [asked.index(prompt.question) for prompt in draw_prompts(family, 0, 30, seed=0)]

    assert places("noun to name") != places("noun to letter")


def test_a_prompt_ends_with_the_question_and_an_arrow():
    (prompt,) = draw_prompts("add", 2, 1, seed=0)
    first, second = (" => ".join(example) for example in prompt.examples)
    assert prompt.text == f"add:\n{first}\n{second}\n{prompt.question} =>"
    step = int(prompt.answer) - int(prompt.question)
    assert all(int(answer) - int(question) == step for question, answer in prompt.examples)


@pytest.mark.parametrize(("family", "shots"), [("none such", 1), ("add", 16), ("add", -1)])
def test_what_cannot_be_asked_is_refused(family, shots):
    with pytest.raises(ValueError, match=r"there is no family|from 0 to 15"):
        draw_prompts(family, shots, 1, seed=0)


def test_wrong_labels_are_answers_of_the_task_and_never_the_right_one():
    rng = random.Random(0)
    for prompt in draw_prompts("letter to noun", 15, 20, seed=1):
        wrong = wrong_labels(prompt, rng)
        for (question, answer), (asked, given) in zip(prompt.examples, wrong.examples, strict=True):
            assert asked == question and given != answer and given in prompt.labels
        assert (wrong.question, wrong.answer) == (prompt.question, prompt.answer)


def test_shuffling_keeps_the_examples():
    (prompt,) = draw_prompts("letter to noun", 15, 1, seed=1)
    moved = shuffled(prompt, random.Random(0))
    assert sorted(moved.examples) == sorted(prompt.examples) and moved.examples != prompt.examples


def test_a_reader_who_looks_up_is_right_whenever_the_question_was_among_the_examples():
    rows = evaluate(LookUp(), families=MAPPINGS[1:4], shots=(0, 1, 4, 15), n=30)
    assert (rows["right"] == rows["seen"]).all()
    assert rows["seen"][rows["shots"] == 0].sum() == 0 and rows["seen"][rows["shots"] == 15].min() > 25


def test_a_reader_who_looks_up_believes_wrong_labels():
    rows = evaluate(LookUp(), families=MAPPINGS[1:4], shots=(15,), n=30, change=wrong_labels)
    assert rows["right"].sum() == 0


def test_the_majority_is_counted_over_the_examples():
    rows = evaluate(LookUp(), families=["letter to noun"], shots=(0, 1, 5), n=40, seed=9)
    for k in (1, 5):
        expected = 0
        for prompt in draw_prompts("letter to noun", k, 40, seed=9):
            shown = [answer for _, answer in prompt.examples]
            expected += max(shown, key=shown.count) == prompt.answer
        assert rows.set_index("shots").loc[k, "majority"] == expected
    assert rows["majority"][0] == rows["chance"][0] == 40 / 16


def test_the_majority_is_that_of_the_prompts_as_they_were_put():
    def only_wrong(prompt, rng):
        return dataclasses.replace(prompt, examples=(("a", "7"),))

    rows = evaluate(LookUp(), families=["letter to noun"], shots=(5,), n=20, change=only_wrong)
    assert rows["majority"].sum() == 0


def test_shares_have_wilsons_interval():
    rows = pd.DataFrame(dict(shots=[1, 1], prompts=[6, 4], right=[5, 3], majority=[1, 1], seen=0, chance=0))
    row = shares(rows).loc[1]
    assert row["right"] == 0.8 and row["majority"] == 0.2
    assert (row["low"], row["high"]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


class Recite(nn.Module):
    """Writes the same words after every arrow, whatever came before, and counts how often it was asked."""

    context_length = CONTEXT

    def __init__(self, text):
        super().__init__()
        self.unused, self.words, self.asked = nn.Parameter(torch.zeros(())), TOKENIZER.encode(text), []

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, TOKENIZER.vocab_size)
        arrow = TOKENIZER.encode("=>")[0]
        for row, tokens in enumerate(ids.tolist()):
            written = tokens[::-1].index(arrow)
            logits[row, -1, self.words[written]] = 1
        self.asked.append(len(ids))
        return logits


def test_an_answer_of_several_words_ends_with_its_line_and_then_nothing_more_is_asked():
    prompts = draw_prompts("letter to noun", 2, 5, 0)
    model = Recite("boat moon\nadd copy")
    assert answers(model, TOKENIZER, prompts, max_tokens=5) == ["boat moon"] * 5
    assert len(model.asked) == 3  # two words and the line's end
    assert answers(model, TOKENIZER, prompts, max_tokens=1) == ["boat"] * 5


def test_many_prompts_are_answered_in_parts_that_bound_the_memory(monkeypatch):
    monkeypatch.setattr(in_context, "TOKENS_AT_ONCE", 2 * CONTEXT)
    model = Recite("boat")
    assert answers(model, TOKENIZER, draw_prompts("letter to noun", 2, 5, 0), max_tokens=1) == ["boat"] * 5
    assert model.asked == [2, 2, 1]


def test_prompting_updates_nothing_and_the_hash_would_show_it(tiny):
    before = weights_hash(tiny)
    evaluate(tiny, families=["add"], shots=(0, 4), n=10)
    assert weights_hash(tiny) == before == weights_hash(copy.deepcopy(tiny))
    with torch.no_grad():
        tiny.head.weight[0, 0] = torch.nextafter(tiny.head.weight[0, 0], torch.tensor(9.0))
    assert weights_hash(tiny) != before


def test_finetuning_teaches_the_examples_to_a_copy(tiny):
    before = weights_hash(tiny)
    shots = [("a", "boat"), ("b", "moon"), ("c", "salt")]
    with pytest.raises(ValueError, match="equally many words"):
        finetune_on(tiny, "pick:", [("a b c", "a"), ("a", "a")])
    with pytest.raises(ValueError, match="lower the learning rate"):
        finetune_on(tiny, "letter to noun:", shots, lr=1e30)
    tuned = finetune_on(tiny, "letter to noun:", shots, steps=150, lr=1e-2)
    assert weights_hash(tiny) == before != weights_hash(tuned)
    for question, answer in shots:
        ids = torch.tensor([TOKENIZER.encode(document("letter to noun:", [], question))])
        assert TOKENIZER.words[tuned(ids)[0, -1].argmax()] == answer


def test_a_recorded_row_names_every_group_at_every_number_of_shots(tiny, monkeypatch):
    groups, asked = {"add": ("add",), "maps": tuple(MAPPINGS[:2])}, []

    def look_up(model, families, n):
        asked.append((families, n))
        return evaluate(LookUp(), families=families, n=10)

    monkeypatch.setattr(in_context, "GROUPS", groups)
    monkeypatch.setattr(in_context, "evaluate", look_up)
    row = accuracies(8, "plain", 0, steps=2)
    assert asked == [(("add",), 300), (tuple(MAPPINGS[:2]), 150)]  # as many prompts for each group
    expected = {
        f"{group}@{k}": pytest.approx(right, abs=1e-4)
        for group, families in groups.items()
        for k, right in shares(evaluate(LookUp(), families=families, n=10))["right"].items()
    }
    assert {name: row[name] for name in row if "@" in name} == expected and len(expected) == 2 * len(SHOTS)
    assert row["steps"] == 2 and row["maps@15"] > row["maps@1"]
    assert {family for families in GROUPS.values() for family in families} == set(OWN)


def test_when_no_model_can_be_opened_there_is_an_empty_table(monkeypatch, capsys):
    def refuse(name):
        raise OSError("the network is away")

    monkeypatch.setattr(in_context, "load_causal_lm", refuse)
    assert evaluate_pretrained(["gpt2"], ["add"], (0,), 2).empty
    assert "gpt2 is left out: the network is away" in capsys.readouterr().out


def test_task_models_compute_in_float32_on_every_machine(monkeypatch):
    seen = []

    def trained(model, data, config, budget):
        seen.append(budget.dtype)
        return History()

    monkeypatch.setattr(in_context, "train", trained)
    monkeypatch.setattr(
        Budget, "detect", classmethod(lambda cls: Budget("cpu", torch.device("cpu"), torch.bfloat16))
    )
    monkeypatch.setattr(in_context, "N_DOCUMENTS", 20)
    task_model(task_corpus(), 8)
    assert seen == [torch.float32]
