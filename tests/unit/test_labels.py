from collections import Counter

import pytest

from gptlib.corpora import Corpus, Document, python_docs
from gptlib.labels import AREAS, area_of, docs_tasks, hold_out, main_module, modules_aside


@pytest.fixture(scope="module")
def aside():
    return hold_out(python_docs(), 0.4)


@pytest.fixture(scope="module")
def tasks(aside):
    return docs_tasks(aside[1])


def test_nothing_set_aside_is_left_in_the_training_text(aside):
    corpus, documents = aside
    paragraphs = [d.body.split("\n\n")[0] for d in documents]
    assert not [paragraph for paragraph in paragraphs if paragraph in corpus.train]
    assert len(set(paragraphs)) == len(paragraphs) > 2000
    assert len(corpus.train) > 1_000_000


def test_modules_are_set_aside_whole(aside):
    corpus, documents = aside
    validation = {document.module for document in corpus.validation_documents}
    modules = {main_module(document) for document in documents if document.module not in validation}
    assert modules.isdisjoint(map(main_module, corpus.train_documents)) and len(modules) > 50


def test_a_module_has_one_name_in_every_python():
    places = {
        "pathlib": "pathlib._local",
        "datetime": "_pydatetime",
        "decimal": "_pydecimal",
        "pydoc": "pydoc",
    }
    for name, module in places.items():
        assert main_module(Document("", module, "function", "", "", "")) == name


def test_each_area_gives_up_the_share_of_its_documents_that_whole_modules_make(aside):
    given, left = Counter(), Counter()
    modules = modules_aside(python_docs(), 0.4)
    for document in python_docs().train_documents:
        if document.signature:
            (given if main_module(document) in modules else left)[area_of(document)] += 1
    for area in (*range(len(AREAS)), None):
        assert 0.2 < given[area] / (given[area] + left[area]) <= 0.4, area


def test_there_are_labels_enough_for_the_chapter(tasks):
    assert len(tasks["classification"].train) >= 100 * len(AREAS)
    assert all(len(task.train) >= 800 and len(task.test) >= 400 for task in tasks.values())


def test_what_is_held_out_is_decided_by_the_text_alone(aside):
    corpus = python_docs()
    turned = Corpus(corpus.name, corpus.train_documents[::-1], corpus.validation_documents)
    again = hold_out(turned, 0.4)[1]
    first = [{d.body.split("\n\n")[0] for d in documents} for documents in (again, aside[1])]
    assert first[0] == first[1]


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_hold_out_refuses_a_share_that_leaves_nothing(share):
    with pytest.raises(ValueError, match="share"):
        hold_out(python_docs(), share)


def test_hold_out_refuses_a_corpus_without_functions():
    plain = Document("some text", "", "text", "x", "", "some text")
    with pytest.raises(ValueError, match="python_docs"):
        hold_out(Corpus("plain", (plain,), (plain,)), 0.4)


def test_train_and_test_share_no_docstring(tasks):
    for task in tasks.values():
        answers = slice(1, None) if task.kind == "multiple_choice" else slice(None)
        train, test = ({text for e in part for text in e.texts[answers]} for part in (task.train, task.test))
        shared = train & test
        # Docstrings that differ may still have the same first or last half.
        assert len(shared) <= (0.01 * len(test) if task.kind == "entailment" else 0), (task.kind, shared)


def test_labels_are_balanced_from_the_start(tasks):
    for task in tasks.values():
        for n in (len(task.answers), 10 * len(task.answers)):
            counts = [[e.label for e in task.train[:n]].count(a) for a in range(len(task.answers))]
            assert len(set(counts)) == 1, task.kind


@pytest.mark.parametrize("kind", ["entailment", "similarity"])
def test_neither_text_of_a_pair_tells_the_answer(tasks, kind):
    train = tasks[kind].train
    for couple in zip(train[::2], train[1::2], strict=True):
        assert couple[0].texts[0] == couple[1].texts[0] and [e.label for e in couple] == [1, 0]
    positive, negative = (sorted(e.texts[1] for e in train if e.label == label) for label in (1, 0))
    same = sum(a in set(negative) for a in positive) / len(positive)
    assert same > 0.6  # nearly every second text stands on both sides


def test_halves_and_their_strangers_are_of_like_length(tasks):
    true, false = (
        sum(len(e.texts[1]) for e in tasks["entailment"].train if e.label == label) for label in (1, 0)
    )
    assert abs(true / false - 1) < 0.02


def test_a_true_half_continues_the_first(aside, tasks):
    bodies = "\0".join(d.body for d in aside[1])
    for example in tasks["entailment"].test[:100]:
        first, second = example.texts
        joined = first.removeprefix('    """') + second.removesuffix('"""\n\n')
        assert (joined in bodies) == bool(example.label)


def test_the_right_docstring_is_that_of_the_signature(aside, tasks):
    bodies = {}
    for document in aside[1]:
        bodies.setdefault(document.signature + "\n", []).append(" ".join(document.body.split()))
    for example in tasks["multiple_choice"].test[:100]:
        signature, *answers = example.texts
        right = answers[example.label].strip().strip('"')
        assert any(body.startswith(right[:60]) for body in bodies[signature])


def test_seeds_draw_other_pairs_but_keep_the_test(aside, tasks):
    other = docs_tasks(aside[1], seed=1)
    for kind, task in tasks.items():
        assert other[kind].test == task.test
        assert other[kind].train != task.train


def test_areas_share_no_module():
    modules = [module for names in AREAS.values() for module in names.split()]
    assert len(modules) == len(set(modules)) and len(AREAS) == 8
