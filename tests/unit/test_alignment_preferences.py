"""What people want is scored term by term; annotators choose by it, with opinions and errors of their own."""

import math
import random

import pytest

from gptlib.alignment.preferences import (
    Annotator,
    Comparison,
    annotators,
    ceiling,
    compare_all,
    gold_reward,
    gold_terms,
    own_words,
)

SIGNATURE = "def splitLines(self, keep_ends=True, *args):"
GOOD = "Return the lines, split at their ends."


def test_a_good_docstring_has_all_that_is_asked():
    assert gold_terms(SIGNATURE, GOOD) == dict.fromkeys(gold_terms("", ""), 1.0)
    assert gold_reward(SIGNATURE, GOOD) == 7


@pytest.mark.parametrize(
    ("term", "response", "value"),
    [
        ("line", "Return the lines,\nsplit at their ends.", 0),
        ("line", "return the lines.", 0),
        ("period", "Return the lines", 0),
        ("period", "Return the lines...", 0),
        ("imperative", "Returns the lines, split at their ends.", 0),
        ("prose", "splitLines(keep_ends) returns lines.", 0),
        ("prose", "Return lines -> list.", 0),
        ("own words", "Return a number of other things.", 0),
        ("own words", "Return the lines of other things.", 0.5),
        ("length", "Return lines.", 0.5),
        ("length", " ".join(["Return", *"abcdefghijklmnopqrst"]) + ".", 0.5),
        ("fresh", "Return line of line of end.", 1 - 3 / 4),
        ("fresh", "Return lines lines lines lines.", 0),
    ],
)
def test_each_term_sees_its_own_fault(term, response, value):
    assert gold_terms(SIGNATURE, response)[term] == pytest.approx(value)


def test_nothing_is_worth_nothing_but_what_it_does_not_do_wrong():
    assert gold_reward(SIGNATURE, "") == 0


def test_own_words_come_from_names_not_from_values_or_types():
    assert own_words(SIGNATURE) == ["split", "lines", "keep", "ends"]
    assert own_words("def read_URL(path: str, mode='text') -> bytes:") == ["read", "url", "path", "mode"]
    assert own_words("async def __init__(self, x):") == []
    assert gold_terms("def __init__(self, x):", "Create it.")["own words"] == 1  # there is nothing to name


def test_annotators_choose_by_bradley_and_terry():
    one = Annotator(0, noise=0.5, opinions=0.0)
    worse = "Return the lines, split at their ends"  # a period less: 1 of 7
    assert one.probability(SIGNATURE, GOOD, worse) == pytest.approx(1 / (1 + math.exp(-2)))
    assert one.probability(SIGNATURE, GOOD, GOOD) == 0.5
    chosen = [one.compare(SIGNATURE, worse, GOOD).chosen == GOOD for _ in range(2000)]
    assert sum(chosen) / 2000 == pytest.approx(1 / (1 + math.exp(-2)), abs=0.03)
    with pytest.raises(ValueError, match="noise is a scale"):
        Annotator(0, noise=0.0)


def test_annotators_differ_in_opinion_and_seeds_in_annotators():
    first, second = annotators(2)
    assert first.weights != second.weights
    assert annotators(2, seed=1)[0].weights not in (first.weights, second.weights)
    assert annotators(2)[0].weights == first.weights


def test_equal_responses_are_not_compared_and_annotators_take_turns():
    class Stubborn(Annotator):
        def compare(self, signature, first, second):
            return Comparison(str(self.seed), first, second)

    pairs = [("s", "a", "b"), ("s", "a", "a"), ("s", "c", "d"), ("s", "e", "f")]
    found = compare_all(pairs, [Stubborn(0), Stubborn(1)])
    assert [(c.signature, c.chosen) for c in found] == [("0", "a"), ("1", "c"), ("0", "e")]


def test_the_ceiling_is_what_the_gold_reward_foretells():
    right, wrong = Comparison(SIGNATURE, GOOD, "x"), Comparison(SIGNATURE, "x", GOOD)
    tie = Comparison(SIGNATURE, GOOD, GOOD)
    assert right.margin > 0 > wrong.margin
    assert ceiling([right, right, wrong, tie]) == pytest.approx(2.5 / 4)


def test_a_noisier_annotator_errs_more():
    rng = random.Random(0)
    pairs = [
        (SIGNATURE, GOOD, rng.choice(["Returns lines.", "return", "Return a list."])) for _ in range(500)
    ]
    calm, wild = (ceiling([a.compare(*p) for p in pairs]) for a in (Annotator(0, 0.1), Annotator(0, 5.0)))
    assert calm > 0.98 and wild < 0.8
