"""The text that the book's base model reads: documentation, and other packages' docstrings and comments.

Nothing that a chapter tests on is in it, on any Python that the book supports: the modules are left out, and
paragraphs that share words with a tested document are cut.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

import tqdm

from gptlib.corpora import LEFT_OUT, SEPARATOR, Document, docstrings, documented, library, plain, python_docs
from gptlib.labels import hold_out, main_module, modules_aside
from gptlib.progress import progress

SHARE = 0.4  # of the documentation, set aside for chapter 2's tasks
RUN = 8  # consecutive words that no paragraph shares with a tested document

# Of the packages that requirements.txt pins, those under permissive licences.
NAMES = """
accelerate anywidget datasets filelock hypothesis ipykernel ipython ipywidgets jinja2 jupyter-book matplotlib
myst-nb myst-parser nbclient nbformat nbval numpy onnx onnxruntime onnxscript otter-grader pandas pillow
playwright pydata-sphinx-theme pytest pytest-xdist ruff safetensors scikit-learn scipy setuptools Sphinx
sphinx-book-theme sphinx-exercise sphinxcontrib-bibtex tokenizers torch tqdm traitlets transformers trl
"""
PACKAGES = tuple(NAMES.split())


@dataclass
class Sieve:
    """Cuts from texts the paragraphs that share RUN consecutive words with a tested text, or that repeat.

    Words are compared in lower case, without what stands between them. Of a tested text, or of its first
    paragraph, that has fewer words, all of them must not follow each other anywhere.
    """

    runs: dict[int, set[tuple[str, ...]]]  # by their number of words
    seen: set[tuple[str, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, tested: Iterable[str]) -> "Sieve":
        """Make one that cuts what any of these texts holds."""
        runs: dict[int, set[tuple[str, ...]]] = {}
        for text in tested:
            whole, first = words(text), words(text.split("\n\n")[0])
            for found in [whole] + [first] * (len(first) > 2):  # a heading such as "Exceptions" says nothing
                length = min(RUN, len(found))
                runs.setdefault(length, set()).update(_runs(found, length))
        return cls(runs)

    def holds_tested(self, text: str) -> bool:
        """Say whether a text shares a run of words with a tested one."""
        found = words(text)
        return any(not known.isdisjoint(_runs(found, length)) for length, known in self.runs.items())

    def paragraphs(self, text: str) -> list[str]:
        """Return the paragraphs of a text; "" in the place of each that is cut."""
        return [paragraph if self._is_new(paragraph) else "" for paragraph in text.split("\n\n")]

    def _is_new(self, paragraph: str) -> bool:
        found = tuple(words(paragraph))
        if len(found) >= RUN and found in self.seen:
            return False
        self.seen.add(found)
        return not self.holds_tested(paragraph)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: what letters, digits and underscores make."""
    return re.findall(r"\w+", text.lower())


def _runs(found: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(found[i:] for i in range(length)), strict=False)


@dataclass(frozen=True)
class HeldOut:
    """What chapters test on: the documents' texts, and the modules they are from."""

    bodies: frozenset[str]
    modules: frozenset[str]  # full names of validation modules, main names of those set aside

    def __or__(self, other: "HeldOut") -> "HeldOut":
        return HeldOut(self.bodies | other.bodies, self.modules | other.modules)

    def is_of(self, document: Document) -> bool:
        """Say whether a document is from one of the modules."""
        return not self.modules.isdisjoint({document.module, main_module(document)})


def fingerprint(body: str) -> str:
    """Return eight hexadecimal digits that the words of a document decide."""
    return hashlib.sha256(" ".join(words(body)).encode()).hexdigest()[:8]


def package(name: str) -> dict[str, str]:
    """Return the name, the version and the licence of an installed package."""
    about = distribution(name).metadata
    classifiers = (c.split(" :: ")[-1] for c in about.get_all("Classifier", ()) if c.startswith("License ::"))
    licence = about["License-Expression"] or ", ".join(classifiers) or (about["License"] or "").split("\n")[0]
    return {"name": about["Name"], "version": about["Version"], "licence": licence}


