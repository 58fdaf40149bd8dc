"""Sphinx: give every page a Content-Security-Policy that allows the site itself and nothing else.

A policy in the page holds on any static host, and from the file system. Scripts that stand in a page
run because it names their SHA-256, so a script that someone slips in does not.
"""

import base64
import hashlib
import re
from pathlib import Path

from sphinx.application import Sphinx

WASM = ("book/babygpt.html",)  # these compile WebAssembly
WIDGET = "application/vnd.jupyter.widget-state+json"  # a page with widgets holds their scripts as texts
DATA = ("json", "thebe", "template")  # script elements that no browser runs
SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL)
CHARSET = '<meta charset="utf-8" />'  # stays first: a browser looks for it in the first kilobyte
META = '<meta http-equiv="Content-Security-Policy" content="{}" />'
POLICY = {
    "default-src": "'none'",
    "style-src": "'self' 'unsafe-inline'",  # MathJax and the theme write style attributes
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "base-uri": "'self'",
    "form-action": "'self'",
    "object-src": "'none'",
}


def inline(html: str) -> list[str]:
    """Return the scripts that stand in a page's HTML and that a browser would run."""
    return [
        body
        for attributes, body in SCRIPT.findall(html)
        if " src=" not in attributes and not any(kind in attributes for kind in DATA)
    ]


def policy(html: str, wasm: bool = False) -> str:
    """Return the policy of a page from its HTML; `wasm` allows it to compile WebAssembly."""
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline(html)}
    scripts = ["'self'", *(f"'sha256-{digest}'" for digest in sorted(digests))]
    scripts += ["blob:"] if WIDGET in html else []
    scripts += ["'wasm-unsafe-eval'"] if wasm else []
    return "; ".join(f"{name} {value}" for name, value in {**POLICY, "script-src": " ".join(scripts)}.items())


def write(app: Sphinx, error: Exception | None) -> None:
    """Write its policy into each page that was built, instead of the one it may have."""
    if error or app.builder.format != "html":
        return
    present = re.compile(re.escape(META).replace(r"\{\}", '[^"]*') + "\n")
    out = Path(app.outdir)
    for path in out.rglob("*.html"):
        html = present.sub("", path.read_text(encoding="utf-8"))
        meta = META.format(policy(html, wasm=path.relative_to(out).as_posix() in WASM))
        path.write_text(html.replace(CHARSET, f"{CHARSET}\n{meta}", 1), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Register the hook."""
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
