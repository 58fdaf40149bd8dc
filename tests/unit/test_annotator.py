"""The annotator's panel keeps each choice at once, goes on after a restart, and says who agrees."""

import json

import pytest
from node import in_node

from gptlib.alignment.preferences import Comparison
from gptlib.widgets import annotator
from gptlib.widgets.annotator import Annotate, load_choices, save_choice

PAIRS = [("def f():", "A.", "B."), ("def g(x):", "C <b>.", "D."), ("def h():", "E.", "F.")]


def words(panel):
    """What the panel says below the buttons."""
    state = {name: getattr(panel, name) for name in ("pairs", "chosen", "kept", "judges", "agreed", "agrees")}
    return in_node(annotator, f"widget.score({json.dumps(state)})")


def test_each_choice_is_a_line_of_the_file_at_once(tmp_path):
    path = tmp_path / "choices.jsonl"
    panel = Annotate(PAIRS, path)
    panel.chosen = [1]  # as the panel's script sets it when the second button is clicked
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"signature": "def f():", "chosen": "B.", "rejected": "A."}
    ]
    panel.choose(0)
    assert len(path.read_text().splitlines()) == 2


def test_a_new_panel_goes_on_where_the_last_one_stopped(tmp_path):
    path = tmp_path / "choices.jsonl"
    Annotate(PAIRS, path).choose(0)
    panel = Annotate(PAIRS, path)
    assert panel.pairs[0] == ["def g(x):", "C <b>.", "D."]
    assert words(panel) == "1 choice made, 2 to go."
    panel.choose(1)
    panel.choose(0)
    assert load_choices(path) == [
        Comparison("def f():", "A.", "B."),
        Comparison("def g(x):", "D.", "C <b>."),
        Comparison("def h():", "E.", "F."),
    ]
    with pytest.raises(ValueError, match="all pairs are answered"):
        panel.choose(0)


def test_a_line_cut_off_by_a_crash_costs_that_choice_alone(tmp_path):
    path = tmp_path / "choices.jsonl"
    save_choice(path, Comparison("def f():", "A.", "B."))
    with path.open("a") as file:
        file.write('{"signature": "def g')
    assert len(load_choices(path)) == 1
    panel = Annotate(PAIRS, path)
    panel.choose(0)
    assert len(load_choices(path)) == 2
    assert len(Annotate(PAIRS, path).pairs) == 1


def test_a_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "choices.jsonl"
    path.write_text('{"signature": "s", "chosen": "a", "rejected": "b"}')
    save_choice(path, Comparison("def f():", "A.", "B."))
    assert load_choices(path) == [Comparison("s", "a", "b"), Comparison("def f():", "A.", "B.")]


def test_what_is_no_choice_is_named(tmp_path):
    path = tmp_path / "choices.jsonl"
    path.write_text('{"signature": "x", "liked": "y"}\n')
    with pytest.raises(ValueError, match="is no choice: delete the line"):
        load_choices(path)


def test_agreement_is_the_share_of_choices_that_a_judge_would_have_made(tmp_path):
    judges = {
        "a friend": lambda choices: [c.chosen < c.rejected for c in choices],
        "nobody": lambda choices: [False for _ in choices],
    }
    panel = Annotate(PAIRS, tmp_path / "choices.jsonl", judges)
    assert words(panel) == "0 choices made, 3 to go."
    panel.choose(0)
    panel.choose(1)
    assert words(panel) == "2 choices made, 1 to go; you agree 50% with a friend, 0% with nobody."
    again = Annotate(PAIRS, tmp_path / "choices.jsonl", judges)
    again.choose(0)
    assert words(again) == "3 choices made, 0 to go; you agree 67% with a friend, 0% with nobody."
