"""The built site (`make book`): whole, and sufficient to itself."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
CLAIM = "application/vnd.gptlib.claim+json"
# What a browser fetches by itself; a link in the text may lead anywhere.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
NOT_FETCHED = {"canonical", "index", "search", "next", "prev", "author", "copyright"}  # <link rel=...>


@pytest.fixture(autouse=True, scope="module")
def site():
    assert SITE.is_dir(), "there is no site to test: run `make book` first"


@dataclass
class Page(HTMLParser):
    """What one page fetches, links to, names and shows."""

    path: Path
    fetched: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    images: list[dict] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.text = self.path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "img":
            self.images.append(attrs)
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if (url := attrs.get(FETCHED.get(tag))) and attrs.get("rel") not in NOT_FETCHED:
            self.fetched.append(url)


@cache
def page(path):
    return Page(path)


def toc():
    """The documents in _toc.yml, as paths without an ending."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [contents["root"], *chapters]


@pytest.fixture(params=toc())
def built(request):
    return page(SITE / f"{request.param}.html")


def test_the_page_fetches_nothing_from_another_host(built):
    assert not [url for url in built.fetched if urlsplit(url).netloc]


def test_what_the_page_fetches_is_there(built):
    paths = [urlsplit(url).path for url in built.fetched if not url.startswith("data:")]
    assert paths
    assert not [path for path in paths if not (built.path.parent / unquote(path)).is_file()]


def test_links_within_the_site_lead_somewhere(built):
    for link in built.links:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (built.path.parent / unquote(url.path)).resolve() if url.path else built.path
        target = target / "index.html" if target.is_dir() else target
        assert target.is_file(), link
        if url.fragment:
            assert unquote(url.fragment) in page(target).anchors, link


def test_images_have_alternative_text(built):
    assert not [image["src"] for image in built.images if not image.get("alt")]


def test_figures_keep_the_text_they_were_shown_with():
    for name in toc():
        if not (notebook := ROOT / f"{name}.ipynb").is_file():
            continue
        shown = {image.get("alt") for image in page(SITE / f"{name}.html").images}
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if image := output.get("metadata", {}).get("image/png"):
                    assert image["alt"] in shown


def widgets(name):
    """The states of the widgets that a notebook's page holds, those of our own making alone."""
    text = page(SITE / "notebooks" / f"{name}.html").text
    [state] = re.findall(
        r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', text, re.DOTALL
    )
    states = [model["state"] for model in json.loads(state)["state"].values()]
    return [state for state in states if "_esm" in state]


def test_a_page_with_a_widget_holds_all_that_the_widget_needs():
    [explorer] = widgets("03_scaling_laws")
    assert set(explorer["constants"]) == {"E", "A", "B", "alpha", "beta"} and len(explorer["runs"]) > 40
    [slider] = widgets("04_in_context_learning")
    assert len(slider["predictions"]) == len(slider["names"]) >= 4
    for by_prompt in slider["predictions"]:
        assert [len(by_shots) for by_shots in by_prompt] == [16] * len(slider["prompts"])
    [steps] = widgets("06_chain_of_thought")
    assert len(steps["problems"]) >= 4 and all(problem["runs"] for problem in steps["problems"])
    assert all(widget["_esm"] and widget["_anywidget_id"] for widget in (explorer, slider, steps))
    assert (SITE / "_static" / "vendor" / "anywidget.js").is_file()


def test_the_ledger_links_to_every_claim():
    ledger = page(SITE / "book" / "claims.html")
    claims = [
        (name, output["data"][CLAIM]["id"])
        for name in toc()
        if (notebook := ROOT / f"{name}.ipynb").is_file()
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if CLAIM in output.get("data", {})
    ]
    assert claims
    assert not [id for name, id in claims if f"../{name}.html#claim-{id}" not in ledger.links]


def test_chapters_open_on_colab():
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    opener = repository["url"].replace("https://github.com/", "https://colab.research.google.com/github/")
    for name in toc():
        if (ROOT / f"{name}.ipynb").is_file():
            assert f"{opener}/blob/{repository['branch']}/{name}.ipynb" in page(SITE / f"{name}.html").links


def test_the_root_leads_to_the_book():
    assert "book/intro.html" in page(SITE / "index.html").text
