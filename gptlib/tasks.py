"""Small tasks in words, drawn without end: mappings of letters and words, look-ups, copying, arithmetic.

A document shows one task in the format of the GPT-3 paper (Brown et al. 2020, figure 2.1): a line that
describes it, then examples, each a question, an arrow and the answer. Every document draws its task
anew, so that nothing but its own examples can tell the answers. Part of the families is held out:
training texts hold no document of them.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

KINDS = {  # sixteen words each
    "letter": "a b c d e f g h i j k l m n o p",
    "noun": "bird boat book door fish hand hill king lamp leaf moon rain road rose salt tree",
    "foreign": "bemo dala fipu gova hesi juro kati lumo miro nesa pudo rivo sola tepi vuna zeko",
    "name": "Ada Alan Bell Carl Cleo Emmy Ewa Hugo Ida Karl Kurt Lise Max Mia Nils Vera",
    "number": "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
}
KINDS = {kind: tuple(words.split()) for kind, words in KINDS.items()}
WORDS = tuple(word for words in KINDS.values() for word in words)
QUESTIONS = 4  # of a mapping: an example has one chance in four to be the one asked for next
EXAMPLES = 16  # in a training document
COPIES = 0.4  # share of the training documents that repeat random words
HELD_OUT_STEPS = (3, 7)  # of addition
HELD_OUT = 20  # one numbered problem in so many is kept from training

Answers = dict[str, str]
Example = tuple[str, str]


@dataclass(frozen=True)
class Task:
    """One task: the line that describes its family, and the answer to each of its questions."""

    description: str
    answers: Answers
    repeats: bool = True  # a question may come several times

    def examples(self, n: int, rng: random.Random) -> list[Example]:
        """Draw n questions with their answers."""
        questions = list(self.answers)
        drawn = rng.choices(questions, k=n) if self.repeats else rng.sample(questions, n)
        return [(question, self.answers[question]) for question in drawn]


@dataclass(frozen=True)
class Family:
    """Tasks of one kind."""

    description: str
    draw_answers: Callable[[random.Random], Answers]
    trained: bool  # False: held out, so that no training text shows a task of it
    n_answers: int  # an answer drawn from as many is right once in n_answers times
    repeats: bool = True

    def draw(self, rng: random.Random) -> Task:
        """Draw a task."""
        return Task(self.description, self.draw_answers(rng), self.repeats)


def _mapping(asked: str, answered: str) -> Callable[[random.Random], Answers]:
    """Return what draws QUESTIONS words of one kind, and for each a word of another, no two the same."""

    def draw(rng: random.Random) -> Answers:
        drawn = rng.sample(KINDS[asked], QUESTIONS), rng.sample(KINDS[answered], QUESTIONS)
        return dict(zip(*drawn, strict=True))

    return draw


def _addition(steps: Sequence[int]) -> Callable[[random.Random], Answers]:
    """Return what draws a step to be added to the numbers 0 to 8."""

    def draw(rng: random.Random) -> Answers:
        step = rng.choice(steps)
        return {str(number): str(number + step) for number in range(9)}

    return draw


def _picking(held_out: bool) -> Callable[[random.Random], Answers]:
    """Return what draws a place, first to third, whose letter is the answer to three letters.

    A fifth of all triples is kept from training.
    """

    def draw(rng: random.Random) -> Answers:
        place, answers = rng.randrange(3), {}
        while len(answers) < 16:
            letters = rng.sample(KINDS["letter"], 3)
            if (sum(map(ord, letters)) % 5 == 0) == held_out:
                answers[" ".join(letters)] = letters[place]
        return answers

    return draw


def is_held_out(number):
    """Return whether a problem, or each in a tensor of problems, is kept from training, by its number.

    Numbers are mixed well, so that no pattern in their digits tells.
    """
    return (number * 2_654_435_761 % 2**32 >> 16) % HELD_OUT == 0


# What people know and our own models cannot: for models that have read the world's text.
EVERYDAY = {
    "English to French": "cheese fromage, house maison, dog chien, cat chat, water eau, bread pain, "
    "milk lait, book livre, night nuit, sun soleil, moon lune, tree arbre, fish poisson, king roi, "
    "door porte, rain pluie, salt sel, apple pomme",
    "country to capital": "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, "
    "China Beijing, Russia Moscow, Egypt Cairo, Greece Athens, Portugal Lisbon, Ireland Dublin, "
    "Austria Vienna, Poland Warsaw, Norway Oslo, Peru Lima, Cuba Havana, Kenya Nairobi, Canada Ottawa",
    "word to opposite": "hot cold, big small, up down, open closed, early late, good bad, rich poor, "
    "fast slow, day night, hard soft, full empty, young old, love hate, left right, true false, "
    "first last, dark light, war peace",
}


def _known(pairs: str) -> Callable[[random.Random], Answers]:
    table = dict(pair.split() for pair in pairs.split(", "))
    return lambda rng: table


def _families() -> Iterator[tuple[str, Family]]:
    for i, asked in enumerate(KINDS):
        for j, answered in enumerate(KINDS):
            trained = (2 * i + j) % 5 != 0  # held out: each kind is asked once, and is the answer once
            name = f"{asked} to {answered}"
            yield name, Family(f"{name}:", _mapping(asked, answered), trained, len(KINDS[answered]))
    known = [step for step in range(1, 8) if step not in HELD_OUT_STEPS]
    yield "add", Family("add:", _addition(known), True, 16)
    yield "add, new step", Family("add:", _addition(HELD_OUT_STEPS), False, 16)
    yield "pick", Family("pick:", _picking(False), True, 3)
    yield "pick, new letters", Family("pick:", _picking(True), False, 3)
    for name, pairs in EVERYDAY.items():
        yield name, Family(f"{name}:", _known(pairs), False, pairs.count(",") + 1, repeats=False)


FAMILIES = dict(_families())
MAPPINGS = tuple(f"{asked} to {answered}" for asked in KINDS for answered in KINDS)
TRAINED_MAPPINGS = tuple(name for name in MAPPINGS if FAMILIES[name].trained)
HELD_OUT_MAPPINGS = tuple(name for name in MAPPINGS if not FAMILIES[name].trained)
VOCABULARY = ("\n", ":", "=>", "to", "add", "pick", "copy", *KINDS, *WORDS)


def document(description: str, examples: Sequence[Example], question: str = "", arrow: str = " => ") -> str:
    """Write a description, examples a line each and, for a prompt, a question whose answer is to come.

    An empty description is left out together with its line.
    """
    lines = [description] * bool(description) + [f"{asked}{arrow}{answer}" for asked, answer in examples]
    if question:
        return "\n".join([*lines, f"{question}{arrow}"]).rstrip(" ")
    return "\n".join(lines) + "\n"


def training_text(n_documents: int, seed: int, copies: float = COPIES, arrows: bool = True) -> str:
    """Return documents of trained families, and a share `copies` that repeats random words.

    Two thirds of the tasks are mappings, a sixth additions, a sixth pickings. With `arrows`, half of
    the copies have an arrow between their words, as questions and answers have.
    """
    rng = random.Random(seed)
    weights = {name: 4 / len(TRAINED_MAPPINGS) for name in TRAINED_MAPPINGS} | {"add": 1, "pick": 1}
    names = rng.choices(list(weights), list(weights.values()), k=n_documents)
    betweens = (" ", " => ") if arrows else (" ",)
    return "".join(
        _copy(rng, rng.choice(betweens)) if rng.random() < copies else _shown(FAMILIES[name], rng)
        for name in names
    )


def _shown(family: Family, rng: random.Random) -> str:
    task = family.draw(rng)
    return document(task.description, task.examples(EXAMPLES, rng))


def _copy(rng: random.Random, between: str) -> str:
    """Write four to twelve words over and over, in about as many tokens as other documents have."""
    words = rng.sample(WORDS, rng.randint(4, 12))
    n = EXAMPLES * (2 if "=>" in between else 4)
    return "copy:\n" + between.join((words * n)[:n]) + "\n"
