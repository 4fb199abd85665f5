"""The table and the figure of how many calibration images an importance needs, from JSON written by hand."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import pytest

from daar.errors import InputError
from daar.report import drawing, stability
from daar.report.stability import write_stability
from tests.report.report_rows import named

# images → correlation: mean, std; overlap is half of it
DAAR: dict[int, tuple[float, float | None]] = {10: (0.5, 0.1), 640: (0.9, 0.02)}
L1: dict[int, tuple[float, float | None]] = {10: (1.0, 0.0), 640: (1.0, 0.0)}
TITLES = {"daar": "DAAR, reconstructed", "l1": "L1|<b>$x$"}


def content(method: str, counts: dict[int, tuple[float, float | None]], seeds: int = 3) -> dict[str, Any]:
    """The form of workflow/schemas/stability.schema.yaml."""
    pairs = seeds * (seeds - 1) // 2
    rows = []
    for images, (mean, std) in counts.items():
        row: dict[str, Any] = {"images": images}
        for name, factor in (("correlation", 1.0), ("overlap", 0.5)):
            row[name] = {"mean": factor * mean, "std": std if std is None else factor * std, "n": pairs}
            row[f"{name}_to_largest"] = {"mean": factor * mean, "std": std, "n": seeds}
        rows.append(row)
    return {
        **{"format": 1, "network": "resnet20", "dataset": "digits", "method": method, "options": {}, "scope": "all"},
        **{"target": 0.6, "seeds": list(range(seeds)), "groups": 12, "random_overlap": 0.36, "counts": rows},
    }


FOUND = {"daar": content("daar", DAAR), "l1": content("l1", L1)}


def test_frame_has_a_row_per_variant_and_count() -> None:
    table = stability.frame(FOUND, named(TITLES))
    assert list(zip(table["variant"], table["images"], strict=True)) == [
        *(("daar", 10), ("daar", 640)),
        *(("l1", 10), ("l1", 640)),
    ]
    assert list(table["title"]) == [TITLES["daar"]] * 2 + [TITLES["l1"]] * 2
    assert list(table["correlation_mean"]) == [0.5, 0.9, 1.0, 1.0]
    assert list(table["overlap_std"]) == [0.05, 0.01, 0.0, 0.0]
    assert set(table["correlation_n"]) == set(table["correlation_to_largest_n"]) == {3}
    assert set(table["random_overlap"]) == {0.36}


def test_one_pair_has_no_spread() -> None:
    table = stability.frame({"daar": content("daar", {10: (0.5, None)}, seeds=2)}, named())
    assert pd.isna(table["correlation_std"]).all()
    assert "| 0.500 | 0.250 |" in re.sub(" +", " ", stability.markdown({"daar": content("daar", DAAR)}, table))


def test_markdown_is_escaped_and_says_what_it_is() -> None:
    text = stability.markdown(FOUND, stability.frame(FOUND, named(TITLES)))
    assert text.startswith("# Calibration images: ResNet-20 on Digits\n")
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    assert "| DAAR, reconstructed | 10 | 0.500 ± 0.100 | 0.250 ± 0.050 | 0.500 ± 0.100 | 0.250 ± 0.100 |" in lines
    assert any(line.startswith(r"| L1\|\<b\>\$x\$ | 640 |") for line in lines)
    assert "3 calibration seeds" in text
    assert "60% of MACs" in text
    assert "random sets have 0.360" in text
    assert "DAAR here is a reconstruction" in text
    alone = {"l1": FOUND["l1"]}
    assert "reconstruction" not in stability.markdown(alone, stability.frame(alone, named()))


def test_the_figure_shows_the_means_and_their_spread() -> None:
    given = drawing.looks(("daar", "hrank", "l1"), ())
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure: Any = stability.figure(FOUND, stability.frame(FOUND, named(TITLES)), given)
        figure.draw_without_rendering()
    for panel, factor in zip(figure.axes, (1.0, 0.5), strict=True):
        lines = {line.get_label(): line for line in panel.lines if not str(line.get_label()).startswith("_")}
        assert set(lines) == set(TITLES.values())
        for title, counts, variant in ((TITLES["daar"], DAAR, "daar"), (TITLES["l1"], L1, "l1")):
            np.testing.assert_allclose(lines[title].get_xdata(), list(counts))
            np.testing.assert_allclose(lines[title].get_ydata(), [factor * mean for mean, _ in counts.values()])
            assert (lines[title].get_color(), lines[title].get_marker()) == given[variant]
        heights = panel.collections[0].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (pytest.approx(0.4 * factor), pytest.approx(0.92 * factor))
    (random,) = (line for line in figure.axes[1].lines if str(line.get_label()).startswith("_"))
    assert set(random.get_ydata()) == {0.36}


def test_files_are_deterministic_and_looks_are_those_of_the_whole_suite(tmp_path: Path) -> None:
    place = tmp_path / "digits" / "resnet20" / "stability"
    place.mkdir(parents=True)
    for variant, one in FOUND.items():
        (place / f"{variant}.json").write_text(json.dumps(one))
    titles = TITLES | {"a": "another", "random": "random"}

    def make() -> dict[str, bytes]:
        paths = write_stability(tmp_path, [("digits", "resnet20")], ("daar", "l1"), named(titles), ("random",))
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in paths}

    made = make()
    assert made == make()
    assert list(made) == [
        f"{folder}/digits-resnet20-stability.{kind}"
        for folder, kinds in (("tables", ("md", "csv")), ("figures", ("png", "svg")))
        for kind in kinds
    ]
    svg = made["figures/digits-resnet20-stability.svg"].decode()
    assert "L1|&lt;b&gt;$x$" in svg
    # DAAR has the first colour everywhere, `a` the second, as in the figures that show it
    assert drawing.COLOURS[0].lower() in svg
    assert drawing.COLOURS[1].lower() not in svg


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"daar\.json should be what `daar stability` wrote, but there is no such"):
        write_stability(tmp_path, [("digits", "resnet20")], ("daar",), named())
    path = tmp_path / "digits" / "resnet20" / "stability" / "daar.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**FOUND["daar"], "groups": 0}))
    with pytest.raises(InputError, match=r"daar\.json: groups: .*Make it again"):
        write_stability(tmp_path, [("digits", "resnet20")], ("daar",), named())
