"""`make adopt`: the repository's address rules from _config.yml, and all that names it follows."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book"))
from adopt import HINT, adopt, slug  # noqa: E402

ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
OLD, NEW = ADDRESS.removeprefix("https://github.com/"), "you_2/my.fork"
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
IGNORED = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository, without what git ignores."""
    return shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", *IGNORED))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def set_up(notebook):
    """The source of a notebook's first code cell."""
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_nothing_names_the_old_address_afterwards(copy):
    before = contents(copy)
    changed = adopt(copy, f"https://github.com/{NEW}")
    after = contents(copy)
    assert {path.relative_to(copy) for path in changed} == {p for p in before if before[p] != after[p]}
    assert {"_config.yml", "CITATION.cff", "pyproject.toml"} < {path.name for path in changed}
    pages = OLD.replace("/", ".github.io/")
    assert not [path for path, text in after.items() if OLD.encode() in text or pages.encode() in text]
    assert yaml.safe_load(after[Path("_config.yml")])["repository"]["url"] == f"https://github.com/{NEW}"


def test_a_notebook_changes_in_that_string_alone(copy):
    adopt(copy, f"https://github.com/{NEW}")
    for path in NOTEBOOKS:
        was, now = path.read_bytes(), (copy / path.relative_to(ROOT)).read_bytes()
        assert was != now and was.replace(OLD.encode(), NEW.encode()) == now
        nbformat.validate(nbformat.reads(now.decode(), as_version=4))
        assert [cell.get("outputs") for cell in json.loads(was)["cells"]] == [
            cell.get("outputs") for cell in json.loads(now)["cells"]
        ]


def test_twice_is_once_and_back_is_as_before(copy):
    before = contents(copy)
    adopt(copy, f"https://github.com/{NEW}")
    once = contents(copy)
    assert adopt(copy, f"https://github.com/{NEW}.git") == [] and contents(copy) == once
    adopt(copy, f"{ADDRESS}/")
    assert contents(copy) == before


@pytest.fixture
def book(tmp_path):
    """The least of a book: two places that name its repository, and what only looks like it."""
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://github.com/a/b\n  branch: main\n")

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "adopted"),
    [
        ("https://github.com/a/b, https://github.com/a/b.", "https://github.com/c/d, https://github.com/c/d."),
        ("git clone https://github.com/a/b.git\r\n", "git clone https://github.com/c/d.git\r\n"),
        ("https://colab.research.google.com/github/a/b/blob/x", "https://colab.research.google.com/github/c/d/blob/x"),
        ("https://github.com/a/b/issues", "https://github.com/c/d/issues"),
        *[(text, text) for text in ["https://github.com/a/b-c", "https://github.com/a/b.js", "https://x.org/a/b"]],
    ],
)  # fmt: skip
def test_only_the_address_itself_changes(book, tmp_path, text, adopted):
    page = book("book/page.md", text)
    adopt(tmp_path, "https://github.com/c/d")
    assert page.read_bytes().decode() == adopted


def test_a_notebook_merged_from_another_copy_follows(book, tmp_path):
    adopt(tmp_path, "https://github.com/c/d")
    merged = book(
        "notebooks/exercises/new.ipynb", r'"%pip install -q \"gptlib @ git+https://github.com/a/b\""'
    )
    assert adopt(tmp_path, "https://github.com/c/d") == [merged]
    assert "git+https://github.com/c/d\\" in merged.read_text()


def test_an_address_is_made_plain():
    for tail in ("", "/", ".git", ".git/"):
        assert slug(f"https://github.com/you_2/my.fork{tail}") == NEW


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "which repository"),
        ("github.com/you/fork", "does not start with https"),
        ("http://github.com/you/fork", "does not start with https"),
        ("git@github.com:you/fork.git", "does not start with https"),
        ("https://gitlab.com/you/fork", "Colab opens notebooks from GitHub alone"),
        ("https://github.com.evil.org/you/fork", "is not github.com"),
        ("https://github.com/you", "nothing after them"),
        ("https://github.com/you/.git", "nothing after them"),
        ("https://github.com/you/fork/tree/main", "nothing after them"),
        ("https://github.com/you/fork?tab=readme", "nothing after them"),
        ("https://github.com/you/my fork", "nothing after them"),
    ],
)
def test_what_is_no_repository_is_refused(book, tmp_path, address, says):
    with pytest.raises(ValueError, match=says) as refused:
        adopt(tmp_path, address)
    assert HINT in str(refused.value)
    assert "github.com/a/b" in (tmp_path / "_config.yml").read_text()


def test_a_config_without_an_address_is_refused(tmp_path):
    (tmp_path / "_config.yml").write_text("title: no repository\n")
    with pytest.raises(ValueError, match="has no line"):
        adopt(tmp_path, "https://github.com/c/d")


def test_the_command_says_what_changed(copy):
    def run(address):
        # -S: without installed packages, as before `make setup`
        line = [sys.executable, "-S", copy / "book" / "adopt.py", address]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    told = run("https://github.com/you/fork").stdout.splitlines()
    assert "_config.yml" in told and told[-1] == f"Files changed: {len(told) - 1}. Commit them."
    assert run("https://github.com/you/fork").stdout == "Nothing to change.\n"
    refused = run("")
    assert refused.returncode == 1 and refused.stderr == f"adopt: which repository? {HINT}\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_set_up_cell_agrees_with_the_config(path):
    named = re.findall(r"gptlib @ git\+(\S+)\"", set_up(nbformat.read(path, as_version=4)))
    assert named == [ADDRESS]


def test_the_citation_and_the_package_agree_with_the_config():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["repository-code"] == project["urls"]["Repository"] == ADDRESS
