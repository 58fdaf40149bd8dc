"""Sphinx: serve every script from the site itself.

By default the pages fetch MathJax and Jupyter's widget manager from other hosts. MathJax is copied into
the site from book/vendor/node_modules, where `make vendor` puts it. Widgets run without the manager.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ConfigError

NODE_MODULES = Path(__file__).parents[1] / "vendor" / "node_modules"
FONTS = "@fontsource-variable/noto-sans/files/noto-sans-latin-wght"
COPIED = {
    f"{FONTS}-normal.woff2": "noto-sans-normal.woff2",
    f"{FONTS}-italic.woff2": "noto-sans-italic.woff2",
    "mathjax/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort/ort-wasm-simd-threaded.wasm",
}


def configure(app: Sphinx, config) -> None:
    """Point Sphinx and MyST-NB at the copies."""
    if not NODE_MODULES.is_dir():
        raise ConfigError(f"{NODE_MODULES} is missing: build the book with `make book`, which fetches it")
    config.mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
    config.nb_ipywidgets_js = {"widgets.js": {"defer": "defer"}}


def copy(app: Sphinx, error: Exception | None) -> None:
    """Copy the scripts into the built site."""
    if error or app.builder.format != "html":
        return
    vendor = Path(app.outdir) / "_static" / "vendor"
    for source, target in COPIED.items():
        (vendor / target).parent.mkdir(parents=True, exist_ok=True)
        if (NODE_MODULES / source).is_dir():
            shutil.copytree(NODE_MODULES / source, vendor / target, dirs_exist_ok=True)
        else:
            shutil.copyfile(NODE_MODULES / source, vendor / target)


def drop(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Leave out what the theme adds to every page and nothing here uses.

    That is the scripts for live code, and buttons with a script in an attribute: the policy forbids these.
    """
    if "script_files" in context:
        context["script_files"] = [
            script
            for script in context["script_files"]
            if "thebe" not in f"{script.filename} {script.attributes.get('body')}"
        ]
    buttons = context.get("header_buttons", [])
    for group in (buttons, *(button.get("buttons", []) for button in buttons)):
        group[:] = [button for button in group if button["type"] != "javascript"]


def setup(app: Sphinx) -> dict:
    """Register the three hooks."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", drop, priority=900)
    app.connect("build-finished", copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
