"""Papers: each one named is cited, each in references.bib is of use, and the bibliography lists them."""

import csv
import json
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from built import ROOT, SITE, toc
from pybtex.database import parse_file

BIBLIOGRAPHY = ROOT / "book" / "references.bib"
CITED = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
NAME = r"([A-Z][\w’-]+)"
YEAR = r"((?:19|20)\d\d)\b"
MANNERS = [  # in which a paper is named: surname, year
    rf"{NAME} et al\.(?:,? \(?{YEAR})?",
    rf"{NAME} and [A-Z][\w’-]+,? \(?{YEAR}",
    rf"(?<!and ){NAME} \({YEAR}",
    rf"\({NAME} {YEAR}",
]
NO_SURNAMES = {"March", "GPT-2"}


def plain(name: str) -> str:
    """Reduce a surname to small letters without accents, however LaTeX or Unicode writes them."""
    name = unicodedata.normalize("NFKD", re.sub(r"""\\["'^`~]|[{}]""", "", name))
    return "".join(letter for letter in name.lower() if letter.isalpha() and ord(letter) < 128)


@cache
def papers() -> dict[str, tuple[str, str]]:
    """Return each key's first surname, with its "von", and year."""
    found = {}
    for key, entry in parse_file(BIBLIOGRAPHY).entries.items():
        person = entry.persons["author"][0]
        surname = "".join(person.prelast_names + person.last_names)
        found[key] = plain(surname), entry.fields.get("year", "")
    return found


def named(text: str) -> set[tuple[str, str]]:
    """Return the surnames, and years where there are any, of the papers that a text names."""
    text = re.sub(r"\s+", " ", text)
    pairs = [pair for manner in MANNERS for pair in re.findall(manner, text)]
    return {(plain(name), year) for name, year in pairs if name not in NO_SURNAMES}


def matches(paper: tuple[str, str], key: str) -> bool:
    """Say whether a key is that of a paper named; "Oswald et al." is von Oswald's too."""
    surname, year = papers()[key]
    return surname.endswith(paper[0]) and paper[1] in year


def sources(name: str) -> tuple[str, str]:
    """Return the prose of a document, and all of it: a claim's source in a cell names papers too."""
    if (path := ROOT / f"{name}.md").is_file():
        text = path.read_text(encoding="utf-8")
        return text, text
    cells = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    code = [re.sub(r'"\s*"', "", "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(prose), "\n".join(prose + code)


def cited(name: str) -> set[str]:
    """Return the keys that a document cites."""
    return {key.strip() for keys in CITED.findall(sources(name)[0]) for key in keys.split(",")}


def test_names_are_found_in_every_manner():
    text = "Garg et al. saw, Zhang and Sennrich (2019), Shannon (1948), (Karpathy 2015), Brown et\nal. 2020, "
    found = {("garg", ""), ("zhang", "2019"), ("shannon", "1948"), ("karpathy", "2015"), ("brown", "2020")}
    assert named(text + "in March (2023)") == found


@pytest.mark.parametrize("name", toc())
def test_a_paper_that_a_page_names_it_cites(name):
    keys = cited(name)
    missing = [paper for paper in named(sources(name)[1]) if not any(matches(paper, key) for key in keys)]
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "gptlib").rglob("*.py")), ids=lambda path: path.name)
def test_a_paper_that_the_package_names_is_in_the_bibliography(path: Path):
    text = path.read_text(encoding="utf-8")
    missing = [paper for paper in named(text) if not any(matches(paper, key) for key in papers())]
    assert not missing


def test_every_entry_is_of_use():
    used = set().union(*map(cited, toc()))
    with (ROOT / "book" / "models.csv").open(encoding="utf-8") as file:
        used |= {word for row in csv.DictReader(file) for value in row.values() for word in value.split()}
    package = [path.read_text(encoding="utf-8") for path in (ROOT / "gptlib").rglob("*.py")]
    followed = set().union(*map(named, package))
    unused = papers().keys() - used
    assert not [key for key in unused if not any(matches(paper, key) for paper in followed)]


def test_the_bibliography_lists_every_entry():
    page = (SITE / "book" / "bibliography.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<div class="citation"', page)) == len(papers())
