"""Prompts differ in their steps alone; what is begun goes on; votes and followers are counted right."""

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from gptlib import chain_of_thought
from gptlib.chain_of_thought import (
    NOT_COUNTED,
    SHOTS,
    TOKENIZER,
    Prompt,
    answer_in,
    by_length,
    draw_prompts,
    evaluate,
    follow,
    majority,
    n_tokens,
    reasoning_model,
    recorded_scores,
    sample,
    self_consistency,
    share_right,
    steps_loss,
    tampered,
    training_batch,
    write,
)
from gptlib.model import GPT, GPTConfig
from gptlib.training import next_token_loss
from gptlib.word_problems import PROBLEMS, Problem


class Reciter(nn.Module):
    """Writes a fixed text after any prompt that ends in a question, or after what is begun."""

    context_length = chain_of_thought.CONTEXT

    def __init__(self, text):
        super().__init__()
        self.unused, self.ids = nn.Parameter(torch.zeros(())), TOKENIZER.encode(text + "\n")
        self.asked = TOKENIZER.encode("?")[0]

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, TOKENIZER.vocab_size)
        for row, its_ids in zip(logits, ids.tolist(), strict=True):
            since = its_ids[::-1].index(self.asked)  # tokens after the last question
            row[-1, self.ids[min(since, len(self.ids) - 1)]] = 30
        return logits


@pytest.mark.parametrize("kind", PROBLEMS)
def test_prompts_with_and_without_reasoning_ask_the_same(kind):
    worked, direct = (draw_prompts(kind, reasoning, 20) for reasoning in (True, False))
    assert [p.problem for p in worked] == [p.problem for p in direct]
    assert [p.examples for p in worked] == [p.examples for p in direct]
    for prompt in worked:
        assert prompt.problem.is_held_out and not any(example.is_held_out for example in prompt.examples)
        assert prompt.text.endswith(prompt.problem.question) and prompt.text.count("answer") == SHOTS
        assert prompt.examples[0].steps[0] in prompt.text
    assert "makes" not in direct[0].text and "ends" not in direct[0].text


def test_only_what_follows_a_question_counts():
    ids, targets = training_batch(40, random.Random(0))
    assert ids.shape == targets.shape
    for row, its_targets in zip(ids, targets, strict=True):
        counted = its_targets != NOT_COUNTED
        torch.testing.assert_close(row[counted], its_targets[counted])
        said = TOKENIZER.decode(row[counted])
        assert said.count("answer") == said.count("\n") == SHOTS + 1 and "?" not in said
        assert TOKENIZER.decode(row[~counted]).count("?") == SHOTS + 1


@pytest.mark.parametrize("groups", [1, 3])
def test_in_groups_of_like_length_the_loss_is_the_same_and_less_is_read(groups):
    ids, targets = training_batch(20, random.Random(4))
    sizes = dict(context_length=ids.shape[1], n_layer=2, zero_init=False)
    model = GPT(GPTConfig.of_width(TOKENIZER.vocab_size, 16, **sizes))
    parts = by_length(ids, targets, groups)
    whole = next_token_loss(model(ids[:, :-1]), targets[:, 1:])
    torch.testing.assert_close(steps_loss(model, *parts), whole)
    assert sum(len(read) for read in parts[::3]) == 20
    read = sum(part.numel() for part in parts[::3])
    assert read == ids[:, 1:].numel() if groups == 1 else read < 0.8 * ids.numel()


def test_the_share_of_worked_documents_is_as_asked():
    for worked in (0.0, 1.0):
        texts = [TOKENIZER.decode(row) for row in training_batch(30, random.Random(2), worked)[0]]
        shown = ["makes" in text or "ends" in text for text in texts if "coin" in text or "last" in text]
        assert shown and all(shown) == any(shown) == bool(worked)


def test_documents_are_worked_or_unworked_throughout():
    ids, _ = training_batch(60, random.Random(1))
    counts = [TOKENIZER.decode(row).count("makes") for row in ids]
    texts = [TOKENIZER.decode(row) for row in ids]
    coins = [n for n, text in zip(counts, texts, strict=True) if "coin" in text]
    assert min(coins) == 0 and set(coins) - {0} <= set(range(12, 16))


def test_what_is_written_ends_with_the_line_and_is_scored_by_its_answer():
    prompts = draw_prompts("coins", True, 12)
    written = write(Reciter("Ada flips makes tails . answer tails"), prompts)
    assert set(written) == {"Ada flips makes tails . answer tails"}
    tails = sum(prompt.problem.answer == "tails" for prompt in prompts) / 12
    assert share_right(prompts, written) == tails and 0 < tails < 1
    assert n_tokens(written) == 8  # with the line's end


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a . answer l a", "l a"),
        ("answer 3", "3"),
        ("no end", ""),
        ("answer 1 answer 2", "2"),
        ("answer", ""),
    ],
)
def test_the_answer_is_what_stands_last(text, answer):
    assert answer_in(text) == answer


def test_a_majority_by_hand():
    assert majority(["1", "2", "2"]) == "2" and majority(["3", "1", "1", "3"]) == "3"
    assert majority(["", "", "3"]) == "3" and majority(["", ""]) == ""


