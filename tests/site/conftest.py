"""The built site behind a web server, and a browser to visit it with."""

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from built import SITE
from chromium import launch
from playwright.sync_api import sync_playwright

FOLDER = "/some/folder/"  # the site must work from any folder of a host, not from its root alone


class Handler(SimpleHTTPRequestHandler):
    """Serve the site under FOLDER, and nothing elsewhere."""

    def translate_path(self, path):
        inside = path.removeprefix(FOLDER)
        return super().translate_path("/" + (inside if inside != path else "not-in-the-folder"))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site_url():
    """The address of the built site, with a slash at its end."""
    assert (SITE / "index.html").is_file(), "there is no site to test: run `make book` first"
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(*args, directory=SITE))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{FOLDER}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()
