"""Labels that Python's documentation carries by itself: four tasks made of documents set aside.

A docstring belongs to a module, to a signature, and to its own first half: nobody has to annotate it.
Texts look as they do in the corpus, quotes and all, which is how a pre-trained model knows them.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gptlib.corpora import SEPARATOR, Corpus, Document, fixed_number

SUMMARY_CHARACTERS = 120  # of a docstring's first paragraph
HALF_CHARACTERS = 80

# Eight of the chapters into which the Python library reference sorts its modules, two or three joined.
AREAS = {
    "text": "string re sre_compile sre_parse difflib textwrap unicodedata stringprep readline codecs html "
    "xml csv configparser netrc plistlib tomllib gettext locale reprlib pprint argparse optparse getopt json",
    "numbers and time": "numbers decimal _pydecimal fractions random statistics datetime _pydatetime "
    "calendar zoneinfo _strptime colorsys heapq bisect uuid graphlib",
    "files": "pathlib os posixpath ntpath genericpath fileinput stat filecmp tempfile glob fnmatch shutil "
    "zipfile tarfile gzip bz2 lzma _compression zipapp pickle pickletools shelve dbm sqlite3 io _pyio",
    "concurrency": "asyncio threading _threading_local multiprocessing concurrent subprocess sched queue "
    "signal selectors asyncore asynchat contextvars",
    "mail": "email mailbox smtplib poplib imaplib nntplib mimetypes base64 binhex quopri uu smtpd mailcap",
    "web": "http urllib xmlrpc wsgiref cgi cgitb socketserver ftplib telnetlib ssl socket ipaddress "
    "webbrowser nturl2path",
    "testing": "unittest doctest pydoc bdb pdb trace tracemalloc cProfile profile pstats timeit logging "
    "traceback warnings",
    "the language": "importlib imp pkgutil modulefinder runpy ast symtable token tokenize tabnanny pyclbr "
    "py_compile compileall dis inspect types typing abc enum dataclasses functools contextlib "
    "_collections_abc collections operator copy weakref code codeop site sysconfig zipimport",
}
_AREA_OF = {module: area for area, (_, modules) in enumerate(AREAS.items()) for module in modules.split()}


@dataclass(frozen=True)
class Example:
    """One labelled example: its texts in the order the task reads them, and which answer is right."""

    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Task:
    """A problem with its labelled examples, those for training apart from those for testing."""

    kind: str  # "classification", "entailment", "similarity" or "multiple_choice"
    question: str
    answers: tuple[str, ...]  # what the labels stand for
    train: list[Example] = field(repr=False)
    test: list[Example] = field(repr=False)

    @property
    def chance(self) -> float:
        """The accuracy of guessing: all answers are equally frequent."""
        return 1 / len(self.answers)


def hold_out(corpus: Corpus, share: float) -> tuple[Corpus, tuple[Document, ...]]:
    """Set aside a share of the documented functions and classes; return the rest, and what was set aside.

    Modules are set aside whole, under the name that is imported: area by area (see AREAS, and what is in
    none), in the order of a hash of their names, those that still fit into the share of the area's
    documents. What is set aside includes the functions and classes of the validation modules; their first
    paragraphs differ from each other, and none of them occurs in the training text that is left.
    Raises ValueError when the share is not in (0, 1) or the corpus has no functions and classes.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is that of the documents to set aside, in (0, 1), not {share}")
    modules = modules_aside(corpus, share)
    if not modules:
        raise ValueError(
            f"the corpus {corpus.name!r} has no documented functions to set aside: use python_docs()"
        )
    kept = tuple(d for d in corpus.train_documents if main_module(d) not in modules)
    seen = SEPARATOR.join(document.body for document in kept)
    labelled = [d for d in corpus.train_documents if d.signature and main_module(d) in modules]
    labelled += [d for d in corpus.validation_documents if d.signature]
    unlike = {_first_paragraph(document): document for document in reversed(labelled)}
    return (
        Corpus(f"{corpus.name}-{1 - share:.0%}", kept, corpus.validation_documents),
        tuple(document for paragraph, document in unlike.items() if paragraph not in seen)[::-1],
    )


def modules_aside(corpus: Corpus, share: float) -> set[str]:
    """Return the names of the modules that `hold_out` sets aside."""
    sizes: dict[int | None, Counter[str]] = defaultdict(Counter)  # documents by area and module
    for document in corpus.train_documents:
        if document.signature:
            sizes[area_of(document)][main_module(document)] += 1
    aside = set()
    for modules in sizes.values():
        room = share * modules.total()
        for module in sorted(modules, key=fixed_number):
            if modules[module] <= room:
                aside.add(module)
                room -= modules[module]
    return aside


def main_module(document: Document) -> str:
    """Return the name under which a document's module is imported: "pathlib" of "pathlib._local".

    "decimal" of "_pydecimal": where a module's Python source lies differs between versions of Python.
    """
    return re.sub("^_(py)?", "", document.module.split(".")[0])