def test_more_votes_than_samples_are_refused():
    prompts = draw_prompts("coins", True, 1)
    with pytest.raises(ValueError, match="as many samples"):
        self_consistency(prompts, [["answer heads"]], (1, 3))


def test_votes_are_counted_in_groups():
    problem = Problem("which side ?", (), "heads")
    prompts = [Prompt(problem, (), True)] * 2
    heads, tails = "answer heads", "answer tails"
    samples = [[heads, tails, heads, tails, tails, tails], [heads] * 6]
    one, three = self_consistency(prompts, samples, (1, 3))
    assert one["majority"] == one["any"] == pytest.approx(8 / 12) and one["tokens"] == 3
    assert three["majority"] == 3 / 4 and three["any"] == 3 / 4 and three["tokens"] == 9


def test_tampered_steps_lead_elsewhere():
    rng = random.Random(0)
    for kind in PROBLEMS:
        for prompt in draw_prompts(kind, True, 60):
            changed, follows = tampered(prompt, "wrong", rng)
            assert follows != prompt.problem.answer and changed.begun and changed.text.endswith(changed.begun)
            assert changed.begun not in " ".join(prompt.problem.steps)


@pytest.mark.parametrize("kind", ["arithmetic", "coins"])
def test_a_wrong_running_result_is_never_the_last(kind):
    for prompt in draw_prompts(kind, True, 80):
        if pair := tampered(prompt, "wrong", random.Random(0)):
            later = prompt.problem.steps[pair[0].begun.count(" .") :]
            assert any("makes" in step for step in later)


@pytest.mark.parametrize("kind", ["arithmetic", "coins"])
def test_shuffled_steps_are_all_there_and_cut_ones_are_the_first(kind):
    for how in ("shuffled", "cut"):
        pairs = [(prompt, tampered(prompt, how, random.Random(0))) for prompt in draw_prompts(kind, True, 60)]
        assert sum(pair is not None for _, pair in pairs) > 10
        for prompt, pair in pairs:
            if pair is None:
                continue
            changed, follows = pair
            said = changed.begun.removesuffix(" answer")
            assert said != changed.begun and said.split("makes ")[-1].split()[0] == follows
            whole = " ".join(prompt.problem.steps)
            alike = sorted(said.split()) == sorted(whole.split()), whole.startswith(said) and said != whole
            assert alike == ((True, False) if how == "shuffled" else (False, True))


def test_who_always_says_three_follows_and_is_right_by_chance_alone(monkeypatch):
    monkeypatch.setattr(chain_of_thought, "write", lambda model, prompts: ["answer 3"] * len(prompts))
    prompts, rng = draw_prompts("arithmetic", True, 200), random.Random(0)
    tried = [pair for pair in (tampered(prompt, "wrong", rng) for prompt in prompts) if pair]
    shares = follow(None, prompts, "wrong")
    assert shares["n"] == len(tried)
    assert shares["follows"] == sum(follows == "3" for _, follows in tried) / len(tried) > 0
    assert shares["right"] == sum(prompt.problem.answer == "3" for prompt, _ in tried) / len(tried) > 0


def test_what_is_begun_counts_as_said():
    prompts = [replace(prompt, begun="answer") for prompt in draw_prompts("coins", True, 30)]
    heads = sum(prompt.problem.answer == "heads" for prompt in prompts) / 30
    assert share_right(prompts, ["heads"] * 30) == heads and 0 < heads < 1


def test_changes_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="shuffled"):
        follow(Reciter("answer 1"), draw_prompts("coins", True, 2), "reversed")
    with pytest.raises(ValueError, match="take arithmetic or coins"):
        follow(Reciter("answer a"), draw_prompts("letters", True, 3), "shuffled")


def test_samples_differ_and_greedy_texts_do_not(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    model, prompts = reasoning_model(16, steps=2), draw_prompts("facts", False, 2)
    drawn = sample(model, prompts, k=5)
    assert [len(texts) for texts in drawn] == [5, 5] and len(set(drawn[0])) > 1
    assert write(model, prompts) == write(model, prompts)


def test_a_model_learns_both_kinds_of_documents(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(chain_of_thought, "WEIGHTS", {"facts": 1})
    model = reasoning_model(16, steps=250)
    rows = {(row["kind"], row["reasoning"]): row for row in evaluate(model, B=60)}
    assert rows["facts", True]["tokens"] > 10 and rows["facts", False]["tokens"] < 5
    assert rows["facts", True]["accuracy"] > 0.8
    assert len(rows) == 2 * len(PROBLEMS)


def test_a_recorded_row_has_all_that_the_chapter_shows(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(chain_of_thought, "STEPS", 2)
    monkeypatch.setattr(chain_of_thought, "MOST_WRITTEN", 6)
    monkeypatch.setattr(
        chain_of_thought, "reasoning_model", lambda width, seed, worked: reasoning_model(width, seed, 2)
    )
    row = recorded_scores(8, 0.5, 0)
    assert row["params"] == 3208
    expected = ["facts worked", "facts direct tokens", "majority of 15", "any of 3", "letters wrong follows",
                "coins cut right", "arithmetic worked of 8"]  # fmt: skip
    assert set(expected) <= set(row)
