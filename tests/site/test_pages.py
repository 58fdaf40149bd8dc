"""The built site (`make book`), read as HTML: links, figures' texts, claims, Colab."""

import json
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from built import ROOT, SITE, toc

CLAIM = "application/vnd.gptlib.claim+json"


@dataclass
class Page(HTMLParser):
    """What one page links to, names and shows."""

    path: Path
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


@cache
def page(path):
    return Page(path)


@pytest.fixture(params=toc())
def built(request):
    return page(SITE / f"{request.param}.html")


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


def test_figures_keep_the_text_they_were_shown_with():
    for name in toc():
        if not (notebook := ROOT / f"{name}.ipynb").is_file():
            continue
        shown = {image.get("alt") for image in page(SITE / f"{name}.html").images}
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if image := output.get("metadata", {}).get("image/png"):
                    assert image["alt"] in shown


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
