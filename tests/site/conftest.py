"""The built site behind a web server, and a browser to visit it with."""

import gzip
from functools import cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from built import SITE
from chromium import launch
from playwright.sync_api import sync_playwright

FOLDER = "/some/folder/"  # the site must work from any folder of a host, not from its root alone
TEXTS = {".html", ".js", ".mjs", ".css", ".svg", ".json", ".csv", ".wasm"}  # what static hosts compress


@cache
def compressed(path: Path, changed: float) -> bytes:
    """Return a file as a static host sends it; `changed` tells its versions apart."""
    return gzip.compress(path.read_bytes(), 6)


class Handler(SimpleHTTPRequestHandler):
    """Serve the site under FOLDER as a static host does, and nothing elsewhere."""

    def translate_path(self, path):
        inside = path.removeprefix(FOLDER)
        return super().translate_path("/" + (inside if inside != path else "not-in-the-folder"))

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in TEXTS or not path.is_file():
            return super().do_GET()
        body = compressed(path, path.stat().st_mtime)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
