"""The frontier widget holds the recorded runs, and chooses among them as one would in Python."""

import json

import pandas as pd
import pytest
from node import in_node

from gptlib.record import recorded
from gptlib.widgets import frontier

RUNS, BEST_OF = recorded("alignment-cpu"), recorded("best_of_n-cpu")


@pytest.fixture(scope="module")
def rows():
    return frontier.Frontier(RUNS, BEST_OF).rows


def test_the_widget_holds_every_recorded_run_and_where_each_seed_starts(rows):
    table = pd.DataFrame(rows)
    assert len(rows) == len(RUNS) + (BEST_OF.n > 1).sum() + RUNS.seed.nunique()
    assert set(table.method) == {"SFT", "best of n", *frontier.NAMES.values()}
    assert not table.duplicated(["name", "seed"]).any()
    json.dumps(rows, allow_nan=False)  # a page's JSON has no NaN


def test_a_row_is_what_its_run_gained_over_sft(rows):
    row = next(row for row in rows if row["name"] == "PPO, β = 0" and row["seed"] == 1)
    run = RUNS.query("method == 'ppo' and strength == 0 and seed == 1").iloc[0]
    assert row["gold"] == pytest.approx(run.gold - run["gold before"], abs=1e-4)
    assert row["score"] == pytest.approx(run.proxy - run["proxy before"], abs=1e-4)
    assert row["kl"] == pytest.approx(run.kl, abs=1e-4) and row["win"] == pytest.approx(run.win, abs=1e-4)
    golds = [float(gold) - run["gold before"] for gold in run["gold path"].split()]
    assert row["path"][0] == [0, 0, 0] and len(row["path"]) == 1 + 70 / 5
    assert row["path"][-1][2] == pytest.approx(sum(golds[-5:]) / 5, abs=1e-3)


def test_the_path_of_the_best_of_n_leads_over_smaller_n(rows):
    best = {row["name"]: row for row in rows if row["method"] == "best of n" and row["seed"] == 0}
    assert [best[f"best of {n}"]["path"][-1][0] for n in (2, 4)] == [
        p[0] for p in best["best of 4"]["path"][1:]
    ]
    assert best["best of 2"]["win"] is None


def test_there_must_be_runs():
    with pytest.raises(ValueError, match="there are no runs to show"):
        frontier.Frontier(RUNS[:0], BEST_OF)
    with pytest.raises(ValueError, match="there are no runs to show"):
        frontier.Frontier(RUNS, BEST_OF[:0])


@pytest.mark.parametrize("price", [0, 0.02, 0.5, 3])
@pytest.mark.parametrize("reward", ["score", "gold"])
def test_the_choice_is_the_highest_reward_less_the_price(rows, price, reward):
    mine = [{**row, "path": []} for row in rows if row["seed"] == 0]
    table = pd.DataFrame(mine)
    expected = table.name[(table[reward] - price * table.kl).idxmax()]
    code = f"widget.choose({json.dumps(mine)}, {json.dumps(reward)}, {price}).name"
    assert in_node(frontier, code) == expected


def test_the_words_say_what_the_score_costs():
    near = {"name": "near", "kl": 1.84, "score": 1.0, "gold": 0.9}
    far = {"name": "far", "kl": 50.0, "score": 1.5, "gold": -0.21}

    def said(*rows):
        return in_node(frontier, f"widget.verdict({', '.join(map(json.dumps, rows))}, 0)")

    words = said(far, near)
    assert "reward model chooses far (50.0 nats away, score +1.50, gold \u22120.21)" in words
    assert "would choose near (1.8 nats away" in words and "costs 1.11 of gold" in words
    alike = in_node(frontier, f"[{json.dumps(near)}].map((row) => widget.verdict(row, row, 0.1))[0]")
    assert alike.endswith("would choose the same.")
    assert "That has 1.11 of gold less, and is nearer" in said(near, far)
    assert "equally good" in said(near, {**far, "gold": 0.902})
