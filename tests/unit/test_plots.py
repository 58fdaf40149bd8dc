import base64
import struct

import pytest

from gptlib import plots


@pytest.fixture
def shown(monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "display", lambda data, metadata, raw: seen.append((data, metadata)))
    return seen


def test_a_figure_carries_its_alt_text_and_is_sharp(shown):
    fig, axes = plots.figure(columns=2, width=6, height=3)
    plots.band(axes[0], [1, 2, 3], [[1, 2, 3], [3, 2, 1]], "model", plots.COLORS["model"])
    plots.baseline(axes[1], 0.5, "chance")
    plots.show(fig, alt="A line that stays flat beside a dashed line at one half.")
    ((data, metadata),) = shown
    assert metadata["image/png"]["alt"].startswith("A line") and metadata["image/png"]["width"] == 600
    png = base64.b64decode(data["image/png"])
    assert struct.unpack(">II", png[16:24]) == (1200, 600)  # twice the width it is shown at


@pytest.mark.parametrize("alt", ["", "a plot"])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt"):
        plots.show(plots.figure()[0], alt=alt)
