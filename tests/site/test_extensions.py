"""The book's own Sphinx extensions: what they add to a page, and what they refuse to build."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

EXTENSIONS = Path(__file__).parents[2] / "book" / "_ext"
CONF = f"""
import sys
sys.path.insert(0, {str(EXTENSIONS)!r})
extensions = ["myst_nb", "claims_ledger", "figures", "runs"]
nb_execution_mode = "off"
suppress_warnings = ["mystnb.unknown_mime_type"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "sphinx_book_theme"
html_theme_options = {{
    "repository_url": "https://github.com/you/fork/",
    "repository_branch": "trunk",
    "launch_buttons": {{"colab_url": "https://colab.research.google.com"}},
}}
"""
RUN = {"minutes": 3.0, "budget": "cpu", "device": "a machine", "python": "3.11.7", "torch": "2.13.0"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def claim(id="floor", measured=0.5, **bound):
    """An output as gptlib.claims leaves it."""
    made = {
        "id": id, "text": "a text", "measured": measured, "bound": bound or {"at_most": 1.0}, "unit": "nats",
        "source": None, "seeds": [0, 1], "recorded": False, "device": "a machine",
    }  # fmt: skip
    html = f'<div class="claim" id="claim-{id}">a text</div>'
    data = {"text/plain": "a text", "text/html": html, "application/vnd.gptlib.claim+json": made}
    return new_output("display_data", data)


def figure(**about):
    return new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": about})


def build(folder, *outputs, run=RUN, text=""):
    """Build a book of a notebook, a ledger and a page on running, as the real one is built: warnings fail."""
    (folder / "conf.py").write_text(CONF)
    toctree = "```{toctree}\nnotebooks/one\nbook/how-to\n```"
    (folder / "index.md").write_text(f"# Ledger\n\n{toctree}\n\n```{{claims-ledger}}\n```\n\n{text}\n")
    (folder / "book").mkdir()
    (folder / "book" / "how-to.md").write_text("# How to\n\n```{run-table}\n```\n")
    (folder / "notebooks").mkdir()
    cells = [new_markdown_cell("# A chapter"), new_code_cell("1", outputs=list(outputs))]
    about = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    notebook = new_notebook(cells=cells, metadata=about | ({"gptlib": run} if run else {}))
    nbformat.write(notebook, folder / "notebooks" / "one.ipynb")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", folder, folder / "_build"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pages(folder):
    """Return the built pages of the ledger, of the notebook, and on running."""
    return [
        (folder / "_build" / f"{name}.html").read_text() for name in ("index", "notebooks/one", "book/how-to")
    ]


def test_a_claim_stands_in_the_ledger_and_leads_to_its_cell(tmp_path):
    built = build(tmp_path, claim(), claim("other", 2.0, equals=2.0, tolerance=0.1))
    assert built.returncode == 0, built.stderr
    ledger = (tmp_path / "_build" / "index.html").read_text()
    for shown in ("A chapter", "at most 1", "2 ± 0.1", "0.5 nats", "0, 1", "live", "a machine", "our own"):
        assert shown in ledger
    assert 'href="notebooks/one.html#claim-floor"' in ledger
    assert 'id="claim-floor"' in (tmp_path / "_build" / "notebooks" / "one.html").read_text()


def test_a_figure_keeps_its_text_and_width(tmp_path):
    built = build(tmp_path, claim(), figure(alt="a line that falls", width=300))
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "_build" / "notebooks" / "one.html").read_text()
    assert 'alt="a line that falls"' in page and "300px" in page


def test_the_number_of_a_claim_can_be_quoted(tmp_path):
    built = build(tmp_path, claim(measured=0.123456), text="It is {claim}`floor`.")
    assert built.returncode == 0, built.stderr
    quoted = '<a class="reference internal" href="notebooks/one.html#claim-floor">0.123 nats</a>'
    assert f"It is {quoted}." in pages(tmp_path)[0]


def test_a_number_is_read_again_when_the_notebook_was_run_again(tmp_path):
    assert build(tmp_path, claim(), text="It is {claim}`floor`.").returncode == 0
    notebook = tmp_path / "notebooks" / "one.ipynb"
    notebook.write_text(
        notebook.read_text()
        .replace('"measured": 0.5', '"measured": 0.7')
        .replace('"minutes": 3.0', '"minutes": 4.0')
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", tmp_path, tmp_path / "_build"]
    assert subprocess.run(command, check=False).returncode == 0
    ledger, chapter, how_to = pages(tmp_path)
    assert ledger.count("0.7 nats") == 2 and "0.5 nats" not in ledger
    assert "4 minutes on a machine" in chapter and "4.0" in how_to


def test_a_chapter_says_what_made_it(tmp_path):
    built = build(tmp_path, claim())
    assert built.returncode == 0, built.stderr
    _, chapter, how_to = pages(tmp_path)
    line = chapter.index("Outputs of this page: 3 minutes on a machine, Python 3.11.7, torch 2.13.0.")
    assert chapter.index("<h1>A chapter") < line < chapter.index('id="claim-floor"')
    assert 'href="../book/how-to.html"' in chapter[line:]
    colab = "https://colab.research.google.com/github/you/fork/blob/trunk/notebooks/one.ipynb"
    assert f'href="{colab}">Open in Colab' in chapter[line:]
    [source] = re.findall('href="([^"]*)" download>Download the notebook', chapter)
    downloaded = (tmp_path / "_build" / "notebooks" / source).resolve()
    assert downloaded.read_bytes() == (tmp_path / "notebooks" / "one.ipynb").read_bytes()
    rows = re.findall("<tr.*?</tr>", how_to, re.DOTALL)
    cells = [re.findall(r"<p>(?:<a[^>]*>)?([^<]*)", row) for row in rows]
    assert cells[1] == ["A chapter", "3.0", "cpu", "a machine", "3.11.7", "2.13.0"]
    assert cells[2][:2] == ["All chapters", "3.0"]
    assert 'href="../notebooks/one.html">A chapter' in rows[1]


def test_a_notebook_without_outputs_needs_no_run(tmp_path):
    built = build(tmp_path, run=None)
    assert built.returncode == 0, built.stderr
    _, chapter, how_to = pages(tmp_path)
    assert "Outputs of this page" not in chapter and "Open in Colab" in chapter
    assert "A chapter" not in re.search("<table.*?</table>", how_to, re.DOTALL).group()


def test_a_signature_names_types_by_their_last_part(tmp_path):
    (tmp_path / "made_up.py").write_text(
        "from collections import Counter\nfrom dataclasses import dataclass, field\n\n"
        '@dataclass\nclass Tally:\n    """What was counted."""\n\n'
        "    n: Counter = field(default_factory=Counter)\n"
    )
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path[:0] = [{str(EXTENSIONS)!r}, {str(tmp_path)!r}]\n"
        'extensions = ["sphinx.ext.autodoc", "signatures"]\nautodoc_typehints_format = "short"\n'
        "python_use_unqualified_type_names = True\n"
    )
    (tmp_path / "index.rst").write_text("Page\n====\n\n.. autoclass:: made_up.Tally\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", tmp_path, tmp_path / "_build"]
    subprocess.run(command, check=True)
    page = re.sub("<[^>]*>", "", (tmp_path / "_build" / "index.html").read_text())
    assert "Tally(n: Counter = ...)" in page


@pytest.mark.parametrize(
    ("outputs", "more", "complaint"),
    [
        ([claim()], {"run": None}, "which run made them"),
        ([claim()], {"text": "It is {claim}`flor`."}, "no notebook makes the claim 'flor'"),
    ],
)
def test_the_build_fails_for_want_of(tmp_path, outputs, more, complaint):
    built = build(tmp_path, *outputs, **more)
    assert built.returncode != 0
    assert complaint in built.stderr


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ([claim(), claim()], "made twice"),
        ([claim(measured=1.5)], "does not hold"),
        ([claim(measured=0.5, at_least=0.6)], "does not hold"),
        ([claim(measured=3.0, equals=2.0, tolerance=0.5)], "does not hold"),
        ([claim(measured=float("nan"))], "does not hold"),
        ([claim(), figure(width=300)], "no alternative text"),
    ],
)
def test_the_build_fails(tmp_path, outputs, complaint):
    built = build(tmp_path, *outputs)
    assert built.returncode != 0
    assert complaint in built.stderr
