"""The book's own Sphinx extensions: what they add to a page, and what they refuse to build."""

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
extensions = ["myst_nb", "claims_ledger", "figures"]
nb_execution_mode = "off"
suppress_warnings = ["mystnb.unknown_mime_type"]
exclude_patterns = ["_build"]
"""
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


def build(folder, *outputs):
    """Build a book of one notebook and a ledger, as the real one is built: warnings fail."""
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(
        "# Ledger\n\n```{toctree}\nnotebooks/one\n```\n\n```{claims-ledger}\n```\n"
    )
    (folder / "notebooks").mkdir()
    cells = [new_markdown_cell("# A chapter"), new_code_cell("1", outputs=list(outputs))]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), folder / "notebooks" / "one.ipynb")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", folder, folder / "_build"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
