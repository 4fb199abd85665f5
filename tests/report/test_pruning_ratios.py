"""The figure of pruning ratios over depth, from plans whose ratios are counted by hand."""

import itertools
import math
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest

from daar.errors import InputError
from daar.report import drawing, pruning_ratios, small_multiples
from daar.report.drawing import Look, Series
from tests.report.report_files import folder, write_plan
from tests.report.report_rows import TITLES, change, frame, named, rows

DAAR = rows("daar", (93.3, 93.5), policy="adaptive")
L1 = rows("l1", (92.5, 92.9))
FPGM = rows("fpgm", (92.5, 92.9))
# of 16, 16 and 32: removed 50, 25 and 50 %, then 0, 75 and 25 %
KEPT = (
    {"conv1": 8, "layer1.0.conv1": 12, "layer2.0.conv1": 16},
    {"conv1": 16, "layer1.0.conv1": 4, "layer2.0.conv1": 24},
)
EVEN = {"conv1": 8, "layer1.0.conv1": 8, "layer2.0.conv1": 16}


def placed(tmp_path: Path, *groups: list[dict[str, Any]]) -> tuple[Path, Any]:
    """A results.csv's path and rows, with plans: DAAR's are KEPT by seed, all others' EVEN."""
    results = tmp_path / "results.csv"
    for row in (row for group in groups for row in group):
        write_plan(folder(results, row), KEPT[row["seed"]] if row["variant"] == "daar" else EVEN)
    return results, frame(*groups)


def draw(results: Path, data: Any, titles: dict[str, str] = TITLES) -> Any:
    with matplotlib.style.context(["default", drawing.STYLE]):
        given = drawing.looks_of(data)
        figure = pruning_ratios.draw_pruning_ratios(
            data, pruning_ratios.load_ratios(results, data), named(titles), given
        )
        figure.draw_without_rendering()
    return figure


def lines(panel: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}


def test_ratios_are_what_the_plans_leave_out(tmp_path: Path) -> None:
    results, data = placed(tmp_path, DAAR, L1)
    ratios = pruning_ratios.load_ratios(results, data)
    assert len(ratios) == 4 * 3
    own = ratios[ratios["variant"] == "daar"].sort_values(["seed", "depth"])
    assert list(own["group"]) == ["conv1", "layer1.0.conv1", "layer2.0.conv1"] * 2
    assert list(own["ratio"]) == [0.5, 0.25, 0.5, 0.0, 0.75, 0.25]


def test_marks_are_means_and_bars_reach_from_least_to_most(tmp_path: Path) -> None:
    (panel,) = draw(*placed(tmp_path, DAAR, L1)).axes
    drawn = lines(panel)
    assert set(drawn) == {"DAAR (reconstructed)", "L1"}
    assert drawn["DAAR (reconstructed)"].get_ydata().tolist() == [25.0, 50.0, 37.5]
    assert drawn["L1"].get_ydata().tolist() == [50.0, 50.0, 50.0]
    bars = [segment.tolist() for segment in panel.collections[0].get_segments()]
    assert [[low[1], high[1]] for low, high in bars] == [[0, 50], [25, 75], [25, 50]]
    aside = {label: line.get_xdata()[0] for label, line in drawn.items()}
    assert aside == {"DAAR (reconstructed)": -0.2, "L1": 0.2}  # next to each other within a group
    assert [label.get_text() for label in panel.get_xticklabels()] == ["conv1", "layer1.0.conv1", "layer2.0.conv1"]


def test_variants_at_equal_widths_are_one_line_that_names_them(tmp_path: Path) -> None:
    few = lines(draw(*placed(tmp_path / "few", DAAR, L1, FPGM)).axes[0])
    assert set(few) == {"DAAR (reconstructed)", "fpgm; L1"}
    more = [L1, FPGM, *(rows(f"v{k}", (1.0, 1.0)) for k in range(3))]
    many = lines(draw(*placed(tmp_path / "many", *more)).axes[0])
    assert set(many) == {"uniform rates: 5 rows"}
    control = change(rows("r", (1.0, 1.0)), method="random_at", of="l1", control=True, policy="adaptive")
    mixed = lines(draw(*placed(tmp_path / "mixed", L1, control)).axes[0])
    assert set(mixed) == {"L1; r, adaptive rates"}


def test_a_network_from_scratch_has_no_plan_of_its_own(tmp_path: Path) -> None:
    results, data = placed(tmp_path, L1)
    scratch = change(rows("again", (92.0, 92.0)), method="scratch_of", of="l1", control=True)
    both = frame(L1, scratch)
    assert pruning_ratios.load_ratios(results, both).equals(pruning_ratios.load_ratios(results, data))
    assert set(lines(draw(results, both).axes[0])) == {"L1"}
    assert pruning_ratios.load_ratios(results, frame(scratch)).empty


def test_a_panel_per_target_and_one_for_ratios_of_their_own(tmp_path: Path) -> None:
    own = change(L1, target=math.nan, macs_reduction=0.3)
    published = change(FPGM, policy="published", macs_reduction=0.3)
    high = [change(group, target=0.841, macs_reduction=0.841) for group in (DAAR, L1)]
    figure = draw(*placed(tmp_path, own, published, *high, DAAR, L1))
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == [
        f"ResNet-56 on CIFAR-10, {words}"
        for words in ("50% of the MACs removed", "84.1% of the MACs removed", "at ratios of their own")
    ]
    assert set(lines(figure.axes[2])) == {"fpgm, published ratios", "L1"}