def what_is_tested(*pythons: str) -> HeldOut:
    """Return what is tested on in this Python, and in others, given as their executables."""
    corpus = python_docs()
    documents = (*corpus.validation_documents, *hold_out(corpus, SHARE)[1])
    modules = {d.module for d in corpus.validation_documents} | modules_aside(corpus, SHARE)
    found = HeldOut(frozenset(d.body for d in documents), frozenset(modules))
    for python in pythons:
        code = "import json; from gptlib.base_text import what_is_tested; it = what_is_tested()"
        code += "; print(json.dumps([sorted(it.bodies), sorted(it.modules)]))"
        folders = (Path(__file__).parents[1], Path(tqdm.__file__).parents[1])
        run = subprocess.run(
            [python, "-c", code],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
            capture_output=True,
            text=True,
            check=True,
        )
        found |= HeldOut(*map(frozenset, json.loads(run.stdout)))
    return found


def documentation(held_out: HeldOut, sieve: Sieve) -> list[str]:
    """Return the documents of Python's documentation that may be read."""
    kept = (d for d in python_docs().train_documents if not held_out.is_of(d))
    return [text for document in kept if (text := _sifted(document, sieve))]


def package_texts(name: str, sieve: Sieve) -> list[str]:
    """Return, for each file of an installed package, its docstrings with signatures, and its comments.

    Raises importlib.metadata.PackageNotFoundError when it is not installed.
    """
    texts = []
    for file in distribution(name).files or ():
        if file.suffix == ".py" and not LEFT_OUT & set(file.parts) and ".." not in file.parts:
            path, module, found = Path(file.locate()), ".".join(file.with_suffix("").parts), []
            with contextlib.suppress(SyntaxError):  # a template, or a file for another Python
                found = [_sifted(document, sieve) for document in docstrings(path, module)]
            texts.append(SEPARATOR.join(filter(None, (*found, *comments(path, sieve)))))
    return [text for text in texts if text]


def library_comments(held_out: HeldOut, sieve: Sieve) -> list[str]:
    """Return the comments of the standard library's modules that may be read."""
    texts = []
    for path, module in library():
        if not held_out.is_of(Document("", module, "source", "", "", "")):
            texts.append(SEPARATOR.join(comments(path, sieve)))
    return [text for text in texts if text]


def comments(path: Path, sieve: Sieve) -> list[str]:
    """Return the comments of a source file that have lines to themselves, consecutive lines as one."""
    source = path.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"(?:^[ \t]*#.*\n)+", source, flags=re.MULTILINE)
    texts = (plain(re.sub(r"^[ \t]+", "", lines, flags=re.MULTILINE)) for lines in found)
    return [text for text in texts if len(words(text)) >= RUN and sieve.paragraphs(text)[0]]


def _sifted(document: Document, sieve: Sieve) -> str:
    """Return a document without the paragraphs that are cut; "" if a docstring's first is among them."""
    first, *rest = sieve.paragraphs(document.body)
    if document.signature and not first:
        return ""
    return documented(document.signature, "\n\n".join(filter(None, (first, *rest))))


@dataclass(frozen=True)
class BaseText:
    """What the base model reads: the documentation, and other texts, a file each, in a drawn order."""

    documentation: list[str]
    others: list[str]


def base_text(held_out: HeldOut, packages: Sequence[str] = PACKAGES) -> BaseText:
    """Collect the text, without what chapters test on; it takes four minutes. Same versions, same text.

    Raises importlib.metadata.PackageNotFoundError when a package is not installed.
    """
    sieve = Sieve.of(held_out.bodies)
    documents = documentation(held_out, sieve)
    others = library_comments(held_out, sieve)
    for name in progress(packages, desc="packages"):
        others += package_texts(name, sieve)
    random.Random(0).shuffle(others)
    return BaseText(documents, others)
