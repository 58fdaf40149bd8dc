"""What people want of a docstring, as a reward that is known here, and annotators who compare by it.

The prompt is the signature of a Python function, the response its docstring. With people nobody knows the
reward behind their choices. Here we do, and so can tell what a policy really gained; no learner sees it.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# How docstrings begin that say what a function does: PEP 257's "Do this", "Return that".
_VERBS = """
abort accept acquire add allow append apply assert attach begin bind block break build calculate call cancel
change check clean clear close collect combine compare compile compose compute configure connect construct
convert copy count create deal decode decrement delete destroy detach determine disable discard display
divide do dump emit enable encode ensure enter escape evaluate execute exit expand extend extract fail feed
fetch fill filter find finish flush force format generate get give grow guess handle ignore import increment
indicate initialize insert inspect install invoke iterate join keep kill list load lock log look lookup make
map mark match merge modify move multiply normalize notify open override pack parse pass perform play poll
pop prepare print process produce push put quote raise read receive record register release remove rename
render reopen repeat replace report request reset resolve restore resume retrieve return reverse rewind
rotate round run save scan schedule search seek select send serve set setup show shut shutdown shuffle
signal skip sleep sort split start stop store strip subtract suspend swap switch take terminate test toggle
transform translate truncate try turn undo unlock unpack unregister update upgrade use validate verify visit
wait wake walk wrap write yield
"""
VERBS = frozenset(_VERBS.split())

_SMALL = "a an and as at by for from if in is it its of on or that the this to with"
SMALL_WORDS = frozenset(_SMALL.split())
NOISE = 0.5  # of an annotator, in units of the reward: two agree on 75 % of pairs, InstructGPT's on 73
OPINIONS = 0.3  # how far the annotators' weights differ: standard deviation of their logarithms


def gold_terms(signature: str, response: str) -> dict[str, float]:
    """Return what PEP 257 and plain good sense ask of a docstring, term by term, each from 0 to 1.

    - line: it is one line, and begins with a capital letter.
    - period: it ends with a period.
    - imperative: its first word is a verb that commands: "Return", not "Returns".
    - prose: it does not restate the signature: no call, no arrow, no prompt of an interpreter.
    - own words: it names two words of the function's name or parameters, or the one that there is.
    - length: 4 to 14 words; falls to 0 at none and at 28.
    - fresh: no word but small ones comes twice; falls to 0 when a third of the words have been there.
    """
    words = re.findall(r"[a-z0-9']+", response.lower())
    first = words[0] if words else ""
    own = own_words(signature)
    named = sum(any(word.startswith(w[:4]) for word in words) for w in own)
    content = [word for word in words if word not in SMALL_WORDS]
    repeated = 1 - len(set(content)) / len(content) if content else 0.0
    return {
        "line": float("\n" not in response and response[:1].isupper()),
        "period": float(response.endswith(".") and not response.endswith("..")),
        "imperative": float(first in VERBS),
        "prose": float(bool(words) and not re.search(r"\w\(|->|>>>|\bdef\b|=", response)),
        "own words": min(named / min(len(own), 2), 1.0) if own else 1.0,
        "length": max(0.0, min(len(words) / 4, 1.0, (28 - len(words)) / 14)),
        "fresh": max(0.0, 1 - 3 * repeated) if words else 0.0,
    }


def own_words(signature: str) -> list[str]:
    """Return the words in the names of a function and of its parameters, of three letters or more, once each.

    >>> own_words("def splitLines(self, keep_ends=True):")
    ['split', 'lines', 'keep', 'ends']
    """
    head = re.sub(r"=[^,)]+|:[^,)]+|->.*", "", signature.partition("def ")[2])
    parts = re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}", head)
    words = dict.fromkeys(part.lower() for part in parts if len(part) > 2)
    return [word for word in words if word not in ("self", "cls", "args", "kwargs", "kwds", "init")]


def gold_reward(signature: str, response: str, weights: dict[str, float] | None = None) -> float:
    """Return how good a docstring is for a signature: the sum of its terms, from 0 to 7.

    `weights` multiplies the terms, as one annotator sees them.
    """
    terms = gold_terms(signature, response)
    return sum((weights[name] if weights else 1.0) * value for name, value in terms.items())


@dataclass(frozen=True)
class Comparison:
    """Two responses to one signature; `chosen` is the one that an annotator liked better."""

    signature: str
    chosen: str
    rejected: str

    @property
    def margin(self) -> float:
        """By how much the chosen one is better in truth; below 0 where the annotator erred."""
        return gold_reward(self.signature, self.chosen) - gold_reward(self.signature, self.rejected)


@dataclass
class Annotator:
    """Someone who compares responses with weights of their own, and errs (Bradley and Terry 1952).

    The first of two is preferred with probability sigmoid((r1 - r2) / noise), r being the reward as this
    annotator weighs its terms.
    """

    seed: int
    noise: float = NOISE
    opinions: float = OPINIONS
    weights: dict[str, float] = field(init=False)

    def __post_init__(self):
        if self.noise <= 0:
            raise ValueError(f"noise is a scale of the reward, above 0, not {self.noise}")
        self._rng = random.Random(f"annotator {self.seed}")
        names = gold_terms("", "")
        self.weights = {name: math.exp(self._rng.gauss(0, self.opinions)) for name in names}

    def probability(self, signature: str, first: str, second: str) -> float:
        """Return how likely this annotator prefers the first response."""
        rewards = (gold_reward(signature, response, self.weights) for response in (first, second))
        difference = (next(rewards) - next(rewards)) / self.noise
        return 0.5 * (1 + math.tanh(difference / 2))  # the sigmoid, which never overflows

    def compare(self, signature: str, first: str, second: str) -> Comparison:
        """Choose one of two responses."""
        if self._rng.random() < self.probability(signature, first, second):
            return Comparison(signature, first, second)
        return Comparison(signature, second, first)


def annotators(n: int = 5, seed: int = 0) -> list[Annotator]:
    """Return n annotators of different opinions."""
    return [Annotator(n * seed + i) for i in range(n)]


def compare_all(pairs: Sequence[tuple[str, str, str]], people: Sequence[Annotator]) -> list[Comparison]:
    """Have each (signature, first, second) compared by one of several annotators, in turn.

    Pairs of equal responses are left out: there is nothing to choose.
    """
    different = [pair for pair in pairs if pair[1] != pair[2]]
    return [people[i % len(people)].compare(*pair) for i, pair in enumerate(different)]


def ceiling(comparisons: Sequence[Comparison]) -> float:
    """Return the share of choices that the gold reward itself foretells; of ties half."""
    return sum((c.margin > 0) + 0.5 * (c.margin == 0) for c in comparisons) / len(comparisons)
