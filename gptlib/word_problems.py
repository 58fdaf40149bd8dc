"""Word problems with the steps that solve them: arithmetic, coins, last letters, and facts of a small world.

The four kinds follow those of Wei et al. (2022, *Chain-of-Thought Prompting*, figure 3), in a vocabulary
of some hundred words. A worked problem shows its steps before the answer, an unworked one does not.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from gptlib.tasks import KINDS, is_held_out

NAMES = KINDS["name"]
FRUIT = ("apples", "pears", "plums", "figs")
SIDES = ("heads", "tails")
DIGITS = tuple(map(str, range(10)))
LETTERS = tuple(sorted({name[-1] for name in NAMES}))  # that a name ends with
MADE_OF = {
    "wood": "door boat chair oar",
    "iron": "nail key bell anvil",
    "glass": "bowl lamp mirror vase",
    "cloth": "flag coat sail sock",
    "wax": "candle seal crayon comb",
    "stone": "tower statue mill grave",
}
WILL = {
    "float": "wood wax",
    "sink": "iron glass stone",
    "burn": "wood cloth wax",
    "rust": "iron",
    "melt": "wax iron glass",
    "shatter": "glass stone",
}
MATERIAL = {thing: material for material, things in MADE_OF.items() for thing in things.split()}
FACTS = {f"will a {thing} {event} ?": (thing, event) for thing in MATERIAL for event in WILL}
HAPPENS = {question: MATERIAL[thing] in WILL[event].split() for question, (thing, event) in FACTS.items()}
ANSWERED = {
    answer: [question for question in FACTS if HAPPENS[question] == answer] for answer in (False, True)
}
# Each event of each material is kept from one of its four things: it has to be told from the others.
HELD_OUT_FACTS = {question for i, question in enumerate(FACTS) if (i // len(WILL) + i % len(WILL)) % 4 == 0}


@dataclass(frozen=True)
class Problem:
    """A question, the steps towards its answer, and the answer."""

    question: str
    steps: tuple[str, ...]
    answer: str

    def write(self, reasoning: bool) -> str:
        """Return the problem with its answer, a line; with its steps if `reasoning`."""
        steps = self.steps if reasoning else ()
        return " ".join([self.question, *steps, "answer", self.answer]) + "\n"

    @property
    def is_held_out(self) -> bool:
        """Whether training texts leave it out: a quarter of the facts, a twentieth of the others."""
        if self.question in FACTS:
            return self.question in HELD_OUT_FACTS
        return is_held_out(crc32(self.question.encode()))


def arithmetic(rng: random.Random, n: int | None = None) -> Problem:
    """n people (3 or 4) add fruit to a pile or take some away; half of the time one has another fruit.

    The pile is counted by a counter of one digit: after 9 comes 0.
    """
    names = rng.sample(NAMES, n or rng.choice((3, 4)))
    asked, other = rng.sample(FRUIT, 2)
    odd_one = rng.choice((None, rng.randrange(len(names))))
    count, told, steps = 0, [], []
    for i, name in enumerate(names):
        verb, number = rng.choice(("adds", "takes")), rng.randint(1, 5)
        told.append(f"{name} {verb} {number} {other if i == odd_one else asked} .")
        if i == odd_one:
            steps.append(f"{name} {other} .")
            continue
        before, count = count, (count + (number if verb == "adds" else -number)) % 10
        steps.append(f"{name} {asked} {before} {verb} {number} makes {count} .")
    return Problem(" ".join([*told, f"how many {asked} ?"]), tuple(steps), str(count))


def coins(rng: random.Random, n: int | None = None) -> Problem:
    """A coin lies heads up; n people (4 or 5) flip it or keep it. Which side is up?"""
    up, told, steps = 0, ["the coin is heads ."], []
    for name in rng.sample(NAMES, n or rng.choice((4, 5))):
        verb = rng.choice(("flips", "keeps"))
        up ^= verb == "flips"
        told.append(f"{name} {verb} it .")
        steps.append(f"{name} {verb} makes {SIDES[up]} .")
    return Problem(" ".join([*told, "which side ?"]), tuple(steps), SIDES[up])


def letters(rng: random.Random, n: int | None = None) -> Problem:
    """The last letters of n names (2 or 3), one after the other."""
    names = rng.sample(NAMES, n or rng.choice((2, 3)))
    steps = tuple(f"{name} ends {name[-1]} ." for name in names)
    return Problem(f"last letters of {' '.join(names)} ?", steps, " ".join(name[-1] for name in names))


def facts(rng: random.Random, n: int | None = None) -> Problem:
    """Will a thing burn, float, rust? Its material tells. Yes and no come equally often; n plays no part."""
    wanted = rng.choice((False, True))
    question = rng.choice(ANSWERED[wanted])
    thing, event = FACTS[question]
    material = MATERIAL[thing]
    steps = (f"a {thing} is {material} .", f"{material} will {'' if wanted else 'not '}{event} .")
    return Problem(question, steps, "yes" if wanted else "no")


def other_results(problem: Problem, i: int) -> list[str]:
    """Return what step i could say instead of its result: always something that changes the answer.

    Nothing for a step that has no result, and for the last of two facts, which holds the answer itself.
    """
    result = problem.steps[i].split()[-2]
    if problem.question in FACTS:
        happens = WILL[FACTS[problem.question][1]].split()
        return [other for other in MADE_OF if (other in happens) != (result in happens)] if i == 0 else []
    return [
        other for alike in (SIDES, DIGITS, LETTERS) if result in alike for other in alike if other != result
    ]


def wrong_step(problem: Problem, i: int, result: str) -> tuple[str, str]:
    """Return the steps up to step i, which says another result, and the answer that follows from there.

    Raises ValueError when the result is none of `other_results`.
    """
    if result not in other_results(problem, i):
        raise ValueError(f"step {i} may say {other_results(problem, i)} instead, not {result!r}")
    *said, truth, stop = problem.steps[i].split()
    if truth.isdigit():
        follows = str((int(problem.answer) + int(result) - int(truth)) % 10)
    elif truth in SIDES or truth in MADE_OF:
        follows = next(other for pair in (SIDES, ("yes", "no")) if problem.answer in pair
                       for other in pair if other != problem.answer)  # fmt: skip
    else:
        follows = " ".join(result if j == i else letter for j, letter in enumerate(problem.answer.split()))
    return " ".join([*problem.steps[:i], *said, result, stop]), follows


PROBLEMS: dict[str, Callable[..., Problem]] = {
    "arithmetic": arithmetic,
    "coins": coins,
    "letters": letters,
    "facts": facts,
}
OTHER = ". ? answer adds takes makes how many the coin is it flips keeps which side last letters of ends"
VOCABULARY = tuple(dict.fromkeys([
    "\n", *f"{OTHER} will a not yes no".split(), *NAMES, *(name[-1] for name in NAMES), *FRUIT, *SIDES,
    *MADE_OF, *MATERIAL, *WILL, *DIGITS,
]))  # fmt: skip


def draw(kind: str, rng: random.Random, held_out: bool = False, n: int | None = None) -> Problem:
    """Draw a problem; those held out are never among the others. `n`: how many people are in it.

    Held out are questions, word by word: of coins the names, not the flips, are new; there are 36 held-out
    facts. Raises ValueError when there is no such kind, or not so many people.
    """
    if n is not None and not 2 <= n <= len(NAMES):
        raise ValueError(f"from 2 to {len(NAMES)} people can be in a problem, not {n}")
    if kind not in PROBLEMS:
        raise ValueError(f"there is no kind {kind!r} of problem; there are {', '.join(PROBLEMS)}")
    while True:
        problem = PROBLEMS[kind](rng, n)
        if problem.is_held_out == held_out:
            return problem
