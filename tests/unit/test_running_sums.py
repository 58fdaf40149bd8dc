"""Running sums are right in all three ways of writing, held apart, and scored by their last token."""

import pytest
import torch

from gptlib import running_sums
from gptlib.running_sums import TOKENIZER, WAYS, RunningSums, accuracy, sums_model, sums_scores


def draw(problems, B=500, seed=0, held_out=False):
    return problems.draw(B, torch.Generator().manual_seed(seed), held_out)


def test_three_ways_by_hand():
    digits = torch.tensor([[7, 5, 9]])
    written = {way: TOKENIZER.decode(RunningSums(3, way, base=10).write(digits)[0]) for way in WAYS}
    assert written == {"direct": "759=1", "scratchpad": "759=721", "filler": "759=..1"}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_token_is_the_parity(way):
    problems = RunningSums(12, way)
    bits = draw(problems)
    ids = problems.write(bits)
    assert ids.shape == (500, 13 + problems.n_written)
    assert (ids[:, -1] == bits.sum(1) % 2).all() and (ids[:, :12] == bits).all()


def test_held_out_problems_are_never_trained_and_look_alike():
    problems = RunningSums(16)
    held_out, trained = draw(problems, 4000, held_out=True), draw(problems, 20_000)
    assert not {tuple(row) for row in held_out.tolist()} & {tuple(row) for row in trained.tolist()}
    assert (held_out.float().mean(0) - 0.5).abs().max() < 0.04
    assert abs((held_out.sum(1) % 2).float().mean() - 0.5) < 0.04


def test_few_problems_are_all_trained():
    assert len(draw(RunningSums(3), 400).unique(dim=0)) == 8
    assert len(draw(RunningSums(3), 400, held_out=True).unique(dim=0)) == 8


@pytest.mark.parametrize("way", WAYS)
def test_models_learn_two_bits_in_every_way(way, monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    problems = RunningSums(2, way)
    assert accuracy(sums_model(problems, steps=80, width=32), problems, B=200) == 1


def test_accuracy_counts_right_answers_of_a_model_that_knows_half(monkeypatch):
    monkeypatch.setattr(running_sums, "generate", lambda model, ids, **how: torch.cat(
        [ids, torch.zeros(len(ids), how["max_tokens"], dtype=torch.long)], 1))  # fmt: skip
    problems = RunningSums(12, "scratchpad")
    bits = problems.draw(400, torch.Generator().manual_seed(10_000), held_out=True)
    even = (bits.sum(1) % 2 == 0).float().mean().item()
    assert accuracy(torch.nn.Linear(1, 1), problems, B=400) == pytest.approx(even) and 0.4 < even < 0.6


def test_a_recorded_row_names_what_an_answer_costs(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(
        running_sums, "sums_model", lambda problems, seed: sums_model(problems, seed, steps=2)
    )
    row, problems = sums_scores(2, 5, "filler", 3), RunningSums(5, "filler", 2)
    model = sums_model(problems, 3, steps=2)
    assert row == {"params": model.n_params, "tokens": 5, "accuracy": accuracy(model, problems)}


def test_filler_is_given_and_costs_tokens_all_the_same(monkeypatch):
    asked = []
    monkeypatch.setattr(running_sums, "generate", lambda model, ids, **how: asked.append((ids, how)) or ids)
    accuracy(torch.nn.Linear(1, 1), RunningSums(6, "filler"), B=3)
    [(ids, how)] = asked
    assert TOKENIZER.decode(ids[0]).endswith("=.....") and how["max_tokens"] == 1
    assert RunningSums(6, "filler").n_written == RunningSums(6, "scratchpad").n_written == 6


@pytest.mark.parametrize("bad", [dict(n=0), dict(n=4, way="aloud"), dict(n=4, base=11)])
def test_sums_that_cannot_be_written_are_refused(bad):
    with pytest.raises(ValueError, match="base 2 to 10"):
        RunningSums(**bad)
