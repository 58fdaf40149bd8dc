"""Sphinx: BabyGPT in the page. The model in book/demo is exported to ONNX, and served with the page."""

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path

from docutils import nodes
from offline import COPIED, NODE_MODULES
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from gptlib.checkpoints import set_weights, unpack
from gptlib.model import GPT, GPTConfig

DEMO = Path(__file__).parents[1] / "demo"
GPTLIB = Path(__file__).parents[2] / "gptlib"
PAGE = "book/babygpt"
SERVED = ("babygpt.js", "model.js", "bpe.js", "sampling.js", "babygpt.css", "tokenizer.json")
# What the exported file depends on.
INPUTS = [DEMO / name for name in ("babygpt.safetensors.xz", "about.json")]
INPUTS += [GPTLIB / f"{name}.py" for name in ("onnx_export", "checkpoints", "model", "layers")]
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
logger = logging.getLogger(__name__)


def about() -> dict:
    """Return what is known about the trained model."""
    return json.loads((DEMO / "about.json").read_text(encoding="utf-8"))


def load() -> GPT:
    """Return the trained model that is kept in book/demo."""
    model = GPT(GPTConfig(**about()["config"]))
    set_weights(model, unpack((DEMO / "babygpt.safetensors.xz").read_bytes()))
    return model.eval()


def facts(app: Sphinx, config) -> None:
    """Let pages write {{ babygpt.params }} and the like."""
    known = about()
    config.myst_substitutions = {
        **config.myst_substitutions,
        "babygpt": {
            "params": f"{known['params']:,}",
            "characters": f"{known['characters'] / 1e6:.1f}",
            "tokens": f"{known['tokens'] / 1e6:.1f}",
            "vocabulary": f"{known['config']['vocab_size']:,}",
            "loss": f"{known['validation_loss']:.2f}",
            "bits": f"{known['validation_bits_per_character']:.2f}",
        },
    }


def exported(app: Sphinx) -> Path:
    """Return where the exported model lies, under a name that changes with all that it depends on."""
    digest = hashlib.sha256("".join(map(importlib.metadata.version, PACKAGES)).encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return Path(app.outdir).parent / "demo" / f"{digest.hexdigest()[:16]}.onnx"


def export(app: Sphinx) -> None:
    """Export the model, if it is not there yet. The build stops if it computes other numbers than PyTorch."""
    path = exported(app)
    if app.builder.format != "html" or path.is_file():
        return
    from gptlib.onnx_export import export_onnx  # takes seconds to import, and is needed once

    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    try:
        difference = export_onnx(load(), path)
    except ValueError as error:
        raise ExtensionError(f"BabyGPT cannot be put into its page: {error}") from error
    logger.info("BabyGPT was exported; it differs from PyTorch by at most %.1e", difference)


class BabyGPT(SphinxDirective):
    """The playground: its HTML, with the bytes that are loaded on the click."""

    def run(self) -> list[nodes.Node]:
        """Fill the template in; read the page again when it or the model changes."""
        template = DEMO / "babygpt.html"
        for path in (template, DEMO / "tokenizer.json", *INPUTS):
            self.env.note_dependency(str(path))
        wasm = next(NODE_MODULES / source for source in COPIED if source.endswith(".wasm"))
        size = sum(path.stat().st_size for path in (wasm, exported(self.env.app), DEMO / "tokenizer.json"))
        html = template.read_text(encoding="utf-8")
        html = html.replace("{bytes}", str(size)).replace("{megabytes}", f"{size / 1e6:.0f}")
        return [nodes.raw("", html, format="html")]


def add_files(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Give the page, and no other, its script and its style."""
    if pagename == PAGE:
        app.add_js_file("demo/babygpt.js", type="module")
        app.add_css_file("demo/babygpt.css")


def copy(app: Sphinx, error: Exception | None) -> None:
    """Copy the model and the scripts into the built site."""
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "demo"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(exported(app), target / "babygpt.onnx")
    for name in SERVED:
        shutil.copyfile(DEMO / name, target / name)


def setup(app: Sphinx) -> dict:
    """Register the directive and the hooks."""
    app.add_directive("babygpt", BabyGPT)
    app.connect("config-inited", facts)
    app.connect("builder-inited", export)
    app.connect("html-page-context", add_files)
    app.connect("build-finished", copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
