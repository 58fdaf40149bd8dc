"""Text to learn from: Python's own documentation, its source, tiny Shakespeare, or a file of yours.

Each is a `Corpus`: documents with their labels, split so that no validation text is seen in training.
"""

import ast
import functools
import hashlib
import http.client
import inspect
import os
import platform
import re
import sysconfig
import tempfile
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gptlib.files import expanded, locked, remedy
from gptlib.progress import progress

SEPARATOR = "\n\n"  # between documents, in the joined text
VALIDATION_SHARE = 0.1  # of the groups of documents (modules, topics)
MIN_CHARACTERS = 20  # shorter documentation says nothing

# Left out of the standard library, so that the text is the same on Colab, on Debian and on a laptop:
# tests; what distributions package apart; what newer versions dropped.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
LEFT_OUT |= {"idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "distutils", "pydoc_data"}

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SIZE = 1_115_394  # bytes
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

CONTROL = r"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]"  # of no use in a text; but \x1b begins colours
CACHE_REMEDY = "set GPTLIB_CACHE to a folder that can be written to"


@dataclass(frozen=True)
class Document:
    """A piece of text that is split as a whole, with what is known about it."""

    text: str  # what is trained on
    module: str  # "asyncio.streams"; "topics.WITH" for the language reference; "" for a plain text
    kind: str  # "topic", "module", "class", "function", "source" or "text"
    name: str  # "StreamReader.read"; a topic's title; a file's name
    signature: str  # "def read(self, n=-1):", "class StreamReader:", or ""
    body: str  # the documentation alone, without signature and quotes


@dataclass(frozen=True)
class Corpus:
    """A text in two parts that share no document. Raises ValueError when a part is empty."""

    name: str
    train_documents: tuple[Document, ...]
    validation_documents: tuple[Document, ...]

    def __post_init__(self):
        if not (self.train.strip() and self.validation.strip()):
            raise ValueError(
                f"the corpus {self.name!r} is empty, or too short to split into two parts: take a longer text"
            )

    @cached_property
    def train(self) -> str:
        """The training text: its documents, joined by SEPARATOR."""
        return SEPARATOR.join(document.text for document in self.train_documents)

    @cached_property
    def validation(self) -> str:
        """The validation text: its documents, joined by SEPARATOR."""
        return SEPARATOR.join(document.text for document in self.validation_documents)

    @property
    def fingerprint(self) -> str:
        """The name and 12 hexadecimal digits that change with any character of either text."""
        digest = hashlib.sha256(f"{len(self.train)}:{self.train}{self.validation}".encode())
        return f"{self.name}-{digest.hexdigest()[:12]}"


@functools.cache
def python_docs() -> Corpus:
    """Return the documentation that ships with Python: language topics and the docstrings of its library.

    The sources are parsed, nothing is imported. A function is its signature and its docstring, as
    in a source file. Text is printable ASCII and newline, documents that repeat another are
    dropped, and the split is by module: a validation module's documents are all held out.
    """
    documents = [*_topics(), *(d for path, module in library() for d in docstrings(path, module))]
    return _split_by_module(f"python_docs-{_version()}", documents)


@functools.cache
def python_source() -> Corpus:
    """Return the source files of the standard library, a document each, split by module."""
    documents = []
    for path, module in library():
        text = plain(path.read_text(encoding="utf-8", errors="replace"))
        documents.append(Document(text, module, "source", path.name, "", text))
    return _split_by_module(f"python_source-{_version()}", documents)


def shakespeare(
    url: str = SHAKESPEARE_URL,
    size: int = SHAKESPEARE_SIZE,
    sha256: str = SHAKESPEARE_SHA256,
    timeout: float = 20.0,
    time_limit: float = 300.0,
) -> Corpus:
    """Return tiny Shakespeare (Karpathy 2015), the customary first 90 % of characters and last 10 %.

    Downloaded once into the folder GPTLIB_CACHE names (else the user's cache folder), and checked each time.
    `timeout` limits each wait for the server and `time_limit` the whole, in seconds.
    Raises OSError, saying what to do, when the text cannot be had whole and unaltered.
    """
    path = cache_folder() / "tinyshakespeare.txt"
    with _naming_the_cache(path):
        content = path.read_bytes() if path.exists() else b""
    if not _is_intact(content, size, sha256):
        content = _download(url, path, size, sha256, timeout, time_limit)
        with _naming_the_cache(path):
            _keep(path, content)
    text = content.decode()
    return _split_by_position("shakespeare", text, int(0.9 * len(text)))


def text_file(path: str | Path) -> Corpus:
    """Return a reader's own text (UTF-8): the first 90 %, cut back to a line break, and the rest.

    Raises ValueError when the file is missing, empty, too short to split, or not UTF-8 text: UTF-16, which
    Windows writes, is told by its NUL bytes or, where it has none, by its control characters.
    """
    path = expanded(path)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}: give the path of a text file")
    try:
        text, reason = path.read_text(encoding="utf-8-sig"), ""
    except UnicodeDecodeError as error:
        text, reason = "", f"{error.reason} at byte {error.start}"
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}): {remedy(error)}, or copy it elsewhere") from error
    if "\0" in text:
        reason = f"a NUL byte after {text.index(chr(0)):,} characters"
    elif len(re.findall(CONTROL, text)) > len(text) / 20:
        reason = "control characters"
    if reason:
        raise ValueError(f"{path.name} is not UTF-8 text ({reason}), it may be UTF-16: save it as UTF-8")
    cut = int(0.9 * len(text))
    return _split_by_position(path.stem, text, text.rfind("\n", cut // 2, cut) + 1 or cut)


def plain(text: str) -> str:
    """Reduce a text to printable ASCII and newline: accents off, typographic signs spelt, blanks tidied."""
    for fancy, ascii_only in (
        ("\u2018\u2019\u201a", "'"),
        ("\u201c\u201d\u201e", '"'),
        ("\u2010\u2011\u2012\u2013\u2014", "-"),
    ):
        text = re.sub(f"[{fancy}]", ascii_only, text)
    text = unicodedata.normalize("NFKD", text.replace("\r\n", "\n").expandtabs())
    text = re.sub(r"[^\n -~]", "", text)
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def fixed_number(text: str) -> float:
    """Return a number in [0, 1) that a text decides, evenly spread, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def cache_folder() -> Path:
    """Return the folder for downloads and trained models: GPTLIB_CACHE, or gptlib in the user's cache.

    Raises OSError, naming GPTLIB_CACHE, where that is not set and the user has no home.
    """
    try:
        if named := os.environ.get("GPTLIB_CACHE"):
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "gptlib"
    except RuntimeError as error:
        raise OSError(
            f"there is no place for downloads and trained models ({error}): {CACHE_REMEDY}"
        ) from error


@contextmanager
def cached(name: str) -> Iterator[Path]:
    """Make a folder of the cache and hold it: other processes that ask for it wait.

    Raises OSError, naming GPTLIB_CACHE, when something in it cannot be made, read or written.
    """
    folder = cache_folder() / name
    with _naming_the_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", f"start one after the other, or {CACHE_REMEDY}"):
            yield folder


@contextmanager
def _naming_the_cache(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the cache cannot be used at {path} ({error}): {remedy(error)}, or {CACHE_REMEDY}"
        ) from error


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def library() -> Iterator[tuple[Path, str]]:
    """Yield the standard library's source files with their module names, in alphabetical order."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not LEFT_OUT & set(parts) and not parts[0].startswith(
            ("_sysconfigdata", "config-", "lib-dynload")
        ):
            yield path, ".".join(parts).removesuffix(".__init__")


def _topics() -> Iterator[Document]:
    """Yield the language reference that `help()` shows, a document a topic."""
    path = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign):
            for title, text in sorted(ast.literal_eval(statement.value).items()):
                body = plain(text)
                yield Document(body, f"topics.{title}", "topic", title, "", body)


