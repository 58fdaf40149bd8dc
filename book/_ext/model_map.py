"""Sphinx: the map of language models, from book/models.csv.

The directive `model-map` puts in the controls, a figure or the table; the role `model-number` writes a
number that was computed from the table, so that no prose can disagree with it.
"""

from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from model_data import Model, numbers, plain, power, read_models, si
from model_figures import FIGURES, WORDS, draw, mark
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

TABLE = Path(__file__).parents[1] / "models.csv"
HEADS = (  # a column's head, and what it holds
    ("Model", "text"),
    ("Organisation", "text"),
    ("Date", "text"),
    ("Openness", "text"),
    ("Parameters", "number"),
    ("Active", "number"),
    ("Tokens", "number"),
    ("Tokens / parameter", "number"),
    ("6ND", "number"),
    ("Published", "number"),
    ("Published / 6ND", "number"),
    ("Source", "links"),
)
ITEMS = "".join(f"<li>{mark(name)}{words}</li>" for name, words in WORDS.items())
LEGEND = f'<ul class="map-legend">{ITEMS}</ul>'
CONTROLS = """
<form class="map-controls" hidden>
<fieldset><legend>Openness, at release</legend>{boxes}</fieldset>
<label>Organisation <input type="search" name="organisation" placeholder="any" autocomplete="off"></label>
<label>From <input type="number" name="first" min="{first}" max="{last}" value="{first}"></label>
<label>to <input type="number" name="last" min="{first}" max="{last}" value="{last}"></label>
<button type="button">Reset</button>
<p role="status"></p>
</form>
"""


def load(env: BuildEnvironment) -> tuple[Model, ...]:
    """Read the table; the page that asks is built again when it changes."""
    env.note_dependency(str(TABLE))
    return read_models(TABLE, TABLE.stat().st_mtime)


class ModelMap(SphinxDirective):
    """`controls`, `table`, or a figure: `size`, `ratio`, `compute`. A figure's content is its caption."""

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012, docutils wants it on the class

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the part that was asked for."""
        self.env.metadata[self.env.docname]["model-map"] = True
        models, part = load(self.env), self.arguments[0]
        if part == "controls":
            return [_raw(_controls(models))]
        if part == "table":
            return self._table(models)
        if part not in FIGURES or "alt" not in self.options:
            raise self.error("model-map: say controls, table, or a figure and its alt: " + ", ".join(FIGURES))
        caption = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, caption)
        svg = draw(part, models, self.options["alt"])
        opening = f'<figure class="map-figure" id="map-{part}">{svg}{LEGEND}<div class="map-detail"></div>'
        return [_raw(f"{opening}<figcaption>"), *caption.children, _raw("</figcaption></figure>")]

    def _table(self, models: tuple[Model, ...]) -> list[nodes.Node]:
        heads = "".join(f'<th scope="col" data-kind="{kind}">{head}</th>' for head, kind in HEADS)
        found = [
            _raw(
                '<div class="map-table" role="region" aria-label="Table of all models" tabindex="0">'
                f'<table class="models"><thead><tr>{heads}</tr></thead><tbody>'
            )
        ]
        for index, model in enumerate(models):
            cites, _ = self.state.inline_text(f"{{cite}}`{','.join(model.sources)}`", self.lineno)
            found += [_raw(_row(index, model)), nodes.inline("", "", *cites), _raw("</td></tr>")]
        return [*found, _raw("</tbody></table></div>")]


class ModelNumber(SphinxRole):
    """A number of the table, by its name in `model_data.numbers`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return it as text, or a problem where there is no such name."""
        found = numbers(load(self.env))
        if self.text not in found:
            message = self.inliner.reporter.error(f"model-number: no number is named {self.text!r}")
            return [], [message]
        return [nodes.Text(found[self.text])], []


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def _controls(models: tuple[Model, ...]) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" name="openness" value="{name}" checked>{mark(name)}{words}</label>'
        for name, words in WORDS.items()
    )
    return CONTROLS.format(boxes=boxes, first=models[0].day.year, last=models[-1].day.year)


def _row(index: int, model: Model) -> str:
    """Return a row up to its sources, which are citations."""
    both = model.flops_published and model.flops_6nd
    ratio = model.flops_published / model.flops_6nd if both else None
    cells = [
        (model.params, si(model.params)),
        (model.active_params, si(model.active_params)),
        (model.tokens, si(model.tokens)),
        (model.per_param, plain(model.per_param)),
        (model.flops_6nd, power(model.flops_6nd)),
        (model.flops_published, power(model.flops_published)),
        (ratio, f"{ratio:.2f}" if ratio else ""),
    ]
    numbers = "".join(f'<td class="number" data-value="{value or ""}">{shown}</td>' for value, shown in cells)
    return (
        f'<tr data-model="{index}" data-openness="{model.openness}" data-year="{model.day.year}">'
        f'<th scope="row">{escape(model.name)}</th><td>{escape(model.organisation)}</td><td>{model.date}</td>'
        f"<td>{mark(model.openness)}{model.openness}</td>{numbers}<td>"
    )


def add_files(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Give the style and the script to the pages that hold a part of the map, and to no other."""
    if app.env.metadata.get(pagename, {}).get("model-map"):
        app.add_css_file("map.css")
        app.add_js_file("map.js", loading_method="defer")


def setup(app: Sphinx) -> dict:
    """Register the directive, the role and the files."""
    app.add_directive("model-map", ModelMap)
    app.add_role("model-number", ModelNumber())
    app.connect("html-page-context", add_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
