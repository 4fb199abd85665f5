"""What figures share, and the figure of accuracy versus MACs, from frames with the columns of results.csv."""

import itertools
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from daar.report import drawing
from daar.report.accuracy_macs import draw_accuracy_macs
from daar.report.collect import read_results
from tests.report.report_files import draw_all, write_setting_files
from tests.report.report_rows import DAAR, L1, RANDOM, TITLES, change, csv, frame, named, rows


def draw(*groups: list[dict[str, Any]], titles: dict[str, str] = TITLES) -> Any:  # a Figure, whose artists are untyped
    data = frame(*groups)
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure = draw_accuracy_macs(data, named(titles), drawing.looks_of(data))
        figure.draw_without_rendering()
    return figure


TARGETS = [
    change(group, target=target, macs_reduction=target, top1_recalibrated=90 - 80 * target)
    for target in (0.5, 0.7, 0.841)
    for group in (L1, DAAR, RANDOM)
]


def test_drawn_points_are_the_means() -> None:
    figure = draw(*TARGETS)
    for panel, metric in zip(figure.axes, ("top1_tuned", "top1_recalibrated"), strict=True):
        drawn = {container.get_label(): container for container in panel.containers}
        labels = {"daar": "DAAR (reconstructed)", "l1": "L1"}
        labels["random"] = "random (control)"
        assert set(drawn) == set(labels.values())
        for variant, label in labels.items():
            line, _, (bars,) = drawn[label]
            data = frame(*TARGETS)
            groups = data[data["variant"] == variant].groupby("target")[metric]
            # most MACs removed = leftmost
            means, stds = groups.mean().to_numpy()[::-1], groups.std(ddof=1).to_numpy()[::-1]
            np.testing.assert_allclose(line.get_xydata()[:, 1], means)
            spans = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
            np.testing.assert_allclose(spans, 2 * stds, atol=1e-9)


def test_marks_are_at_their_true_macs_and_all_can_be_seen() -> None:
    moved = [row | {"macs_reduction": row["target"] + 0.001 * k} for k, row in enumerate(itertools.chain(*TARGETS))]
    panel, lower = draw(moved).axes
    left = 100 * (1 - frame(moved).groupby(["variant", "target"])["macs_reduction"].mean())
    for container in panel.containers:
        variant = {"DAAR (reconstructed)": "daar", "L1": "l1", "random (control)": "random"}[container.get_label()]
        np.testing.assert_allclose(container[0].get_xydata()[:, 0], np.sort(left[variant].to_numpy()))
    sizes = [container[0].get_markersize() for container in panel.containers]
    order = [container[0].get_zorder() for container in panel.containers]
    assert all(larger - smaller > 1 for larger, smaller in itertools.pairwise(sizes))  # the last drawn is the smallest
    assert len(set(order)) == 1
    assert np.ptp(lower.get_xlim()) >= 10


def test_a_line_joins_three_targets_or_more_and_no_ratios_of_their_own() -> None:
    def joined(*groups: list[dict[str, Any]]) -> set[int]:
        lines = [line for line in draw(*groups).axes[0].lines if line.get_label().startswith("_child")]
        return {len(line.get_xdata()) for line in lines if line.get_linestyle() != "None"}

    own = [change(DAAR, policy=f"published-{k}", macs_reduction=0.1 * k) for k in range(1, 5)]
    assert joined(*TARGETS) == {3}
    assert joined(*TARGETS[:6]) == set()
    assert joined(*TARGETS[:6], *own) == set()


def test_dense_line_and_single_seeds() -> None:
    panel = draw(L1, DAAR).axes[0]
    (line,) = (line for line in panel.lines if line.get_label() == "Dense")
    np.testing.assert_allclose(line.get_ydata(), 93.2)
    (band,) = panel.patches
    np.testing.assert_allclose((band.get_y(), band.get_height()), (93.0, 0.4))
    dots = np.concatenate([dots.get_offsets()[:, 1] for dots in panel.collections if hasattr(dots, "get_sizes")])
    assert sorted(dots) == sorted([92.5, 92.9, 93.0, 93.3, 93.5, 93.4])


def test_where_a_run_was_cut_off_not_all_have_all_seeds() -> None:
    said = [" ".join(draw(*groups).get_supxlabel().split()) for groups in ([L1, DAAR], [L1, DAAR[:1]], [L1[:1]])]
    assert [line.split(".")[0].split(";")[0].removeprefix("Mean ± sample standard deviation ") for line in said] == [
        *("over 3 seeds (dots)", "over up to 3 seeds (dots)", "One seed")
    ]


def test_own_ratios_are_hollow_and_where_they_are() -> None:
    own = change(DAAR, target=float("nan"), macs_reduction=0.3)
    panel = draw(L1, DAAR, own).axes[0]
    hollow = [container[0] for container in panel.containers if container[0].get_fillstyle() == "none"]
    assert [line.get_xdata().tolist() for line in hollow] == [[70.0]]


