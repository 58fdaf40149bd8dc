import sys

import pytest

from gptlib import base_text
from gptlib.base_text import (
    PACKAGES,
    RUN,
    HeldOut,
    Sieve,
    documentation,
    fingerprint,
    package_texts,
    what_is_tested,
)
from gptlib.corpora import SEPARATOR, Document, python_docs
from gptlib.labels import main_module

BODY = "Return the number of bytes that were read from the open file.\n\nZero at its end."


@pytest.fixture(scope="module")
def held_out():
    return what_is_tested()


def kept(text, *bodies):
    return [paragraph for paragraph in Sieve.of(bodies or [BODY]).paragraphs(text) if paragraph]


def test_a_run_of_words_of_a_tested_document_is_cut_whatever_stands_between():
    assert kept("First.\n\n# the Number, of\n# bytes that were read: from\n\nLast.") == ["First.", "Last."]
    assert kept("the number of bytes that were read") == ["the number of bytes that were read"]  # seven


def test_a_short_tested_document_is_cut_wherever_it_occurs():
    assert kept("See above: return the name, or None.\n\nReturn a name.", "Return the name.") == [
        "Return a name."
    ]


def test_a_short_first_paragraph_is_cut_too():
    long = "Close the file.\n\n" + "Then nothing more can be read from it or be written to it."
    assert kept("It will close the file.", long) == []
    assert kept("Notes and more.", "Notes\n\n" + long) == ["Notes and more."]  # a heading


def test_a_paragraph_of_some_length_is_read_once():
    repeated = "A paragraph that stands in each of the many files."
    sieve = Sieve.of([BODY])
    assert [sieve.paragraphs(repeated), sieve.paragraphs(repeated)] == [[repeated], [""]]
    assert sieve.paragraphs("Returns\n\nReturns") == ["Returns", "Returns"]


def test_no_tested_document_occurs_in_the_documentation_that_is_read(held_out):
    texts = documentation(held_out, Sieve.of(held_out.bodies))
    whole = SEPARATOR.join(texts)
    assert len(whole) > 1_000_000
    assert not [body for body in held_out.bodies if body in whole]
    untouched = {d.text: d for d in python_docs().train_documents}
    assert not [text for text in texts if text in untouched and held_out.is_of(untouched[text])]


def test_no_tested_document_occurs_in_a_package_that_is_read(held_out):
    sieve = Sieve.of(held_out.bodies)
    whole = SEPARATOR.join(package_texts("setuptools", sieve))  # it holds copies of the library's own modules
    assert not [body for body in held_out.bodies if body in whole] and len(whole) > 500_000
    everything = SEPARATOR.join(package_texts("setuptools", Sieve.of(["no such words"])))
    assert len([body for body in held_out.bodies if body in everything]) > 10


def test_comments_of_some_length_that_have_lines_to_themselves_are_read(tmp_path):
    comment = "# Eight words, on two lines,\n# make this comment."
    (tmp_path / "module.py").write_text(f"x = 1  # beside\n{comment}\n\n# Short.\ny = '# no'\n")
    texts = base_text.comments(tmp_path / "module.py", Sieve.of([BODY]))
    assert texts == [comment]


def test_other_pythons_are_asked_too(held_out):
    assert what_is_tested(sys.executable) == held_out


def test_modules_are_held_out_whole(held_out):
    documents = python_docs().train_documents
    for document in documents:
        if held_out.is_of(Document("", "pathlib._local", "function", "", "", "")):
            assert held_out.is_of(document) or main_module(document) != "pathlib"


def test_tested_documents_of_several_pythons_are_joined():
    both = HeldOut(frozenset("a"), frozenset("m")) | HeldOut(frozenset("b"), frozenset("n"))
    assert both == HeldOut(frozenset("ab"), frozenset("mn"))
    assert fingerprint("The name.") == fingerprint("the  NAME") != fingerprint("the names")
    assert RUN > 1 and len(set(PACKAGES)) == len(PACKAGES)
