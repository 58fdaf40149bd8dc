"""Find a Chromium for the browser tests, or install one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # nothing but the page speaks to the network
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WANTED = (
    "the browser tests need Chromium: install it (on Debian and Ubuntu: apt install chromium), "
    "or name one in the environment: CHROMIUM=/path/to/chromium"
)


def find(own: Path) -> str | None:
    """Return the path of a Chromium: the one in CHROMIUM, one on the PATH, or playwright's `own`."""
    if named := os.environ.get("CHROMIUM"):
        return named
    on_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    return on_path or (str(own) if own.is_file() else None)


def install() -> None:
    """Install Chromium with apt where we are root and have it, otherwise with playwright."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update"], check=False)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "chromium"], check=False)
    if not any(map(shutil.which, NAMES)):
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def launch(playwright: Playwright) -> Browser:
    """Start Chromium without a window. Raises FileNotFoundError when there is none and none can be had."""
    own = Path(playwright.chromium.executable_path)
    if not find(own):
        install()
    if not (path := find(own)):
        raise FileNotFoundError(WANTED)
    return playwright.chromium.launch(executable_path=path, args=list(QUIET))
