"""The figure of tuning curves, from records whose means and extremes are worked out by hand."""

import math
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest

from daar.errors import InputError
from daar.report import drawing, tuning_curves
from tests.report.report_files import folder, write_curve
from tests.report.report_rows import TITLES, change, frame, named, rows

DAAR = rows("daar", (93.3, 93.5), policy="adaptive")
L1 = rows("l1", (92.5, 92.9))
# by variant and seed
VAL = {"daar": ([80.0, 90.0, 92.0], [84.0, 88.0, 93.0]), "l1": ([70.0, 80.0, 90.0], [70.0, 82.0, 91.0])}


def placed(tmp_path: Path, *groups: list[dict[str, Any]]) -> tuple[Path, Any]:
    results = tmp_path / "results.csv"
    for row in (row for group in groups for row in group):
        write_curve(folder(results, row), VAL[row["variant"]][row["seed"]])
    return results, frame(*groups)


def draw(results: Path, data: Any, titles: dict[str, str] = TITLES) -> Any:
    with matplotlib.style.context(["default", drawing.STYLE]):
        curves = tuning_curves.load_curves(results, data)
        figure = tuning_curves.draw_tuning_curves(data, curves, named(titles), drawing.looks_of(data))
        figure.draw_without_rendering()
    return figure


def lines(panel: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in panel.lines}


def test_lines_are_means_and_bands_reach_from_least_to_most(tmp_path: Path) -> None:
    panel, lr = draw(*placed(tmp_path, DAAR, L1)).axes
    drawn = lines(panel)
    assert set(drawn) == {"DAAR (reconstructed)", "L1"}
    assert drawn["DAAR (reconstructed)"].get_xydata().tolist() == [[1, 82.0], [2, 89.0], [3, 92.5]]
    assert drawn["L1"].get_ydata().tolist() == [70.0, 81.0, 90.5]
    band = panel.collections[0].get_paths()[0].vertices
    for epoch, low, high in ((1, 80, 84), (2, 88, 90), (3, 92, 93)):
        at = band[band[:, 0] == epoch][:, 1]
        assert (at.min(), at.max()) == (low, high)
    np.testing.assert_allclose(lr.lines[0].get_ydata(), [0.01, 0.001, 0.001])
    assert {label.get_text() for label in lr.get_yticklabels()} >= {"0", "0.009"}
    assert panel.get_ylabel() == "Top-1 on val (%)"


def test_the_loss_of_training_where_val_was_seen(tmp_path: Path) -> None:
    figure = draw(*placed(tmp_path, change(L1, saw_val=True, imported=True)))
    assert figure.axes[0].get_ylabel() == "Training loss (nats)"
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert "loss of training is shown" in figure.get_supxlabel().replace("\n", " ")


def test_the_loss_of_training_where_val_was_not_measured(tmp_path: Path) -> None:
    results, data = placed(tmp_path, L1)
    for path in tmp_path.rglob("record.json"):
        path.write_text(path.read_text().replace("90.0", "null").replace("91.0", "null"))
    assert draw(results, data).axes[0].get_ylabel() == "Training loss (nats)"


def test_a_panel_per_target_over_one_lr(tmp_path: Path) -> None:
    high = change(L1, target=0.841, macs_reduction=0.841)
    own = change(L1, target=math.nan, policy="global", macs_reduction=0.2)
    figure = draw(*placed(tmp_path, L1, high, own))
    titles = [panel.get_title(loc="left").removeprefix("ResNet-56 on CIFAR-10, ") for panel in figure.axes]
    assert titles == ["50% of the MACs removed", "84.1% of the MACs removed", "at ratios of their own", ""]


def test_networks_from_scratch_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    results, data = placed(tmp_path, L1)
    both = frame(L1, change(rows("again", (92.0, 92.0)), method="scratch_of", of="l1", control=True))
    assert tuning_curves.load_curves(results, both).equals(tuning_curves.load_curves(results, data))
    figure = draw(results, both)
    assert set(lines(figure.axes[0])) == {"L1"}
    assert "from scratch" in figure.get_supxlabel()


def test_nothing_tuned_gives_no_rows(tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    for row in L1:
        write_curve(folder(results, row), [])
    assert tuning_curves.load_curves(results, frame(L1)).empty


def test_damaged_and_absent_records_are_named(tmp_path: Path) -> None:
    results, data = placed(tmp_path, L1)
    path = folder(results, L1[1]) / "record.json"
    for damage in ("{}", '{"curve": [{"epoch": 1}]}', "[]", '{"curve": [{"epoch": "x", "lr": 1}]}', '{"curve": 1}'):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"seed1/l1/uniform-all-0\.5/record\.json should be a record"):
            tuning_curves.load_curves(results, data)
    path.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        tuning_curves.load_curves(results, data)


@pytest.mark.parametrize("title", ["L1 <$x$> & \\textbf{y}", "A long title of a method (by many et al. 2017)" * 3])
def test_nothing_is_clipped(tmp_path: Path, title: str) -> None:
    figure = draw(*placed(tmp_path, DAAR, L1), titles=dict.fromkeys(("daar", "l1"), title))
    whole = figure.bbox
    for part in [*(panel.get_tightbbox() for panel in figure.axes), figure.legends[0].get_window_extent()]:
        assert part.x0 >= 0
        assert part.y0 >= 0
        assert part.x1 <= whole.x1
        assert part.y1 <= whole.y1
