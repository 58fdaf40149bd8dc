"""Problems are right and held apart; scores are what their names say, on models whose answers are known."""

import pytest
import torch
from torch import nn

from gptlib import emergence
from gptlib.emergence import (
    OPERATIONS,
    TOKENIZER,
    Arithmetic,
    arithmetic_model,
    crossing,
    delayed_generalisation,
    levenshtein,
    modular_sums,
    recorded_scores,
    scores,
    scores_by_digits,
)
from gptlib.sampling import generate
from gptlib.training import answer_loss


def draw(problems, B=2000, seed=0, held_out=False):
    ids = problems.draw(B, torch.Generator().manual_seed(seed), held_out)
    return [TOKENIZER.decode(row) for row in ids]


def calculate(text):
    """Return what a problem asks and what it answers, as numbers, by Python's own arithmetic."""
    asked, answer = text.split("=")
    a, operation, b = asked[:3], asked[3], asked[4:]
    truth = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[operation]
    return truth, int(answer[::-1])


class Calculator(nn.Module):
    """Answers additions of three digits rightly, but for digits that it takes to be 0."""

    context_length = 11

    def __init__(self, blind=()):
        super().__init__()
        self.unused, self.blind = nn.Parameter(torch.zeros(())), blind

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, TOKENIZER.vocab_size)
        places = 10 ** torch.arange(2, -1, -1)
        total = (ids[:, :3] * places).sum(1) + (ids[:, 4:7] * places).sum(1)
        for t in range(7, ids.shape[1]):
            digit = torch.zeros_like(total) if t - 7 in self.blind else total // 10 ** (t - 7) % 10
            logits[torch.arange(len(ids)), t, digit] = 30
        return logits


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_problem_has_its_right_answer(operation):
    for text in draw(Arithmetic(operation), 300):
        truth, answer = calculate(text)
        assert truth == answer >= 0
    assert all(2 <= int(text[4:7]) <= 9 for text in draw(Arithmetic("*"), 300))


def test_a_problem_written_by_hand():
    ids = Arithmetic("-", 3).write(torch.tensor([214]), torch.tensor([58]))
    assert TOKENIZER.decode(ids[0]) == "214-058=6510" and ids.shape == (1, Arithmetic("-", 3).length)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_held_out_problems_are_never_drawn_for_training(operation):
    problems = Arithmetic(operation, 2 if operation != "*" else 3)
    trained, held_out = (set(draw(problems, 8000, held_out=flag)) for flag in (False, True))
    assert not trained & held_out and len(trained) > 5 * len(held_out) > 500


@pytest.mark.parametrize(
    ("operation", "digits"), [("+", 1), ("+", 2), ("+", 3), ("-", 2), ("*", 1), ("*", 2)]
)
def test_a_held_out_pair_is_not_trained_in_the_other_order_either(operation, digits):
    problems, pairs = Arithmetic(operation, digits), []
    for flag in (False, True):
        texts = (
            TOKENIZER.decode(row) for row in problems.draw(30_000, torch.Generator().manual_seed(0), flag)
        )
        pairs.append({frozenset(text.split("=")[0].split(operation)) for text in texts})
    assert pairs[0] and pairs[1] and not pairs[0] & pairs[1]


def test_nothing_in_the_digits_tells_a_held_out_problem():
    last = [(int(text[2]), int(text[6])) for text in draw(Arithmetic("+"), 4000, held_out=True)]
    counts = torch.zeros(10, 10)
    for a, b in last:
        counts[a, b] += 1
    assert counts.min() > 15 and counts.max() < 75  # 40 on average


def test_a_calculator_scores_full_marks():
    row = scores(Calculator(), Arithmetic("+"), B=200)
    assert row["exact"] == row["digits"] == row["product"] == 1 and row["edits"] == 0
    assert row["loss"] < 1e-6


def test_a_calculator_that_cannot_see_one_digit_has_the_rest():
    row = scores(Calculator(blind=(1,)), Arithmetic("+"), B=2000)
    assert row["digit 1"] == row["digit 3"] == row["digit 4"] == 1
    assert row["exact"] == row["digit 2"] == pytest.approx(0.1, abs=0.03)  # the zeros
    assert row["product"] == pytest.approx(row["exact"], abs=1e-6)
    assert row["digits"] == pytest.approx((3 + row["digit 2"]) / 4)
    assert 0.7 < row["edits"] <= 1


def test_exact_match_is_that_of_what_the_model_writes_on_its_own():
    model, problems = Calculator(blind=(1,)), Arithmetic("+")
    row = scores(model, problems, B=400)
    ids = problems.draw(400, torch.Generator().manual_seed(10_000), held_out=True)
    written = generate(model, ids[:, :-4], max_tokens=4, temperature=0)
    share = (written == ids).all(1).float().mean().item()
    assert row["exact"] == pytest.approx(share) and 0 < share < 1


