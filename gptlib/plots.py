"""One look for all figures. Notebooks say what to draw; sizes, colours and fonts live here."""

import base64
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

# Okabe and Ito's colour-blind safe palette; a name means the same thing through the whole book.
COLORS = {
    "model": "#0072B2",  # the network that the section is about
    "other": "#D55E00",  # what it is compared with
    "third": "#009E73",
    "fourth": "#CC79A7",
    "validation": "#0072B2",
    "train": "#56B4E9",
    "baseline": "#767676",  # chance, counting, the mean: always dashed
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DOTS_PER_INCH = 200  # shown at half of it: sharp on a double-density screen
STYLE = {  # set once, when this module is imported
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "lines.linewidth": 2,
    "legend.frameon": False,
    "image.cmap": "Blues",
}
plt.rcParams.update(STYLE)


def figure(
    rows: int = 1, columns: int = 1, height: float = 3.6, width: float = 7.2
) -> tuple[Figure, np.ndarray]:
    """Open a figure of `rows` x `columns` panels, `width` x `height` inches; return it and its axes."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    return fig, axes.ravel()


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its alternative text: a sentence that says what one sees, and close it.

    Raises ValueError when the text is missing, since a reader who cannot see the figure needs it.
    """
    if len(alt.split()) < 5:
        raise ValueError("alt must say in a sentence what one sees in the figure")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    image = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": alt}
    width = round(fig.get_figwidth() * DOTS_PER_INCH / 2)
    display(image, metadata={"image/png": {"width": width, "alt": alt}}, raw=True)
    plt.close(fig)


def band(ax: Axes, x: Sequence[float], runs: Sequence[Sequence[float]], label: str, color: str) -> None:
    """Draw the mean over runs (seeds, points) as a line, their range as a band, named at its end."""
    runs = np.asarray(runs, dtype=float)  # (seeds, points)
    ax.fill_between(x, runs.min(0), runs.max(0), color=color, alpha=0.2, linewidth=0)
    ax.plot(x, runs.mean(0), color=color)
    label_end(ax, x, runs.mean(0), label, color)


def label_end(ax: Axes, x: Sequence[float], y: Sequence[float], label: str, color: str) -> None:
    """Write a line's name beside its last point: no legend to look up."""
    place = dict(
        textcoords="offset points", va="center", path_effects=[withStroke(linewidth=3, foreground="w")]
    )
    ax.annotate(label, (x[-1], y[-1]), (7, 0), color=color, **place)


def baseline(ax: Axes, y: float, label: str, below: bool = False) -> None:
    """Draw the trivial answer as a dashed grey line across the panel, its name at the right."""
    ax.axhline(y, color=COLORS["baseline"], linestyle="--", linewidth=1.3)
    place = dict(xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    ax.annotate(label, (0.99, y), (0, -12 if below else 3), color=COLORS["baseline"], **place)


def attention(ax: Axes, weights: np.ndarray, tokens: Sequence[str], title: str) -> None:
    """Draw attention weights (T, T), white for 0, dark for 1: a row for each reader; blanks as dots."""
    names = [repr(token)[1:-1].replace(" ", "\u00b7") for token in tokens]
    ax.imshow(np.asarray(weights), vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8.5)
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    ax.set(title=title, xlabel="is read", ylabel="reads")
    ax.grid(False)


def sequences(ax: Axes, groups: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """Draw token sequences as rows of boxes, a named group below the other, markers in grey."""
    y, markers = 0.0, {"start", "delim", "extract"}
    for name, rows in groups:
        for row in rows:
            x = 0.0
            for part in row:
                width = 1.0 if part in markers else 2.2
                color = "#DDDDDD" if part in markers else "#CFE3F2"
                ax.add_patch(Rectangle((x, y), width - 0.06, 0.8, color=color, linewidth=0))
                ax.text(x + width / 2, y + 0.4, part, ha="center", va="center", fontsize=9)
                x += width
            y += 1
        ax.text(-0.2, y - len(rows) / 2 - 0.1, name, ha="right", va="center", weight="bold")
        y += 0.4
    ax.set(xlim=(-2.6, 7.5), ylim=(y, -0.2))
    ax.axis("off")


def fitted(ax: Axes, x: Sequence[float], y: Sequence[float], law, color: str) -> None:
    """Draw points, the power law fitted to them (a `scaling.PowerLaw`), and its interval."""
    ax.plot(x, y, "o", color=color, alpha=0.6)
    line = np.geomspace(np.min(x) / 1.3, np.max(x) * 2, 60)
    ax.fill_between(line, *law.band(line), color=color, alpha=0.2, linewidth=0)
    ax.plot(line, law.predict(line), color=color)