def area_of(document: Document) -> int | None:
    """Return the area, as an index into AREAS, that a document's module belongs to; None if to none."""
    return _AREA_OF.get(document.module.split(".")[0])


def docs_tasks(documents: Iterable[Document], seed: int = 0) -> dict[str, Task]:
    """Make GPT-1's four kinds of task of documents set aside, by kind; `seed` draws pairs and order.

    A third of the documents, the same for every seed, makes the test examples and no others; of those whose
    summaries are alike as far as they are shown, the first counts. Of all pairs every text occurs once with
    each label, so that neither text alone tells the answer.
    """
    unlike: dict[str, Document] = {}
    for document in documents:
        unlike.setdefault(_docstring(document), document)
    train, test = [], []
    for document in unlike.values():
        (test if fixed_number("test" + document.body) < 1 / 3 else train).append(document)
    questions = {
        "classification": ("Which area of the library is this docstring from?", tuple(AREAS), _areas),
        "entailment": ("Does the second half continue the first?", ("no", "yes"), _halves),
        "similarity": ("Do these two docstrings come from one module?", ("no", "yes"), _neighbours),
        "multiple_choice": ("Which docstring belongs to this signature?", tuple("ABCD"), _choices),
    }
    return {
        kind: Task(kind, question, answers, make(train, random.Random(seed)), make(test, random.Random(-1)))
        for kind, (question, answers, make) in questions.items()
    }


def _first_paragraph(document: Document) -> str:
    return document.body.split("\n\n")[0]


def _docstring(document: Document) -> str:
    """The first paragraph of a document, as it stands in a source file."""
    summary = " ".join(_first_paragraph(document).split())
    return f'    """{summary[:SUMMARY_CHARACTERS]}"""\n\n'


def _areas(documents: list[Document], rng: random.Random) -> list[Example]:
    """As many of each area as the rarest has, areas in turn, so that any first n are balanced."""
    by_area: dict[int, list[Example]] = {area: [] for area in range(len(AREAS))}
    for document in documents:
        area = area_of(document)
        if area is not None:
            by_area[area].append(Example((_docstring(document),), area))
    for examples in by_area.values():
        rng.shuffle(examples)
    return [example for one_each in zip(*by_area.values(), strict=False) for example in one_each]


def _halves(documents: list[Document], rng: random.Random) -> list[Example]:
    """Two pieces that follow each other, and the same first piece with one of like length from elsewhere."""
    cut = []
    for document in documents:
        body = document.body[: 2 * HALF_CHARACTERS]
        blanks = [
            m.start() for m in re.finditer(r"\s", body) if len(body) / 4 < m.start() < len(body) * 3 / 4
        ]
        if len(body) >= HALF_CHARACTERS and blanks:
            middle = min(blanks, key=lambda i: abs(i - len(body) / 2))
            cut.append((document.module, '    """' + body[:middle], body[middle:] + '"""\n\n'))
    rng.shuffle(cut)
    cut.sort(key=lambda piece: len(piece[2]) // 10)  # a neighbour is of like length, else any
    return _with_strangers(cut, rng)


def _neighbours(documents: list[Document], rng: random.Random) -> list[Example]:
    """Two docstrings of a module, and the first of them with one from another module."""
    by_module = defaultdict(list)
    for document in documents:
        by_module[document.module].append(_docstring(document))
    pairs = []
    for module, texts in by_module.items():
        rng.shuffle(texts)
        pairs += [(module, *pair) for pair in zip(texts[::2], texts[1::2], strict=False)]
    rng.shuffle(pairs)
    return _with_strangers(pairs, rng)


def _with_strangers(pairs: list[tuple[str, str, str]], rng: random.Random) -> list[Example]:
    """Each pair as it is, label 1, and with the second text of the next pair of another module, label 0."""
    examples = []
    for i, (module, first, second) in enumerate(pairs):
        after = (pairs[(i + step) % len(pairs)] for step in range(1, len(pairs)))
        stranger = next((text for other, _, text in after if other != module), None)
        if stranger is not None:
            examples.append([Example((first, second), 1), Example((first, stranger), 0)])
    rng.shuffle(examples)
    return [example for couple in examples for example in couple]


def _choices(documents: list[Document], rng: random.Random) -> list[Example]:
    """A signature, and four docstrings in any order: its own and three from other modules."""
    functions = [document for document in documents if document.kind == "function"]
    rng.shuffle(functions)
    examples = []
    for document in functions:
        strangers = [d for d in functions if d.module != document.module]
        if len(strangers) < 3:
            continue
        answers = [_docstring(d) for d in rng.sample(strangers, 3)]
        label = len(examples) % 4
        answers.insert(label, _docstring(document))
        examples.append(Example((document.signature + "\n", *answers), label))
    return examples
