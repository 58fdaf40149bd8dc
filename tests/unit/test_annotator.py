"""The annotator's panel keeps each choice at once, goes on after a restart, and says who agrees."""

import json

import pytest

from gptlib.alignment.preferences import Comparison
from gptlib.widgets.annotator import Annotate, load_choices, save_choice

PAIRS = [("def f():", "A.", "B."), ("def g(x):", "C <b>.", "D."), ("def h():", "E.", "F.")]


def test_each_choice_is_a_line_of_the_file_at_once(tmp_path):
    path = tmp_path / "choices.jsonl"
    panel = Annotate(PAIRS, path)
    assert "def f():" in panel.signature.value
    assert [button.description for button in panel.options] == ["A.", "B."]
    panel.options[1].click()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"signature": "def f():", "chosen": "B.", "rejected": "A."}
    ]
    assert "def g(x):" in panel.signature.value


def test_a_new_panel_goes_on_where_the_last_one_stopped(tmp_path):
    path = tmp_path / "choices.jsonl"
    Annotate(PAIRS, path).choose(0)
    panel = Annotate(PAIRS, path)
    assert "1 choices kept, 2 to go" in panel.score.value
    panel.choose(1)
    panel.choose(0)
    assert load_choices(path) == [
        Comparison("def f():", "A.", "B."),
        Comparison("def g(x):", "D.", "C <b>."),
        Comparison("def h():", "E.", "F."),
    ]
    assert all(button.disabled for button in panel.options) and "Thank you" in panel.signature.value
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
    assert len(Annotate(PAIRS, path).to_go) == 1


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
    judges = {"a friend": lambda choices: [c.chosen < c.rejected for c in choices]}
    panel = Annotate(PAIRS, tmp_path / "choices.jsonl", judges)
    assert panel.agreement() == {}
    panel.choose(0)
    panel.choose(1)
    assert panel.agreement() == {"a friend": 0.5}
    assert "you agree 50% with a friend" in panel.score.value