def test_looks_are_stable_and_controls_grey() -> None:
    given = drawing.looks_of(frame(RANDOM, L1, DAAR))
    assert given == drawing.looks_of(frame(DAAR, L1, RANDOM))
    assert len({look.colour for look in given.values()}) == len({look.marker for look in given.values()}) == 3
    red, green, blue = mpl.colors.to_rgb(given["random"].colour)
    assert red == green == blue
    many = drawing.looks_of(frame(*(rows(f"m{index}", (90.0,)) for index in range(40))))
    assert len(set(many.values())) == 40


@pytest.mark.parametrize("title", ["L1", "A rather long title of a method with (many authors et al. 2017)" * 2])
def test_nothing_is_clipped_or_overlaps(title: str) -> None:
    figure = draw(*TARGETS, titles=dict.fromkeys(("l1", "daar", "random"), title))
    whole = figure.bbox
    parts = [*(axes.get_tightbbox() for axes in figure.axes), figure.legends[0].get_window_extent()]
    footnote = figure.get_supxlabel()
    parts += [text.get_window_extent() for text in figure.texts if text.get_text() == footnote]
    assert len(parts) == 4
    for index, part in enumerate(parts):
        assert whole.x0 <= part.x0 < part.x1 <= whole.x1
        assert whole.y0 <= part.y0 < part.y1 <= whole.y1
        assert not any(part.y0 < other.y1 and other.y0 < part.y1 for other in parts[:index])


def test_files_are_deterministic_and_say_what_they_show(tmp_path: Path) -> None:
    results = csv(tmp_path, *TARGETS)
    write_setting_files(results, frame(*TARGETS))
    before = dict(mpl.rcParams)
    titles = TITLES | {"l1": "L1 <$x$> & $y_1$"}
    first = draw_all(results, tmp_path / "first", named(titles))
    second = draw_all(results, tmp_path / "second", named(titles))
    assert dict(mpl.rcParams) == before
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    png, svg = first[:2]
    with Image.open(png) as image:
        assert image.width == int(90 / 25.4 * 200)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50
    texts = {"".join(element.itertext()) for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
    shown = ("L1 <$x$> & $y_1$", "random (control)", "ResNet-56 on CIFAR-10", "Dense")
    assert {*shown, "MACs left (% of the dense network's 125.5M)"} <= texts
    assert "DAAR here is a reconstruction" in " ".join(sorted(texts))


def test_single_setting_can_be_drawn(tmp_path: Path) -> None:
    results = csv(tmp_path, L1[:1])
    write_setting_files(results, frame(L1[:1]))
    assert len(read_results(results)) == 1
    assert all(path.stat().st_size > 5000 for path in draw_all(results, tmp_path / "figures", named()))


def published(*points: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(points, columns=["label", "macs_reduction", "pruned_top1"])


def draw_published(points: pd.DataFrame) -> Any:
    data = frame(*TARGETS)
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure = draw_accuracy_macs(data, named(), drawing.looks_of(data), points)
        figure.draw_without_rendering()
    return figure


def test_published_points_are_crosses_at_their_places() -> None:
    nan = float("nan")
    points = [
        ("HRank <$x$>", 0.25, 93.17),
        ("FPGM", 0.526, 93.26),
        ("FPGM", 0.9, 90.0),
        ("L1", nan, 93.0),
        ("L1", 0.1, nan),
    ]
    figure = draw_published(published(*points))
    upper, lower = figure.axes
    (crosses,) = (line for line in upper.lines if line.get_label() == "Published")
    np.testing.assert_allclose(crosses.get_xydata(), [[75.0, 93.17], [47.4, 93.26], [10.0, 90.0]])
    assert "Published: 3 results of 2 methods" in figure.get_supxlabel().replace("\n", " ")
    assert not [line for line in lower.lines if line.get_label().startswith("Published")]


def test_nothing_published_changes_nothing() -> None:
    plain, empty = draw(*TARGETS), draw_published(published())
    assert empty.get_supxlabel() == plain.get_supxlabel()
    labels = [[text.get_text() for text in one.legends[0].get_texts()] for one in (plain, empty)]
    assert labels[0] == labels[1]


def test_a_long_legend_is_in_smaller_print() -> None:
    many = [rows(f"m{index}", (92.0, 92.0, 92.0)) for index in range(20)]
    sizes = [draw(*groups).legends[0].get_texts()[0].get_fontsize() for groups in ([L1, DAAR], many)]
    assert sizes == [6.5, 5]
    figure = draw(*many)
    assert figure.legends[0].get_window_extent().y0 > figure.axes[0].get_tightbbox().y1
