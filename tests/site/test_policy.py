"""The Content-Security-Policy of the built pages: it lets the site itself work, and nothing else."""

import pytest
from built import SITE
from policy import META, inline, policy

PAGE = "<html><head>{}</head><body>{}</body></html>"
WORK = "document.title += ' worked';"


@pytest.fixture
def page(browser):
    with browser.new_context() as context:
        yield context.new_page()


LISTEN = """window.blocked = [];
addEventListener("securitypolicyviolation", ({ effectiveDirective }) => blocked.push(effectiveDirective));"""
# The browser tells of a violation a moment later, so this asks again, for five seconds at the most.
FORBIDDEN = """(wanted) => new Promise((done) => {
  const end = performance.now() + 5000;
  const missing = () => wanted.filter((one) => !blocked.includes(one));
  const look = () => !missing().length || performance.now() > end ? done(missing()) : setTimeout(look, 10);
  look();
})"""


def test_a_page_runs_its_own_scripts_and_not_those_slipped_in(page, tmp_path):
    own = PAGE.format("", f"<script>{WORK}</script>")
    meta = META.format(policy(own))
    (tmp_path / "page.html").write_text(
        PAGE.format(meta, f'<script>{WORK}</script><script>{WORK} </script><p onclick="{WORK}">x</p>')
    )
    page.add_init_script(LISTEN)
    page.goto((tmp_path / "page.html").as_uri())
    page.click("p")
    assert not page.evaluate(FORBIDDEN, ["script-src-elem", "script-src-attr"])
    assert page.title() == "worked"


@pytest.mark.parametrize("name", ["book/intro", "book/babygpt", "notebooks/04_in_context_learning"])
def test_what_is_slipped_into_a_page_is_blocked(page, site_url, name):
    def slip(route):
        answer = route.fetch()
        inserted = f'<script>{WORK}</script><script src="https://elsewhere.test/a.js"></script>'
        inserted += '<img src="https://elsewhere.test/a.png" alt=""></body>'
        route.fulfill(response=answer, body=answer.text().replace("</body>", inserted))

    refused = {}
    page.add_init_script(LISTEN)
    page.on("requestfailed", lambda request: refused.update({request.url: request.failure}))
    page.route(f"{site_url}{name}.html", slip)
    page.goto(f"{site_url}{name}.html")
    page.evaluate("() => fetch('https://elsewhere.test/').catch(() => {})")
    assert not page.evaluate(FORBIDDEN, ["script-src-elem", "img-src", "connect-src"])
    assert not page.title().endswith("worked")
    assert set(refused.values()) == {"csp"} and len(refused) >= 2


def test_every_page_has_a_policy_that_names_its_scripts():
    for path in SITE.rglob("*.html"):
        if "_static" in path.parts or path == SITE / "index.html":
            continue
        html = path.read_text(encoding="utf-8")
        assert html.count('http-equiv="Content-Security-Policy"') == 1, path
        assert " onclick=" not in html and " onload=" not in html, path
        assert "'unsafe-inline'" not in html.partition("script-src")[2].partition('"')[0], path
        assert inline(html)


def test_equations_and_widgets_work_from_the_file_system(browser):
    with browser.new_context(offline=True) as context:
        page, errors = context.new_page(), []
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("03_scaling_laws", "04_in_context_learning", "06_chain_of_thought"):
            page.goto((SITE / "notebooks" / f"{name}.html").as_uri())
            page.locator(".math mjx-container").first.wait_for()
            page.locator(".widget input[type=range]").first.wait_for()
        assert not errors
