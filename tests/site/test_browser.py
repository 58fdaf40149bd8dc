"""Every page of the built site in a browser: it asks no other host, throws nothing, can be used by all."""

import json
import re
from dataclasses import dataclass, field

import pytest
from built import ROOT, toc
from playwright.sync_api import Page

AXE = ROOT / "book" / "vendor" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / "_build" / "screenshots"
MEGABYTE = 1_000_000
WIDE, NARROW = 1280, 375
TALLEST = 60_000  # pixels of a screenshot; a JPEG has room for 65,535
# Every picture, a lazy one too, and every equation and widget stands before we look.
SETTLED = """async () => {
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
}"""
# What reaches out of the window, and no box around it scrolls.
OUTSIDE = """() => {
  const inside = (element) => element.getBoundingClientRect().right <= innerWidth + 1;
  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX) && inside(element);
  const boxed = (element) => element && (scrolls(element) || boxed(element.parentElement));
  const found = [...document.querySelectorAll("main :is(table, pre, img, svg, mjx-container, h1, h2, h3, p)")]
    .filter((element) => !inside(element) && !boxed(element)).map(({ outerHTML }) => outerHTML.slice(0, 90));
  return document.documentElement.scrollWidth > innerWidth ? ["the page", ...found] : found;
}"""
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
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
EQUATION = re.compile(r"\$\S.*?\$")
# Chapters with widgets that run without a kernel.
ALIVE = {
    f"notebooks/{name}"
    for name in ("03_scaling_laws", "04_in_context_learning", "06_chain_of_thought", "07_alignment")
}


@pytest.fixture(scope="module", params=(*PAGES, "genindex", "search"), ids=lambda name: f"<{name}>")
def visit(request, browser, site_url):
    """One page after the other, loaded once for all tests of it, in a window that then grows."""
    context = browser.new_context(viewport={"width": NARROW, "height": 800}, color_scheme="light")
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
    assert written or name not in PAGES or not EQUATION.search(CODE.sub("", source(name)))
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


def test_widgets_stand_and_react(visit, name):
    widgets = visit.page.locator(".widget").all()
    assert widgets or name not in ALIVE
    for widget in widgets:
        control = widget.locator("input[type=range], select, button").first
        control.press("Home")
        before = widget.inner_html()
        if control.evaluate("({ localName }) => localName") == "select":
            control.select_option(index=control.locator("option").count() - 1)
        else:
            control.press("End")
            control.press("Enter")
        assert widget.inner_html() != before


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_page_can_be_used_by_all(visit, name, width, mode):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("mode => Object.assign(document.documentElement.dataset, { mode, theme: mode })", mode)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.documentElement.scrollHeight")
    cut = dict(clip=dict(x=0, y=0, width=width, height=TALLEST)) if height > TALLEST else {}
    picture = page.screenshot(
        path=SCREENSHOTS / f"{name.replace('/', '-')}-{width}-{mode}.jpg",
        full_page=True,
        animations="disabled",
        **cut,
    )
    assert picture
    assert not page.evaluate(OUTSIDE)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert not page.evaluate(VIOLATIONS)


@pytest.mark.parametrize("width", [768, 1000, 1199, 1200])  # where the theme's sidebars come and go
def test_nothing_reaches_out_of_a_window_between_the_two(visit, width):
    visit.page.set_viewport_size({"width": width, "height": 800})
    assert not visit.page.evaluate(OUTSIDE)


def test_text_can_be_read_from_afar(visit):
    visit.page.set_viewport_size({"width": WIDE, "height": 800})
    sizes = visit.page.locator("main article > section > p:not([class])").evaluate_all(
        "paragraphs => paragraphs.map((p) => parseFloat(getComputedStyle(p).fontSize))"
    )
    assert min(sizes, default=17) >= 17


# A word that stands in one chapter more than elsewhere.
WORDS = {
    "01_babygpt": "bigram",
    "02_pretrain_finetune": "entailment",
    "03_scaling_laws": "compute-optimal",
    "04_in_context_learning": "induction",
    "05_emergence": "emergent",
    "06_chain_of_thought": "scratchpad",
    "07_alignment": "preferences",
}


@pytest.mark.parametrize(("chapter", "word"), WORDS.items())
def test_search_finds_a_word_of_each_chapter(browser, site_url, chapter, word):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{site_url}book/intro.html")
        page.keyboard.press("Control+k")
        page.keyboard.type(word)
        page.keyboard.press("Enter")
        page.locator(f"#search-results a[href*='{chapter}']").first.wait_for()


def test_a_click_turns_the_page_dark_and_it_stays_so(browser, site_url):
    with browser.new_context(color_scheme="light") as context:
        page = context.new_page()
        page.goto(f"{site_url}book/intro.html")
        button = page.locator(".theme-switch-button:visible")
        while page.evaluate("document.documentElement.dataset.mode") != "dark":
            button.click()
        page.goto(f"{site_url}book/claims.html")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_click_copies_code(browser, site_url):
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(f"{site_url}notebooks/01_babygpt.html")
        code = page.locator("div.cell_input pre").first
        code.hover()
        page.locator("button.copybtn").first.click()
        assert page.evaluate("navigator.clipboard.readText()").strip() == code.inner_text().strip()
