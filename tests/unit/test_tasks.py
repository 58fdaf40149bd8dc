"""Documents show what they claim, and training texts hold nothing of what is held out."""

import random

import pytest

from gptlib.tasks import (
    EXAMPLES,
    FAMILIES,
    HELD_OUT_MAPPINGS,
    HELD_OUT_STEPS,
    KINDS,
    MAPPINGS,
    QUESTIONS,
    VOCABULARY,
    document,
    training_text,
)
from gptlib.tokenizers import WordTokenizer

TEXT = training_text(3000, seed=0)


def documents(text):
    """Split a text into its documents: the description's name, and the lines below it."""
    found = []
    for line in text.splitlines():
        if line.endswith(":"):
            found.append((line[:-1], []))
        else:
            found[-1][1].append(line)
    return found


DOCUMENTS = documents(TEXT)


def examples(name):
    """All examples of a family in the training text, as (question, answer)."""
    return [tuple(line.split(" => ")) for its, lines in DOCUMENTS if its == name for line in lines]


def test_a_document_has_the_format_of_the_gpt3_paper():
    shots = [("sea", "mer"), ("cheese", "fromage")]
    assert document("English to French:", shots, "tree") == (
        "English to French:\nsea => mer\ncheese => fromage\ntree =>"
    )
    assert document("", shots, arrow=": ") == "sea: mer\ncheese: fromage\n"


def test_each_kind_is_asked_once_and_answers_once_among_the_held_out_mappings():
    asked, answered = zip(*(name.split(" to ") for name in HELD_OUT_MAPPINGS), strict=True)
    assert sorted(asked) == sorted(answered) == sorted(KINDS)


def test_training_texts_hold_no_held_out_task():
    names = {name for name, _ in DOCUMENTS}
    assert names == {*MAPPINGS, "add", "pick", "copy"} - set(HELD_OUT_MAPPINGS)
    steps = {int(answer) - int(question) for question, answer in examples("add")}
    assert steps == set(range(1, 8)) - set(HELD_OUT_STEPS)
    rng, held_out = random.Random(0), set()
    for _ in range(300):
        held_out |= set(FAMILIES["pick, new letters"].draw(rng).answers)
    assert len(held_out) > 400 and not held_out & {question for question, _ in examples("pick")}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_task_answers_by_its_rule(name):
    task = FAMILIES[name].draw(random.Random(1))
    assert len(task.examples(EXAMPLES, random.Random(1))) == EXAMPLES
    if name in MAPPINGS:
        asked, answered = name.split(" to ")
        assert len(task.answers) == len(set(task.answers.values())) == QUESTIONS
        assert set(task.answers) <= set(KINDS[asked]) and set(task.answers.values()) <= set(KINDS[answered])
    elif name.startswith("add"):
        assert len({int(answer) - int(question) for question, answer in task.answers.items()}) == 1
    elif name.startswith("pick"):
        places = {question.split().index(answer) for question, answer in task.answers.items()}
        assert len(places) == 1
    else:
        questions = [question for question, _ in task.examples(EXAMPLES, random.Random(1))]
        assert len(set(questions)) == EXAMPLES and len(task.answers) == FAMILIES[name].n_answers


def test_within_a_document_a_question_has_one_answer():
    for name, lines in DOCUMENTS:
        if name != "copy":
            pairs = {tuple(line.split(" => ")) for line in lines}
            assert len(lines) == EXAMPLES and len({question for question, _ in pairs}) == len(pairs)


def test_copies_repeat_their_words_with_and_without_arrows():
    copies = [lines[0] for name, lines in DOCUMENTS if name == "copy"]
    assert abs(len(copies) / len(DOCUMENTS) - 0.4) < 0.03
    assert abs(sum("=>" in line for line in copies) / len(copies) - 0.5) < 0.05
    for line in copies:
        words = line.replace(" => ", " ").split()
        period = words.index(words[0], 1)
        assert 4 <= period <= 12 and words[period:] == words[:-period]
    assert "copy" not in training_text(200, 0, copies=0.0)
    plain = training_text(200, 0, arrows=False)
    assert not any("=>" in lines[0] for name, lines in documents(plain) if name == "copy")


def test_the_vocabulary_writes_every_training_text_and_reads_it_back():
    tokenizer = WordTokenizer(VOCABULARY)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_a_seed_gives_one_text():
    assert training_text(50, 3) == training_text(50, 3) != training_text(50, 4)
