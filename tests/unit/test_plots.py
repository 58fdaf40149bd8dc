import struct

import matplotlib
import pytest

matplotlib.use("agg")

from gptlib import plots


@pytest.fixture
def shown(monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "display", lambda image: seen.append(image))
    return seen


def test_a_figure_carries_its_alt_text_and_is_sharp(shown):
    fig, axes = plots.figure(columns=2, width=6, height=3)
    plots.band(axes[0], [1, 2, 3], [[1, 2, 3], [3, 2, 1]], "model", plots.COLORS["model"])
    plots.baseline(axes[1], 0.5, "chance")
    plots.show(fig, alt="A line that stays flat beside a dashed line at one half.")
    data, metadata = shown[0]._repr_mimebundle_()[0]["image/png"], shown[0]._repr_mimebundle_()[1]["image/png"]
    assert metadata["alt"].startswith("A line") and metadata["width"] == 600
    raw = shown[0].data
    assert struct.unpack(">II", raw[16:24]) == (1200, 600) and data


@pytest.mark.parametrize("alt", ["", "a plot"])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt"):
        plots.show(plots.figure()[0], alt=alt)
