"""The figures of the map of models, as SVG that needs no script and takes its colours from the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from model_data import LECTURE, Growth, Model, fits, plain, power, record_holders, si

WIDTH, HEIGHT = 720, 456
LEFT, RIGHT, TOP, BOTTOM = 78, 706, 58, 418
FIRST, LAST = 2018.2, 2026.9  # years at the left and the right edge
MARKS = {  # openness: its mark, centred on the origin
    "closed": "M-5-5H5V5H-5Z",
    "api": "M0-6.5 6 4.5H-6Z",
    "weights": "M-5.3 0a5.3 5.3 0 1 0 10.6 0a5.3 5.3 0 1 0-10.6 0Z",
    "open": "M0-7 7 0 0 7-7 0Z",
}
WORDS = {
    "closed": "closed",
    "api": "as a service only",
    "weights": "weights published",
    "open": "weights, code and data published",
}


@dataclass(frozen=True)
class Figure:
    """What one figure shows: `value` against date, on a log scale from `low` to `high`."""

    title: str  # of the vertical axis
    value: Callable[[Model], float | None]
    low: float
    high: float
    tick: Callable[[float], str]
    right: tuple[str, ...]  # models that bear their name, at the right of their mark
    left: tuple[str, ...]  # and at the left
    sizes: bool = False  # whether it shows active sizes, and models without a size, too

    def y(self, value: float) -> float:
        """The height of a value, in the units of the drawing."""
        return BOTTOM - (BOTTOM - TOP) * log10(value / self.low) / log10(self.high / self.low)


FIGURES = {
    "size": Figure(
        "parameters", lambda model: model.params, 2e7, 4e12, si,
        ("GPT-1", "GPT-3", "Switch-C", "PaLM", "SmolLM2 1.7B"), ("GPT-2", "LLaMA 7B", "DeepSeek-V4-Pro"),
        sizes=True,
    ),
    "ratio": Figure(
        "training tokens per parameter", lambda model: model.per_param, 0.25, 16000, plain,
        ("BERT-Large", "ELECTRA-Large", "GPT-3", "MT-NLG", "Llama 3.1 405B", "SmolLM2 1.7B"),
        ("LLaMA 7B", "Llama 3 8B"),
    ),
    "compute": Figure(
        "training compute in FLOP", lambda model: model.flops, 3e19, 3e26,
        lambda value: power(value).partition("× ")[2],
        ("GPT-1", "BERT-Large", "Llama 3.1 405B", "Nemotron-4 340B"), ("T5-11B", "GPT-3", "PaLM"),
    ),
}  # fmt: skip


def x(year: float) -> float:
    """The place of a date, in the units of the drawing."""
    return LEFT + (RIGHT - LEFT) * (year - FIRST) / (LAST - FIRST)


def describe(model: Model) -> str:
    """Say in one line what is known of a model."""
    known = [
        (si(model.params), "parameters"),
        (si(model.active_params), "active per token"),
        (si(model.tokens), "training tokens"),
        (power(model.flops), "operations"),
    ]
    facts = ", ".join(f"{value} {what}" for value, what in known if value) or "no number published"
    return f"{model.name}, {model.organisation}, {model.day:%B %Y}, {WORDS[model.openness]}: {facts}"


def mark(openness: str) -> str:
    """Return the mark of an openness as a small drawing, for the legend."""
    return (
        f'<svg class="map-mark {openness}" viewBox="-9 -9 18 18" aria-hidden="true">'
        f'<path d="{MARKS[openness]}"/></svg>'
    )


def draw(name: str, models: Sequence[Model], alternative: str) -> str:
    """Return a figure: its axes, what is drawn across it, a mark for each model in the order of dates."""
    figure = FIGURES[name]
    holders = {model.name for model in record_holders(models)} if name == "compute" else set()
    marks = "".join(
        _dot(figure, index, model, model.name in holders)
        for index, model in enumerate(models)
        if figure.value(model) or figure.sizes
    )
    box = f"0 0 {WIDTH} {HEIGHT}"
    return (
        f'<svg class="map-svg" viewBox="{box}" role="group" aria-label="{escape(alternative)}">'
        f'<g aria-hidden="true">{_axes(figure)}{_across(name, figure, tuple(models))}</g>{marks}'
        f'<g aria-hidden="true">{_names(figure, models)}</g></svg>'
    )


def _axes(figure: Figure) -> str:
    parts = [_text(LEFT, 24, f"{figure.title} (log scale)", "title")]
    for exponent in range(-1, 28):
        if figure.low <= (value := 10.0**exponent) <= figure.high:
            height = figure.y(value)
            parts += [_line(LEFT, height, RIGHT, height, "grid")]
            parts += [_text(LEFT - 8, height + 5, figure.tick(value), "end")]
    for year in range(2019, 2027):
        parts += [
            _line(x(year), BOTTOM, x(year), BOTTOM + 6, "tick"),
            _text(x(year), BOTTOM + 27, str(year), "middle"),
        ]
    parts += [_line(LEFT, BOTTOM, RIGHT, BOTTOM, "tick")]
    then = x(LECTURE.year + (LECTURE.timetuple().tm_yday - 1) / 365.25)
    return "".join(
        [
            *parts,
            _line(then, TOP, then, BOTTOM, "then"),
            _text(then, TOP - 6, "the lecture", "middle"),
        ]
    )


def _across(name: str, figure: Figure, models: tuple[Model, ...]) -> str:
    if name == "ratio":
        height = figure.y(20)
        return _line(LEFT, height, RIGHT, height, "chinchilla") + _text(
            LEFT + 6, height - 7, "Chinchilla: 20", "start"
        )
    if figure.sizes:
        return _text(LEFT + 6, BOTTOM - 11, "size not published:", "start")
    found = fits(models)
    words = {kind: f"{growth.doubling:.1f} months" for kind, growth in found.items()}
    above = figure.y(found["all"].flops(2020.3)) - 8
    return (
        _growth(figure, found["all"], "fit all")
        + _growth(figure, found["records"], "fit records")
        + _text(LEFT + 6, above, f"all: {words['all']}", "start")
        + _text(x(2025.35), TOP + 14, f"records: {words['records']}", "end")
    )


def _growth(figure: Figure, growth: Growth, kind: str) -> str:
    """Draw a fitted exponential as far as it stays inside."""
    inside = [FIRST + step / 50 for step in range(int((LAST - FIRST) * 50) + 1)]
    inside = [year for year in inside if figure.low <= growth.flops(year) <= figure.high]
    (x1, y1), (x2, y2) = ((x(year), figure.y(growth.flops(year))) for year in (inside[0], inside[-1]))
    return _line(x1, y1, x2, y2, kind)


def _dot(figure: Figure, index: int, model: Model, holder: bool) -> str:
    value = figure.value(model)
    height = figure.y(value) if value else BOTTOM - 16
    kind = f"dot {model.openness}" + " holder" * holder + " unknown" * (not value)
    stem = ""
    if figure.sizes and model.active_params:
        drop = figure.y(model.active_params) - height
        stem = f'<path class="stem" d="M0 0V{drop:.1f}M-3 {drop:.1f}H3"/>'
    place = f"translate({x(model.year):.1f} {height:.1f})"
    return (
        f'<g class="{kind}" data-model="{index}" role="img" transform="{place}">'
        f"<title>{escape(describe(model))}</title>{stem}"
        f'<path class="shape" d="{MARKS[model.openness]}"/></g>'
    )


def _names(figure: Figure, models: Sequence[Model]) -> str:
    """Write the names that the figure shows, over the marks."""
    places = {name: (10, "start") for name in figure.right} | {name: (-10, "end") for name in figure.left}
    parts = []
    for index, model in enumerate(models):
        if model.name in places:
            shift, side = places[model.name]
            height = figure.y(figure.value(model)) + 4
            word = _text(x(model.year) + shift, height, model.name, f"name {side}")
            parts.append(f'<g data-model="{index}">{word}</g>')
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(left: float, height: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{left:.1f}" y="{height:.1f}">{escape(words)}</text>'