def test_models_of_several_operations_learn_them(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    problems = [Arithmetic(operation, 1) for operation in ("+", "-")]
    seen = []
    model = arithmetic_model(problems, 16, steps=60, on_step=lambda model, step: seen.append(step))
    untrained = arithmetic_model(problems, 16, steps=1)
    assert seen == list(range(1, 61))
    for each in problems:
        assert scores(model, each, B=100)["loss"] < 0.8 * scores(untrained, each, B=100)["loss"]


def test_the_loss_is_that_of_the_answer_alone():
    ids = Arithmetic("+").draw(50, torch.Generator().manual_seed(0))
    assert answer_loss(Calculator(), ids, 4) < 1e-6
    assert answer_loss(Calculator(blind=(0, 1, 2, 3)), ids, 4) > 5


@pytest.mark.parametrize(
    ("a", "b", "edits"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("1234", "234", 1)]
)
def test_levenshtein_by_hand(a, b, edits):
    assert levenshtein(list(map(ord, a)), list(map(ord, b))) == edits


def test_a_crossing_lies_between_its_neighbours_on_a_log_scale():
    assert crossing([1, 10, 1000], [0.0, 0.2, 0.8], 0.5) == pytest.approx(100)
    assert crossing([1, 10, 100], [0.0, 0.6, 0.3], 0.6) == pytest.approx(10)
    for never in ([0.1, 0.2], [0.7, 0.9]):
        with pytest.raises(ValueError, match="does not cross"):
            crossing([1, 10], never, 0.5)


def test_a_recorded_row_has_every_operation_and_the_way_there(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(emergence, "STEPS", 24)
    row, other = recorded_scores(8, 1.0, [0, 1])
    assert row["+ loss on the way"] != other["+ loss on the way"]
    assert len(row["+ exact on the way"].split()) == emergence.LOOKS
    for operation in OPERATIONS:
        assert {f"{operation} {name}" for name in ("exact", "digits", "product", "edits", "loss")} <= set(row)
    assert row["params"] == 1888 and row["flops"] > 0
    [alone] = recorded_scores(8, 1.0, [1])
    ways = ([float(value) for value in its["* loss on the way"].split()] for its in (other, alone))
    assert next(ways) == pytest.approx(next(ways), abs=0.002)  # a family's rows are those of its members


@pytest.mark.parametrize("digits", [1, 4])
def test_a_row_by_digits_is_of_numbers_of_so_many_digits(monkeypatch, digits):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr(emergence, "STEPS", 3)
    asked = []
    monkeypatch.setattr(
        emergence, "scores", lambda model, each: asked.append(each) or scores(model, each, B=50)
    )
    row, _ = scores_by_digits(8, digits, seeds=[0, 1])
    assert asked == 2 * [Arithmetic(operation, digits) for operation in OPERATIONS]
    del asked[3:]
    assert row["params"] == arithmetic_model(asked, 8, steps=1).n_params
    model = arithmetic_model(asked, 8, 0, steps=3)
    for each in list(asked):
        found = scores(model, each, B=50)
        for name in ("exact", "digits", "product", "loss"):
            assert row[f"{each.operation} {name}"] == pytest.approx(found[name], abs=1e-5)


def test_modular_sums_are_right_and_every_pair_comes_once():
    trained, held_out = modular_sums(p=13, share=0.25, seed=3)
    ids = torch.cat([trained, held_out])
    a, b, equals, answer = ids.T
    assert len(trained) == 23 and len(ids) == len(ids.unique(dim=0)) == 13 * 14 // 2
    assert (a <= b).all() and (equals == 13).all() and ((a + b) % 13 == answer).all()
    assert (modular_sums(p=13, seed=1)[0] != modular_sums(p=13, seed=2)[0]).any()


@pytest.mark.parametrize("share", [0, 1, 2])
def test_all_or_nothing_is_no_share(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        modular_sums(p=5, share=share)


def test_the_decay_of_the_weights_reaches_the_training(monkeypatch):
    given = []
    monkeypatch.setattr(emergence, "train_family", lambda *args, **how: given.append((args, how)))
    assert delayed_generalisation(*modular_sums(p=5), steps=3, weight_decay=0.7, seed=4) == []
    (((*_, recipe), how),) = given
    assert recipe.weight_decay == 0.7 and how["seeds"] == [4]


def test_what_is_trained_is_known_before_what_is_held_out(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    rows = delayed_generalisation(*modular_sums(p=23, share=0.5), steps=300)
    assert [row["step"] for row in rows] == [50, 100, 150, 200, 250, 300]
    assert rows[-1]["trained"] > 0.95 and rows[2]["held out"] < rows[2]["trained"] - 0.3


@pytest.mark.parametrize("bad", [dict(operation="/"), dict(digits=0)])
def test_arithmetic_that_is_not_taught_is_refused(bad):
    with pytest.raises(ValueError, match="digits are 1 to 9"):
        Arithmetic(**bad)
