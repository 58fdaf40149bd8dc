import ast
import errno
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gptlib import corpora
from gptlib.corpora import Corpus, Document, plain, python_docs, python_source, shakespeare, text_file

REAL = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
PLAY = ("First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 50).encode()
SHA256 = hashlib.sha256(PLAY).hexdigest()


@pytest.fixture(scope="module", params=[python_docs, python_source], ids=lambda build: build.__name__)
def library(request):
    return request.param()


# -- the standard library ---------------------------------------------------------------------------


def test_no_validation_text_occurs_in_the_training_text(library):
    leaked = [
        d.name for d in library.validation_documents if d.body in library.train or d.text in library.train
    ]
    assert not leaked


def test_no_module_is_on_both_sides(library):
    train = {document.module for document in library.train_documents}
    assert train.isdisjoint(document.module for document in library.validation_documents)


def test_about_a_tenth_is_held_out(library):
    share = len(library.validation) / (len(library.validation) + len(library.train))
    assert 0.05 < share < 0.2


def test_text_is_printable_ascii_and_newline(library):
    assert set(library.train) | set(library.validation) <= {"\n", *map(chr, range(32, 127))}


def test_no_documentation_occurs_twice(library):
    bodies = [document.body for document in library.train_documents + library.validation_documents]
    assert len(bodies) == len(set(bodies))


def test_labels_say_what_a_document_is():
    documents = python_docs().train_documents + python_docs().validation_documents
    kinds = {
        kind: [d for d in documents if d.kind == kind] for kind in ("function", "class", "module", "topic")
    }
    assert len(kinds["function"]) > 4000 and all(map(len, kinds.values()))
    assert sum(map(len, kinds.values())) == len(documents)
    for document in kinds["function"]:
        assert document.text.startswith(document.signature + '\n    """')
        assert document.name.split(".")[-1] in document.signature
        ast.parse(document.signature + " pass")
    assert {"json", "asyncio.tasks"} <= {document.module for document in documents}


def test_a_function_document_is_valid_python_that_holds_its_docstring():
    parsed = 0
    for document in python_docs().train_documents:
        if document.kind == "function" and "\\" not in document.body and '"""' not in document.body:
            (function,) = ast.parse(document.text).body
            assert ast.get_docstring(function).strip() == document.body.strip()
            parsed += 1
    assert parsed > 3000


@pytest.fixture(scope="module")
def elsewhere():
    """What another process, of another hash seed, reads: the fingerprint, and what it imported meanwhile."""
    code = (
        "import sys; from gptlib.corpora import python_docs; before = set(sys.modules); docs = python_docs();"
        "print(docs.fingerprint, *(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.split()


def test_reading_the_docs_imports_nothing(elsewhere):
    assert not {"this", "antigravity", "smtplib", "turtle", "pydoc_data.topics"} & set(elsewhere[1:])


def test_the_same_python_gives_the_same_corpus(elsewhere):
    assert python_docs().fingerprint == elsewhere[0]


def test_the_fingerprint_changes_with_every_character_and_with_the_split():
    def fingerprint(train, validation):
        train, validation = (Document(text, "", "text", "", "", text) for text in (train, validation))
        return Corpus("x", (train,), (validation,)).fingerprint

    assert len({fingerprint("ab", "cd"), fingerprint("ab", "ce"), fingerprint("abc", "d")}) == 3


def test_plain_spells_what_ascii_lacks():
    fancy = "na\u00efve \u2018single\u2019 \u201cdouble\u201d \u2013 dash \r\na\tb\n\n\n\n\u2603"
    assert plain(fancy) == "naive 'single' \"double\" - dash\na       b"


# -- a reader's own text ----------------------------------------------------------------------------


def test_own_text_is_cut_at_a_line_break_and_nothing_is_lost(tmp_path):
    text = "".join(f"line {i}, h\u00e9\n" for i in range(1000))
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    corpus = text_file(tmp_path / "mine.txt")
    assert corpus.train + corpus.validation == text
    assert corpus.train.endswith("\n") and 0.09 < len(corpus.validation) / len(text) < 0.11


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (None, "there is no file"),
        (b"", "take a longer text"),
        (b"\n \n", "take a longer text"),
        (b"\xff\xfea", "UTF-8"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_the_remedy(tmp_path, content, remedy):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=remedy):
        text_file(tmp_path / "mine.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["A cat sat.\n" * 40, "\u041a\u043e\u0442" * 40, "\u732b\u5750\u4e0b" * 40])
def test_text_of_two_bytes_a_letter_is_refused_by_name(tmp_path, encoding, text):
    """As Windows writes it, with a mark or without; of words, of Cyrillic letters alone, of Chinese ones."""
    (tmp_path / "mine.txt").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"mine\.txt is not UTF-8 text .*UTF-16: save it as UTF-8"):
        text_file(tmp_path / "mine.txt")


def test_a_byte_of_zero_is_refused_and_colours_are_not(tmp_path):
    (tmp_path / "mine.txt").write_bytes(b"a line of text\n" * 50 + b"\0" + b"and more\n" * 50)
    with pytest.raises(ValueError, match="NUL byte after 750 characters"):
        text_file(tmp_path / "mine.txt")
    (tmp_path / "mine.txt").write_bytes(b"\x1b[31mred\x1b[0m\ttext\r\n\f" * 50)
    assert "\x1b[31mred" in text_file(tmp_path / "mine.txt").train


def test_own_text_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("a line\n" * 50)
    assert text_file("~/mine.txt").train.startswith("a line")


def test_own_text_that_may_not_be_read_says_what_helps(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("a line\n" * 50)
    monkeypatch.setattr(Path, "read_text", refusal(errno.EACCES))
    with pytest.raises(ValueError, match=r"mine\.txt cannot be read .*allow this user"):
        text_file(tmp_path / "mine.txt")


# -- the cache --------------------------------------------------------------------------------------


def refusal(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture
def homeless(monkeypatch):
    """A user that the machine does not know, as in a container that is started with some number."""

    def unknown(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", lambda: unknown(None))
    monkeypatch.setattr(Path, "expanduser", lambda path: unknown(path) if str(path)[0] == "~" else path)
    for name in ("GPTLIB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_is_asked_for_only_where_no_folder_is_named(homeless, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="set GPTLIB_CACHE to a folder that can be written to"):
        corpora.cache_folder()
    monkeypatch.setenv("GPTLIB_CACHE", "~/cache")
    with pytest.raises(OSError, match="set GPTLIB_CACHE"):
        corpora.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GPTLIB_CACHE")
    assert corpora.cache_folder() == tmp_path / "gptlib"
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "mine"))
    assert corpora.cache_folder() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("number", "helps"),
    [(errno.ENOSPC, "make room"), (errno.EROFS, "allow this user"), (errno.ENOTDIR, "move away")],
)
@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "os.open", "body"])
def test_every_error_of_the_cache_names_it_and_the_remedy(call, number, helps, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch, pytest.raises(OSError, match=helps) as raised:
        if call != "body":
            patch.setattr(call, refusal(number))
        with corpora.cached("a model"):
            refusal(number)()
    assert "set GPTLIB_CACHE" in str(raised.value) and str(tmp_path / "cache" / "a model") in str(
        raised.value
    )


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_cache_without_file_locks_is_used_with_a_warning(number, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", refusal(number))
    with pytest.warns(UserWarning, match="no file locks.*set GPTLIB_CACHE"), corpora.cached("x") as folder:
        (folder / "file").touch()
    assert (tmp_path / "x" / "file").exists()


def test_a_cache_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model").touch()
    monkeypatch.setattr("os.open", refusal(errno.EROFS))
    with corpora.cached("x") as folder:
        assert [path.name for path in folder.iterdir()] == ["model"]


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Corpus("nothing", (), ())


# -- tiny Shakespeare, from a server of our own -----------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves PLAY well, or in one of the ways in which a download goes wrong."""

    released = threading.Event()  # ends the servers that never answer

    def do_GET(self):
        kind = self.path.strip("/")
        self.server.asked.append(kind)
        if kind == "never":
            self.released.wait(30)
            return
        content = {
            "real": lambda: REAL.read_bytes(),
            "short": lambda: PLAY[:100],
            "altered": lambda: PLAY.replace(b"F", b"f", 1),
            "longer": lambda: PLAY + b"!",
        }.get(kind, lambda: PLAY)()
        self.send_response(404 if kind == "missing" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "truncated":  # the connection dies half-way
            content = content[: len(content) // 2]
        if kind == "drip":  # alive, but it would take for ever
            for byte in content:
                if self.released.wait(0.02):
                    return
                self.wfile.write(bytes([byte]))
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    Handler.released.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        Handler.released.set()
        server.shutdown()
        thread.join()


def fetch(server, kind, **how):
    expected = {"size": len(PLAY), "sha256": SHA256, "timeout": 0.5, "time_limit": 0.5} | how
    return shakespeare(f"http://127.0.0.1:{server.server_port}/{kind}", **expected)


def cached():
    folder = corpora.cache_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_good_download_is_split_at_nine_tenths_and_cached(server):
    corpus = fetch(server, "good")
    assert corpus.train + corpus.validation == PLAY.decode()
    assert len(corpus.train) == int(0.9 * len(PLAY))
    assert fetch(server, "good").fingerprint == corpus.fingerprint
    assert server.asked == ["good"] and cached() == ["tinyshakespeare.txt"]


@pytest.mark.skipif(
    not REAL.exists(), reason="needs ../shared/data/tinyshakespeare.txt beside the repository"
)
def test_the_real_text_has_the_size_and_hash_we_ask_for(server):
    corpus = shakespeare(f"http://127.0.0.1:{server.server_port}/real")
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)  # nanoGPT's split


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("short", "is truncated"),
        ("truncated", "is truncated|IncompleteRead|bytes missing"),
        ("altered", "was altered"),
        ("longer", "was altered"),
        ("missing", "404"),
        ("never", "timed out"),
        ("drip", "longer than|timed out"),
    ],
)
def test_a_bad_download_says_what_to_do_and_leaves_nothing(server, kind, message):
    with pytest.raises(OSError, match=message) as raised:
        fetch(server, kind)
    assert "python_docs()" in str(raised.value) and "save it as" in str(raised.value)
    assert cached() == []


def test_without_a_network_the_error_says_what_to_do(server):
    closed = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="Try again later"):
        shakespeare(f"http://127.0.0.1:{closed}/good", timeout=0.5)
    assert cached() == []


def test_an_altered_cache_is_fetched_again(server):
    fetch(server, "good")
    (corpora.cache_folder() / "tinyshakespeare.txt").write_bytes(PLAY[:-1])
    assert fetch(server, "good").train + fetch(server, "good").validation == PLAY.decode()
    assert server.asked == ["good", "good"]


@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "tempfile.mkstemp", "os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_no_partial_file(server, monkeypatch, call):
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left.*set GPTLIB_CACHE"):
        patch.setattr(call, refusal(errno.ENOSPC))
        fetch(server, "good")
    assert cached() == []


def test_a_download_that_may_not_be_read_again_names_the_cache(server, monkeypatch):
    fetch(server, "good")
    monkeypatch.setattr(Path, "read_bytes", refusal(errno.EACCES))
    with pytest.raises(OSError, match=r"allow this user.*set GPTLIB_CACHE"):
        fetch(server, "good")


def test_no_open_file_is_replaced(server, monkeypatch):
    """Windows refuses it."""

    def replace(old, new, real=os.replace):
        held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert os.path.realpath(old) not in held
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    assert fetch(server, "good").train and cached() == ["tinyshakespeare.txt"]
