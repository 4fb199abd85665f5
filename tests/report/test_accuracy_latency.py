"""The figure of accuracy versus latency; its means and its Pareto front worked out by hand."""

from typing import Any

import matplotlib.style
import numpy as np
import pytest

from daar.report import accuracy_latency, drawing
from tests.report.report_rows import TITLES, change, frame, named, rows


def timed(name: str, top1: tuple[float, ...], ms: tuple[float, ...], **changes: Any) -> list[dict[str, Any]]:
    times = [{"latency_ms_slim_b1": value, "latency_ms_slim_b128": 50 * value} for value in ms]
    dense = {"latency_ms_dense_b1": 4.0, "latency_ms_dense_b128": 200.0}
    return [row | time | dense | changes for row, time in zip(rows(name, top1), times, strict=True)]


DAAR = timed("daar", (93.0, 93.2, 93.4), (2.9, 3.0, 3.1))
L1 = timed("l1", (92.0, 92.5, 93.0), (2.0, 2.0, 2.0))
SLOW = timed("fpgm", (92.0, 92.0, 92.0), (3.5, 3.5, 3.5))
BLANK: dict[str, Any] = {name: float("nan") for name in ("latency_ms_slim_b1", "latency_ms_slim_b128")}


def draw(*groups: list[dict[str, Any]], titles: dict[str, str] = TITLES) -> Any:
    data = frame(*groups)
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure = accuracy_latency.draw_accuracy_latency(data, named(titles), drawing.looks_of(data))
        figure.draw_without_rendering()
    return figure


def test_the_front_by_hand() -> None:
    ms, top1 = [2, 3, 3, 4, 2, 5], [90, 92, 91, 92, 90, 95]
    # (3, 91) and (4, 92) are no better than (3, 92); the two equal points are both on it
    assert accuracy_latency.pareto(ms, top1).tolist() == [True, True, False, False, True, True]


def test_the_front_against_the_definition() -> None:
    dice = np.random.default_rng(0)
    ms, top1 = dice.integers(0, 12, 60), dice.integers(0, 12, 60)
    points = list(zip(ms, top1, strict=True))
    expected = [not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert accuracy_latency.pareto(ms, top1).tolist() == expected


def test_points_are_means_with_their_spread() -> None:
    table: Any = accuracy_latency.points(frame(DAAR, L1, SLOW), 128).set_index("variant")
    np.testing.assert_allclose(table.loc["daar", ["ms", "ms_std", "top1", "top1_std"]].tolist(), [150, 5, 93.2, 0.2])
    np.testing.assert_allclose(table.loc["l1", ["ms", "ms_std", "top1", "top1_std"]].tolist(), [100, 0, 92.5, 0.5])
    assert table["front"].to_dict() == {"daar": True, "l1": True, "fpgm": False}
    assert accuracy_latency.points(frame(DAAR[:1]), 1)[["ms_std", "top1_std"]].to_numpy().tolist() == [[0, 0]]


def test_the_panels_show_them() -> None:
    figure = draw(DAAR, L1, SLOW)
    for panel, factor in zip(figure.axes, (1, 50), strict=True):
        drawn = {line.get_label(): line.get_xydata() for line in panel.lines if not line.get_label().startswith("_")}
        np.testing.assert_allclose(drawn["Pareto front"], [[2 * factor, 92.5], [3 * factor, 93.2]])
        np.testing.assert_allclose(drawn["Dense"], [[4 * factor, 93.2]])
        places = {bars.get_label(): bars[0].get_xydata().tolist() for bars in panel.containers}
        assert places["L1"] == [[2 * factor, pytest.approx(92.5)]]
        assert set(places) == {"DAAR (reconstructed), uniform rates", "L1", "fpgm"}
    assert "batch of 1 image" in figure.axes[0].get_xlabel()
    assert "reconstruction" in figure.get_supxlabel().replace("\n", " ")


def test_a_batch_size_that_a_row_lacks_has_no_panel() -> None:
    assert accuracy_latency.timed(frame(DAAR, L1)) == [1, 128]
    assert accuracy_latency.timed(frame(DAAR, change(L1, 1, latency_ms_slim_b128=float("nan")))) == [1]
    assert accuracy_latency.timed(frame(DAAR, change(L1, **BLANK))) == []
    assert len(draw(DAAR, change(L1, latency_ms_slim_b128=float("nan"))).axes) == 1


@pytest.mark.parametrize("title", ["L1 <$x$> & y", "A long title of a method (by many et al. 2017)" * 3])
def test_nothing_is_clipped(title: str) -> None:
    figure = draw(DAAR, L1, titles=dict.fromkeys(("daar", "l1"), title))
    for part in [*(panel.get_tightbbox() for panel in figure.axes), figure.legends[0].get_window_extent()]:
        assert part.x0 >= 0
        assert part.y0 >= 0
        assert part.x1 <= figure.bbox.x1
        assert part.y1 <= figure.bbox.y1
