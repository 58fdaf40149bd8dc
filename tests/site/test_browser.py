"""Every page of the built site in a real browser: it asks no other host, throws nothing, and can be used."""

import json
import re
from dataclasses import dataclass, field

import pytest
from built import ROOT, toc
from playwright.sync_api import Page, expect

AXE = ROOT / "book" / "vendor" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / "_build" / "screenshots"
MEGABYTE = 1_000_000
WIDE, NARROW = 1280, 375
# Every picture, a lazy one too, and every equation and widget stands before we look.
SETTLED = """async () => {
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
}"""
# Boxes wider than the window that nothing around them scrolls.
TOO_WIDE = """() => document.documentElement.scrollWidth > innerWidth ? [...document.querySelectorAll("main *")]
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 90)) : []"""
VIOLATIONS = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .map(({ id, nodes }) => [id, nodes.length, nodes.slice(0, 4).map(({ html, failureSummary }) =>
    html.slice(0, 160) + " | " + failureSummary.split("\\n").slice(1, 3).join(" "))])"""


@dataclass
class Visit:
    """A page that stands open, and what happened while it loaded."""

    page: Page
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    transferred: int = 0


def visit_of(page: Page, url: str) -> Visit:
    """Open a page, wait until all of it stands, and keep what was asked for and what went wrong."""
    visit = Visit(page)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("requestfailed", lambda request: visit.failures.append(request.url))
    page.on("response", lambda answer: answer.ok or visit.failures.append(f"{answer.status} {answer.url}"))
    page.on("console", lambda message: message.type == "error" and visit.errors.append(message.text))
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")

    def count(event):
        visit.transferred += event["encodedDataLength"]

    network.on("Network.loadingFinished", count)
    page.goto(url, wait_until="load")
    page.evaluate(SETTLED)
    page.wait_for_load_state("networkidle")
    return visit


def source(name: str) -> str:
    """Return the Markdown of a page."""
    path = ROOT / f"{name}.ipynb"
    if not path.is_file():
        return (ROOT / f"{name}.md").read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


PAGES = toc()


@pytest.fixture(scope="module", params=[*PAGES, "genindex", "search"])
def visit(request, browser, site_url):
    """One page after the other, loaded once for all tests of it."""
    context = browser.new_context(viewport={"width": WIDE, "height": 800}, color_scheme="light")
    yield visit_of(context.new_page(), f"{site_url}{request.param}.html")
    context.close()


@pytest.fixture
def name(visit, site_url):
    return visit.page.url.removeprefix(site_url).removesuffix(".html")


def test_the_page_asks_no_other_host(visit, site_url):
    assert not [url for url in visit.requests if not url.startswith((site_url, "data:", "blob:"))]


def test_the_page_throws_nothing_and_misses_nothing(visit):
    assert not visit.failures
    assert not visit.errors


def test_the_page_leaves_no_cookie(visit):
    assert visit.page.evaluate("document.cookie") == ""


def test_the_page_is_light_before_a_click(visit):
    assert visit.transferred < 1.5 * MEGABYTE


def test_equations_are_typeset(visit, name):
    page = visit.page
    written = page.locator(".math").count()
    assert written == page.locator(".math mjx-container").count()
    if name in PAGES and re.search(r"\$\S.*?\$", re.sub(r"```.*?```|`[^`]*`", "", source(name), flags=re.DOTALL)):
        assert written
    assert not page.locator("mjx-merror").count()


def test_pictures_show_and_have_alternative_text(visit):
    images = visit.page.locator("main img").evaluate_all(
        "images => images.map(({ src, alt, naturalWidth }) => [src, alt, naturalWidth])"
    )
    assert not [src for src, alt, width in images if not (alt and width)]


def test_code_can_be_copied(visit):
    page = visit.page
    assert page.locator("button.copybtn").count() == page.locator("div.highlight pre").count()


def test_the_page_leads_on(visit, name):
    if name not in PAGES:
        return
    place = PAGES.index(name)
    for way, step in (("left-prev", -1), ("right-next", 1)):
        link = visit.page.locator(f"a.{way}")
        if 0 <= place + step < len(PAGES):
            assert link.evaluate("({ href }) => href").endswith(f"/{PAGES[place + step]}.html")
        else:
            assert not link.count()


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_page_can_be_used_by_all(visit, name, width, mode):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("mode => Object.assign(document.documentElement.dataset, { mode, theme: mode })", mode)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(
        path=SCREENSHOTS / f"{name.replace('/', '-')}-{width}-{mode}.png", full_page=True, animations="disabled"
    )
    assert not page.evaluate(TOO_WIDE)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert not page.evaluate(VIOLATIONS)
