"""The figure of accuracy with a row for each of many variants, from rows whose means are known."""

import itertools
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest

from daar.report import drawing
from daar.report.accuracy_costs import draw_accuracy_costs
from daar.report.accuracy_latency import draw_accuracy_latency
from daar.report.accuracy_macs import draw_accuracy_macs
from daar.report.accuracy_rows import draw_accuracy_rows, is_better
from daar.report.paired_differences import draw_differences
from tests.report.report_files import draw_all, write_setting_files
from tests.report.report_rows import change, csv, frame, named, rows

# tuned: mean 90 + k, deviations −0.5, 0, 0.5; dense 93.0, 93.2, 93.4
MANY = [rows(f"v{k}", (89.5 + k, 90.0 + k, 90.5 + k), top1_recalibrated=50.0 + k) for k in range(7)]


def draw(*groups: list[dict[str, Any]], titles: dict[str, str]) -> Any:
    data = frame(*groups)
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure = draw_accuracy_rows(data, named(titles), drawing.looks_of(data))
        figure.draw_without_rendering()
    return figure


def at(target: float, *groups: list[dict[str, Any]], **changes: Any) -> list[list[dict[str, Any]]]:
    return [change(group, target=target, macs_reduction=target, **changes) for group in groups]


def marks(panel: Any) -> list[list[float]]:
    """Where the markers of the rows are, from the top."""
    places = [line.get_xydata()[0].tolist() for line in panel.lines if (line.get_gid() or "").startswith("mean")]
    return sorted(places, key=lambda place: place[1])


def test_rows_are_for_one_target_and_for_very_many_variants_of_few() -> None:
    assert is_better(frame(*MANY))
    assert is_better(frame(MANY[0]))
    assert not is_better(frame(*MANY, change(MANY[0], target=0.7, macs_reduction=0.7)))
    own = [change(group, target=float("nan"), macs_reduction=0.3) for group in MANY]
    assert not is_better(frame(*own))
    more = [change(group, policy=policy) for group in MANY for policy in ("uniform", "adaptive", "global")]
    assert is_better(frame(*more, *at(0.7, *more)))
    assert not is_better(frame(*more[:14], *at(0.7, *more[:14])))
    assert not is_better(frame(*(one for target in (0.2, 0.3, 0.4, 0.6) for one in at(target, *more))))


def axes_of(figure: Any) -> list[str]:
    labels = [label for panel in figure.axes for label in (panel.get_xlabel(), panel.get_ylabel())]
    return [label for label in [*labels, figure.get_supylabel()] if label]


@pytest.mark.parametrize(
    ("draw", "tuned", "untuned"),
    [
        (draw_accuracy_costs, "Tuned top-1 (%)", "BN recalibrated (%)"),
        (draw_accuracy_macs, "Test top-1, tuned (%)", "Test top-1, untuned (%)"),
        (draw_accuracy_latency, "Test top-1, tuned (%)", "Test top-1, untuned (%)"),
        (draw_differences, "Test top-1, tuned, points; right of 0", "Test top-1, untuned, points; right of 0"),
    ],
)
def test_every_axis_of_accuracy_says_whether_it_was_tuned(draw: Any, tuned: str, untuned: str) -> None:
    for epochs, said, other in ((150, tuned, untuned), (0, untuned, tuned)):
        groups = [change(group, epochs=epochs, latency_ms_slim_b1=2.0, latency_ms_dense_b1=3.0) for group in MANY]
        data = frame(*groups)
        with matplotlib.style.context(["default", drawing.STYLE]):
            labels = axes_of(draw(data, named({}), drawing.looks_of(data)))
        assert any(label.startswith(said) for label in labels), labels
        assert not any(label.startswith(other) for label in labels), labels


def test_of_several_targets_each_has_a_panel_on_one_axis() -> None:
    high = at(0.7, *(rows(f"v{k}", (79.5 + k, 80.0 + k, 80.5 + k)) for k in range(7)))
    figure = draw(*high, *MANY, titles={})
    assert [panel.get_xlabel() for panel in figure.axes] == ["50% removed", "70% removed"]
    for panel, low in zip(figure.axes, (90.0, 80.0), strict=True):
        assert marks(panel) == [[low + 6 - k, k] for k in range(7)]  # the most accurate at the top
        assert any(np.allclose(line.get_xdata(), 93.2) for line in panel.lines)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert figure.get_suptitle() == "ResNet-56 on CIFAR-10, test top-1, tuned (%)"


def test_what_was_not_tuned_has_one_panel_and_says_so() -> None:
    figure = draw(*at(0.5, *MANY, epochs=0), titles={})
    assert [panel.get_xlabel() for panel in figure.axes] == ["BN recalibrated (%)"]
    assert any("Nothing was tuned" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_a_row_shows_mean_spread_and_seeds() -> None:
    figure = draw(*MANY, titles={"v0": "First"})
    tuned, before = figure.axes
    assert [label.get_text() for label in tuned.get_yticklabels()] == [*(f"v{k}" for k in range(6, 0, -1)), "First"]
    assert marks(tuned) == [[96.0 - k, k] for k in range(7)]
    assert [place[0] for place in marks(before)] == [56.0 - k for k in range(7)]
    (dense,) = (line for line in tuned.lines if len(line.get_xdata()) == 2)
    np.testing.assert_allclose(dense.get_xdata(), 93.2)
    assert figure.get_suptitle() == "ResNet-56 on CIFAR-10, test top-1, 50% of the MACs removed"
    assert tuned.yaxis_inverted()
    assert "do not start at 0" in figure.get_supxlabel().replace("\n", " ")


def test_a_network_from_scratch_has_no_accuracy_before_tuning() -> None:
    scratch = change(rows("again", (99.0, 99.0, 99.0)), method="scratch_of", top1_recalibrated=float("nan"))
    before = draw(*MANY, scratch, titles={}).axes[1]
    assert np.isnan(marks(before)[0][0])


@pytest.mark.parametrize("title", ["<$x$> & \\y", "A long title of a method (with many authors et al. 2017): variant"])
@pytest.mark.parametrize("targets", [(), (0.7,), (0.7, 0.841)])
def test_nothing_is_clipped_or_overlaps(title: str, targets: tuple[float, ...]) -> None:
    more = [group for target in targets for group in at(target, *MANY)]
    figure = draw(*MANY, *more, titles={f"v{k}": title for k in range(7)})
    words = [panel.xaxis.label.get_window_extent() for panel in figure.axes]
    # side by side, or one below the other
    assert all(left.x1 < right.x0 or left.y0 > right.y1 for left, right in itertools.pairwise(words))
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in itertools.pairwise(boxes))
    for panel in figure.axes:
        box = panel.get_tightbbox()
        assert (box.x0 >= 0, box.y0 >= 0) == (True, True)
        assert (box.x1 <= figure.bbox.x1, box.y1 <= figure.bbox.y1) == (True, True)
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


def test_it_takes_the_place_of_accuracy_versus_macs(tmp_path: Path) -> None:
    results = csv(tmp_path, *MANY)
    write_setting_files(results, frame(*MANY))
    first, second = (draw_all(results, tmp_path / name, named()) for name in "ab")
    assert first[1].name == "cifar10-resnet56-accuracy-macs.svg"
    assert "test top-1, 50% of the MACs removed" in first[1].read_text(encoding="utf-8")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