def docstrings(path: Path, module: str) -> Iterator[Document]:
    """Yield the documents of one source file: module, classes and functions that have a docstring.

    Raises SyntaxError when the file is for another version of Python.
    """
    tree = ast.parse(path.read_bytes())
    yield from _document(tree, module, ())
    stack: list[tuple[ast.AST, tuple[str, ...]]] = [(tree, ())]
    while stack:
        parent, outer = stack.pop()
        for node in ast.iter_child_nodes(parent):
            inner = outer
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*outer, node.name)
                yield from _document(node, module, inner)
            stack.append((node, inner))


def _document(node: ast.AST, module: str, names: tuple[str, ...]) -> Iterator[Document]:
    """Yield the document of one definition, if it has documentation worth reading."""
    body = plain(inspect.cleandoc(ast.get_docstring(node) or ""))
    if len(body) < MIN_CHARACTERS:
        return
    if isinstance(node, ast.Module):
        yield Document(body, module, "module", module, "", body)
        return
    signature = _signature(node)
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    yield Document(documented(signature, body), module, kind, ".".join(names), signature, body)


def documented(signature: str, body: str) -> str:
    """Return a signature with its docstring, as in a source file; the body alone without a signature."""
    if not signature:
        return body
    lines = body.replace("\n", "\n    ").replace("\n    \n", "\n\n")
    end = '\n    """' if "\n" in body or body.endswith('"') else '"""'
    return f'{signature}\n    """{lines}{end}'


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the first line of a definition, as `ast.unparse` writes it: "def read(self, n=-1):"."""
    header = {field: getattr(node, field) for field in node._fields}
    bare = type(node)(**(header | {"body": [ast.Pass()], "decorator_list": []}))
    return plain(ast.unparse(ast.fix_missing_locations(bare)).rsplit("\n", 1)[0]).replace("\n", " ")


def _split_by_module(name: str, documents: list[Document]) -> Corpus:
    """Hold out about a tenth of the modules, chosen by a hash of their names; drop what repeats.

    Dropped are documents whose body was seen before, and validation documents whose body occurs
    anywhere in the training text.
    """
    unique = list({document.body: document for document in reversed(documents)}.values())[::-1]
    parts: dict[bool, list[Document]] = {False: [], True: []}
    for document in unique:
        parts[fixed_number(document.module) < VALIDATION_SHARE].append(document)
    seen = SEPARATOR.join(document.body for document in parts[False])
    held_out = tuple(document for document in parts[True] if document.body not in seen)
    return Corpus(name, tuple(parts[False]), held_out)


def _split_by_position(name: str, text: str, cut: int) -> Corpus:
    documents = [Document(part, "", "text", name, "", part) for part in (text[:cut], text[cut:])]
    return Corpus(name, (documents[0],), (documents[1],))


def _is_intact(content: bytes, size: int, sha256: str) -> bool:
    return len(content) == size and hashlib.sha256(content).hexdigest() == sha256


def _download(url: str, path: Path, size: int, sha256: str, timeout: float, time_limit: float) -> bytes:
    """Fetch a file of known size and hash."""
    remedy = (
        f"Try again later; or fetch {url} in a browser and save it as {path}; "
        "or use python_docs(), which needs no network."
    )
    try:
        content = _read(url, size, timeout, time_limit)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's answer, with an open connection
        raise OSError(f"could not download {path.name}: {error}. {remedy}") from error
    if not _is_intact(content, size, sha256):
        what = "is truncated" if len(content) < size else "was altered on the way"
        raise OSError(f"the downloaded {path.name} {what} ({len(content):,} of {size:,} bytes). {remedy}")
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write a file in one piece or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # closed before: Windows replaces no open file
    except BaseException:
        os.unlink(partial)
        raise


def _read(url: str, size: int, timeout: float, time_limit: float) -> bytes:
    """Read at most one byte more than `size` from a URL, within `time_limit` seconds."""
    deadline, content = time.monotonic() + time_limit, bytearray()
    with (
        urllib.request.urlopen(url, timeout=timeout) as response,
        progress(total=size, unit="B", unit_scale=True, desc="downloading") as bar,
    ):
        while len(content) <= size and (chunk := response.read1(min(65_536, size + 1 - len(content)))):
            content += chunk
            bar.update(len(chunk))
            if time.monotonic() > deadline:
                raise TimeoutError(f"it took longer than {time_limit:.0f} seconds")
    return bytes(content)
