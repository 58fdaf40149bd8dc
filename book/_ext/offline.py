"""Sphinx: serve every script from the site itself.

By default the pages fetch MathJax, require.js and the widget manager from other hosts. Here they
are copied into the site from book/vendor/node_modules, where `make vendor` puts them.
"""

import shutil
from pathlib import Path

import anywidget
from sphinx.application import Sphinx
from sphinx.errors import ConfigError

NODE_MODULES = Path(__file__).parents[1] / "vendor" / "node_modules"
WIDGETS = NODE_MODULES / "@jupyter-widgets" / "html-manager" / "dist"
COPIED = {
    "mathjax/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
    "requirejs/require.js": "require.js",
    "@jupyter-widgets/html-manager/dist/embed-amd.js": "embed-amd.js",
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort/ort-wasm-simd-threaded.wasm",
}
# require.js must find the widget manager here. ipywidgets' controls still call MathJax by the name of
# its second version, which the third drops while it loads, that is before this event.
WIDGET_PATHS = """\
const here = new URL(".", document.currentScript.src).href;
requirejs.config({
  paths: { "@jupyter-widgets/html-manager/dist": here.replace(/\\/$/, ""), anywidget: here + "anywidget" },
});
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax) return;
  const Queue = ([, , element]) => MathJax.typesetPromise([element]);
  MathJax.Hub = { Queue, Config() {}, Configured() {} };
});
"""


def configure(app: Sphinx, config) -> None:
    """Point Sphinx and MyST-NB at the copies."""
    if not NODE_MODULES.is_dir():
        raise ConfigError(f"{NODE_MODULES} is missing: build the book with `make book`, which fetches it")
    config.mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
    config.nb_ipywidgets_js = {
        f"vendor/{name}": {} for name in ("require.js", "widget-paths.js", "embed-amd.js")
    }


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
    shutil.copyfile(Path(anywidget.__file__).parent / "nbextension" / "index.js", vendor / "anywidget.js")
    for font in WIDGETS.glob("*.woff2"):  # the icons on the widgets' buttons
        shutil.copyfile(font, vendor / font.name)
    (vendor / "widget-paths.js").write_text(WIDGET_PATHS, encoding="utf-8")


def drop_thebe(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Leave out the live-code scripts that the theme adds to every page and that nothing here uses."""
    if "script_files" in context:
        context["script_files"] = [
            script
            for script in context["script_files"]
            if "thebe" not in f"{script.filename} {script.attributes.get('body')}"
        ]


def setup(app: Sphinx) -> dict:
    """Register the three hooks."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