def test_damaged_and_absent_plans_are_named(tmp_path: Path) -> None:
    results, data = placed(tmp_path, L1)
    path = folder(results, L1[1]) / "plan.json"
    for damage in ('{"groups": [{"name": "conv1", "size": 0, "kept": []}]}', '{"groups": 3}', "[]", '{"groups": [1]}'):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"seed1/l1/uniform-all-0\.5/plan\.json should be a plan"):
            pruning_ratios.load_ratios(results, data)
    path.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        pruning_ratios.load_ratios(results, data)
    write_plan(path.parent, {"conv1": 8, "layer1.0.conv1": 8})
    with pytest.raises(InputError, match=r"'l1'.*seed.*same channel groups"):
        draw(results, data)


def test_many_groups_are_named_so_that_names_do_not_touch(tmp_path: Path) -> None:
    names = [f"layer{1 + k // 27}.{k % 27}.conv1" for k in range(81)]
    results = tmp_path / "results.csv"
    for row in L1:
        write_plan(folder(results, row), dict.fromkeys(names, 8), dict.fromkeys(names, 16))
    figure = draw(results, frame(L1))
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert 20 < len(boxes) < 81
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert min(box.y0 for box in boxes) >= 0


# how many series share a panel


def series(count: int) -> list[Series]:
    return [Series(f"v{k}", "uniform", f"Variant {k}", Look("#000000", "o"), "-", "full") for k in range(count)]


@pytest.mark.parametrize(
    ("count", "targets", "sizes"), [(7, 3, [7]), (8, 1, [4, 4]), (24, 2, [6] * 4), (24, 3, [8] * 3), (50, 9, [50])]
)
def test_as_many_series_share_a_panel_as_leave_a_picture_of_nine_panels(
    count: int, targets: int, sizes: list[int]
) -> None:
    shown = small_multiples.groups(series(count), targets)
    assert [len(group) for group in shown] == sizes
    assert list(itertools.chain(*shown)) == series(count)
    assert len(shown) * targets <= small_multiples.PANELS


def test_of_many_some_stand_before_the_others(tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    groups = [rows(f"v{k}", (92.0, 92.0)) for k in range(8)]
    for k, group in enumerate(groups):
        for row in group:
            write_plan(folder(results, row), {**EVEN, "conv1": k + 1})
    panels = draw(results, frame(*groups)).axes
    assert len(panels) == 2
    for first, panel in zip((0, 4), panels, strict=True):
        own = lines(panel)
        assert set(own) == {f"v{k}" for k in range(first, first + 4)}
        assert all(line.get_ydata()[0] == 100 * (1 - (int(label[1:]) + 1) / 16) for label, line in own.items())
        faint = [line.get_ydata()[0] for line in panel.lines if line not in own.values()]
        others = [j for j in range(8) if not first <= j < first + 4]
        np.testing.assert_allclose(sorted(faint), sorted(100 * (1 - (j + 1) / 16) for j in others))


def at(group: list[dict[str, Any]], target: float) -> list[dict[str, Any]]:
    return change(group, target=target, macs_reduction=target)


def test_of_many_at_few_targets_each_target_is_a_column(tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    groups = [
        at(rows(f"v{k}", (92.0, 92.0)), target) for target in (0.5, 0.7) for k in range(8 if target == 0.5 else 7)
    ]
    for k, group in enumerate(groups):
        for row in group:
            write_plan(folder(results, row), {**EVEN, "conv1": k % 8 + 1 + (row["target"] == 0.7)})
    panels = draw(results, frame(*groups)).axes
    said = [panel.get_title(loc="left") for panel in panels]
    left = [panel.get_window_extent().x0 for panel in panels]
    assert said == ["50% of the MACs removed", "70% of the MACs removed"] * 2
    assert left[0] == pytest.approx(left[2], abs=1)
    assert left[1] == pytest.approx(left[3], abs=1)
    named_groups = [any(label.get_text() for label in panel.get_xticklabels()) for panel in panels]
    assert named_groups == [False, False, True, True]
    assert len({panel.get_ylim() for panel in panels}) == 1


@pytest.mark.parametrize(
    "title", ["L1 <$x$> & \\textbf{y}", "A long title of a method (with many authors et al. 2017)" * 2]
)
@pytest.mark.parametrize(("count", "targets"), [(2, [0.5]), (8, [0.5]), (8, [0.5, 0.7])])
def test_nothing_is_clipped(tmp_path: Path, title: str, count: int, targets: list[float]) -> None:
    results = tmp_path / "results.csv"
    groups = [at(rows(f"v{k}", (92.0, 92.0)), target) for k in range(count) for target in targets]
    for k, group in enumerate(groups):
        for row in group:
            write_plan(folder(results, row), {**EVEN, "conv1": k // len(targets) + 1})
    figure = draw(results, frame(*groups), {f"v{k}": f"{k} {title}" for k in range(count)})
    parts = [panel.get_tightbbox() for panel in figure.axes] + [one.get_window_extent() for one in figure.legends]
    assert all(
        part.x0 >= 0 and part.x1 <= figure.bbox.x1 and part.y0 >= 0 and part.y1 <= figure.bbox.y1 for part in parts
    )
