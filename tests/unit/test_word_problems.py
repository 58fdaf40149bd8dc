"""Answers and steps are right, by another calculation from the question; held-out problems stay out."""

import random
from collections import Counter

import pytest

from gptlib.chain_of_thought import TOKENIZER
from gptlib.word_problems import (
    FACTS,
    HELD_OUT_FACTS,
    MATERIAL,
    PROBLEMS,
    SIDES,
    WILL,
    draw,
    other_results,
    wrong_step,
)


def drawn(kind, B=300, seed=0, **how):
    rng = random.Random(seed)
    return [draw(kind, rng, **how) for _ in range(B)]


def solve(kind, question):
    """Return the answer to a question, from its words."""
    if kind == "arithmetic":
        *told, last = question.split(" . ")
        asked, count = last.split()[2], 0
        for name, verb, number, fruit in map(str.split, told):
            assert name.istitle()
            count += (fruit == asked) * (int(number) if verb == "adds" else -int(number))
        return str(count % 10)
    if kind == "coins":
        return SIDES[question.count("flips") % 2]
    if kind == "letters":
        return " ".join(name[-1] for name in question.split()[3:-1])
    thing, event = question.split()[2:4]
    return "yes" if MATERIAL[thing] in WILL[event].split() else "no"


@pytest.mark.parametrize("kind", PROBLEMS)
def test_every_answer_is_right_and_every_word_known(kind):
    for problem in drawn(kind):
        assert problem.answer == solve(kind, problem.question)
        line = problem.write(reasoning=True)
        assert TOKENIZER.decode(TOKENIZER.encode(line)) == line
        assert problem.write(reasoning=False) == f"{problem.question} answer {problem.answer}\n"


@pytest.mark.parametrize("kind", ["arithmetic", "coins"])
def test_the_last_result_of_the_steps_is_the_answer(kind):
    for problem in drawn(kind):
        results = [step.split()[-2] for step in problem.steps if "makes" in step]
        assert results[-1] == problem.answer


def test_a_step_of_arithmetic_says_what_it_starts_from():
    for problem in drawn("arithmetic"):
        count = 0
        for step in problem.steps:
            if "makes" in step:
                _, _, before, verb, number, _, after, _ = step.split()
                assert int(before) == count
                count = (count + (int(number) if verb == "adds" else -int(number))) % 10
                assert int(after) == count


def test_half_of_the_arithmetic_has_a_fruit_that_does_not_count():
    odd = [any("makes" not in step for step in problem.steps) for problem in drawn("arithmetic")]
    assert 0.4 < sum(odd) / len(odd) < 0.6


@pytest.mark.parametrize("kind", PROBLEMS)
def test_held_out_problems_are_not_among_the_others(kind):
    trained, held_out = (drawn(kind, 800, held_out=flag) for flag in (False, True))
    assert not {problem.question for problem in trained} & {problem.question for problem in held_out}
    assert len({problem.question for problem in held_out}) > 20


def test_every_fact_of_a_held_out_question_is_trained_by_others():
    assert len(FACTS) == 4 * len(HELD_OUT_FACTS) == 144
    trained = [FACTS[question] for question in FACTS if question not in HELD_OUT_FACTS]
    assert {thing for thing, _ in trained} == set(MATERIAL)
    by_material = Counter((MATERIAL[thing], event) for thing, event in trained)
    assert set(by_material.values()) == {3} and len(by_material) == 36


@pytest.mark.parametrize("held_out", [False, True])
def test_yes_and_no_come_equally_often(held_out):
    answers = Counter(problem.answer for problem in drawn("facts", 2000, held_out=held_out))
    assert set(answers) == {"yes", "no"} and abs(answers["yes"] - 1000) < 100


@pytest.mark.parametrize("kind", ["arithmetic", "coins", "letters"])
def test_problems_of_any_length_are_drawn(kind):
    for n in (2, 8):
        assert all(len(problem.steps) == n for problem in drawn(kind, 20, n=n))


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_wrong_step_leads_to_another_answer(kind):
    for problem in drawn(kind, 100):
        for i in range(len(problem.steps)):
            for result in other_results(problem, i):
                begun, follows = wrong_step(problem, i, result)
                assert follows != problem.answer
                assert begun.split()[-2] == result != problem.steps[i].split()[-2]
                assert begun.startswith(" ".join(problem.steps[:i]))


def test_wrong_steps_by_hand():
    rng = random.Random(0)
    problem = next(p for p in iter(lambda: draw("letters", rng), None) if len(p.steps) == 3)
    x, _, z = problem.answer.split()
    assert (
        wrong_step(problem, 1, other_results(problem, 1)[0])[1] == f"{x} {other_results(problem, 1)[0]} {z}"
    )
    coin = draw("coins", rng)
    assert wrong_step(coin, 0, other_results(coin, 0)[0])[1] == SIDES[1 - SIDES.index(coin.answer)]
    sum_ = next(p for p in iter(lambda: draw("arithmetic", rng), None) if "makes" in p.steps[0])
    one_more = str((int(sum_.steps[0].split()[-2]) + 1) % 10)
    assert wrong_step(sum_, 0, one_more)[1] == str((int(sum_.answer) + 1) % 10)


def test_a_wrong_material_is_one_that_would_do_otherwise():
    for problem in drawn("facts", 60):
        event, wanted = FACTS[problem.question][1], problem.answer == "yes"
        others = other_results(problem, 0)
        assert others and all((other in WILL[event].split()) != wanted for other in others)
        assert other_results(problem, 1) == []


def test_a_result_that_changes_nothing_is_refused():
    rng = random.Random(0)
    fact, coin = draw("facts", rng), draw("coins", rng)
    for problem, i, result in ((fact, 1, "rust"), (coin, 0, coin.steps[0].split()[-2])):
        with pytest.raises(ValueError, match="instead"):
            wrong_step(problem, i, result)


def test_a_crowd_that_does_not_exist_is_refused():
    for n in (0, 1, 17):
        with pytest.raises(ValueError, match="people"):
            draw("coins", random.Random(0), n=n)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="arithmetic, coins"):
        draw("algebra", random.Random(0))
