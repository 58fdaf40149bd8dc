import base64
import struct
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

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
    assert b"Software" not in png  # or a file would change with the version of matplotlib
    assert not plt.fignum_exists(fig.number)


@pytest.fixture
def ax():
    fig, axes = plots.figure()
    yield axes[0]
    plt.close(fig)


def test_panels_are_counted_and_sized_in_inches():
    fig, axes = plots.figure(rows=2, columns=3, height=4, width=9)
    assert axes.shape == (6,) and tuple(fig.get_size_inches()) == (9, 4)
    assert [ax.get_subplotspec().colspan.start for ax in axes] == [0, 1, 2, 0, 1, 2]
    plt.close(fig)


def test_a_band_is_the_mean_between_the_least_and_the_most_of_all_runs(ax):
    plots.band(ax, [1, 2, 4], [[1, 2, 3], [3, 2, 1], [8, 2, 2]], "model", "#0072B2")
    [line], [area], [label] = ax.lines, ax.collections, ax.texts
    np.testing.assert_allclose(line.get_xydata(), [[1, 4], [2, 2], [4, 2]])
    corners = {tuple(corner) for corner in area.get_paths()[0].vertices}
    assert {(1, 1), (1, 8), (2, 2), (4, 1), (4, 3)} == corners
    assert label.get_text() == "model" and label.xy == (4, 2)  # where the line ends
    colors = [line.get_color(), to_hex(area.get_facecolor()), label.get_color()]
    assert [color.lower() for color in colors] == ["#0072b2"] * 3


@pytest.mark.parametrize("below", [False, True])
def test_a_baseline_is_dashed_and_grey_and_named_on_the_side_asked_for(ax, below):
    plots.baseline(ax, 0.25, "chance", below)
    [line], [label] = ax.lines, ax.texts
    assert set(line.get_ydata()) == {0.25} and line.get_linestyle() == "--"
    assert line.get_color() == label.get_color() == plots.COLORS["baseline"]
    assert label.get_text() == "chance" and label.xy == (0.99, 0.25)
    assert (label.xyann[1] < 0) == below


def test_attention_is_a_row_for_each_reader_on_a_scale_from_0_to_1(ax):
    weights = np.array([[0.9, 0.0], [0.25, 0.65]])
    plots.attention(ax, weights, ["a b", "\n"], "head 1")
    [image] = ax.images
    np.testing.assert_array_equal(image.get_array(), weights)
    assert image.get_clim() == (0, 1) and ax.yaxis_inverted()  # the first reader is at the top
    names = [[tick.get_text() for tick in ticks] for ticks in (ax.get_xticklabels(), ax.get_yticklabels())]
    assert names == [["a\u00b7b", "\\n"]] * 2
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == ("head 1", "is read", "reads")


def test_sequences_are_boxes_in_a_row_the_markers_grey_and_no_box_on_another(ax):
    groups = [("one", [["start", "text", "extract"]]), ("two", [["start", "a"], ["start", "b"]])]
    plots.sequences(ax, groups)
    words = [text.get_text() for text in ax.texts]
    assert words == ["start", "text", "extract", "one", "start", "a", "start", "b", "two"]
    boxes = [patch.get_bbox() for patch in ax.patches]
    texts = [text for text in ax.texts if text.get_text() not in ("one", "two")]
    for box, text in zip(boxes, texts, strict=True):
        assert box.x0 < text.get_position()[0] < box.x1 and box.y0 < text.get_position()[1] < box.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    greys = [to_hex(patch.get_facecolor()) == "#dddddd" for patch in ax.patches]
    assert greys == [text.get_text() in ("start", "extract") for text in texts]
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert top < min(box.y0 for box in boxes) and bottom > max(box.y1 for box in boxes) and low < 0
    assert high > max(box.x1 for box in boxes) and not ax.axison


def test_a_fit_is_drawn_through_its_points_and_beyond_with_its_interval(ax):
    law = SimpleNamespace(predict=lambda x: 2 / x, band=lambda x: (1 / x, 3 / x))
    plots.fitted(ax, [1.3, 10.0], [2.0, 0.2], law, "#D55E00")
    points, line = ax.lines
    np.testing.assert_allclose(points.get_xydata(), [[1.3, 2], [10, 0.2]])
    assert points.get_linestyle() == "None" and points.get_marker() == "o"
    x, y = line.get_data()
    assert (x[0], x[-1]) == (pytest.approx(1), pytest.approx(20)) and np.allclose(y, 2 / x)
    [area] = ax.collections
    corners = area.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(1 / 20) and corners[:, 1].max() == pytest.approx(3)


@pytest.mark.parametrize("alt", ["", "a plot", "four words are few"])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt"):
        plots.show(plots.figure()[0], alt=alt)
