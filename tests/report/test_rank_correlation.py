"""The figure of rank correlation, against ranks counted by hand and another implementation."""

import itertools
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest
import safetensors.numpy
import scipy.stats

from daar.errors import InputError
from daar.report import drawing, rank_correlation
from tests.report.report_files import folder, write_importance
from tests.report.report_rows import TITLES, change, frame, named, rows

GROUPS = [rows(name, (92.0, 92.5)) for name in ("daar", "l1", "random")]


def float32(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def placed(tmp_path: Path, *groups: list[dict[str, Any]]) -> tuple[Path, Any]:
    results = tmp_path / "results.csv"
    for index, row in enumerate(row for group in groups for row in group):
        write_importance(folder(results, row).parent, index)
    return results, frame(*groups)


def test_by_hand() -> None:
    # layer a: ranks 1 2 3 4 and 1 3 2 4 differ by 1, 1: 1 − 6 · 2 / (4 · 15) = 0.8; layer b: reversed, −1
    one = {"a": float32(0.1, 0.2, 0.3, 0.4), "b": float32(1, 2, 3)}
    other = {"a": float32(1, 30, 20, 400), "b": float32(3, 2, 1)}
    np.testing.assert_allclose(rank_correlation.correlations([one, other]), [[1, -0.1], [-0.1, 1]], atol=1e-12)


def test_ties_have_their_mean_rank() -> None:
    # 1, 2.5, 2.5, 4 and 1, 2, 3, 4, centred: (2.25 + 2.25) / √(4.5 · 5)
    tied, other = {"a": float32(0, 5, 5, 9)}, {"a": float32(1, 2, 3, 4)}
    assert rank_correlation.correlations([tied, other])[0, 1] == pytest.approx(4.5 / np.sqrt(22.5))


def test_constants_rank_nothing() -> None:
    flat, other = {"a": float32(1, 1, 1)}, {"a": float32(1, 2, 3)}
    np.testing.assert_allclose(
        rank_correlation.correlations([flat, flat, other]), [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-12
    )


def test_files_against_scipy_one_pair_one_layer_one_seed_at_a_time(tmp_path: Path) -> None:
    results, data = placed(tmp_path, *GROUPS)
    found = rank_correlation.load_correlations(results, data, ("daar", "l1", "random"))["cifar10", "resnet56"]
    assert (found.variants, found.layers, found.values.shape) == (("daar", "l1", "random"), 4, (2, 3, 3))
    for seed, (a, b) in itertools.product((0, 1), itertools.combinations(range(3), 2)):
        both = [
            safetensors.numpy.load_file(tmp_path / f"cifar10/resnet56/seed{seed}/{name}/importance.safetensors")
            for name in (found.variants[a], found.variants[b])
        ]
        each = [scipy.stats.spearmanr(both[0][layer], both[1][layer]).statistic for layer in both[0]]
        assert found.values[seed, a, b] == found.values[seed, b, a] == pytest.approx(np.mean(each))


def test_independent_scores_are_uncorrelated_and_equal_ones_are_the_same(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    layers = {f"conv{k}": dice.random(64).astype(np.float32) for k in range(50)}
    other = {name: dice.random(64).astype(np.float32) for name in layers}
    monotone = {name: np.exp(vector) for name, vector in layers.items()}
    found = rank_correlation.correlations([layers, monotone, other])
    assert found[0, 1] == pytest.approx(1)
    # the deviation of one is 1/√63, of the mean of 50 a seventh of that
    assert abs(found[0, 2]) < 4 / np.sqrt(63 * 50)


def test_policies_share_an_importance_and_unscored_variants_have_none(tmp_path: Path) -> None:
    adaptive = [change(group, policy="adaptive") for group in GROUPS]
    control = change(rows("at", (90.0, 90.0)), method="random_at", of="l1", control=True)
    results, _ = placed(tmp_path, *GROUPS)
    data = frame(*GROUPS, *adaptive, control)
    found = rank_correlation.load_correlations(results, data, ("daar", "l1"))["cifar10", "resnet56"]
    assert (found.variants, found.values.shape) == (("daar", "l1"), (2, 2, 2))
    assert rank_correlation.load_correlations(results, data, ("l1",)) == {}


def test_a_seed_that_a_variant_lacks_is_left_out(tmp_path: Path) -> None:
    results, _ = placed(tmp_path, *GROUPS)
    whole = rank_correlation.load_correlations(results, frame(*GROUPS), ("daar", "l1"))["cifar10", "resnet56"]
    part = rank_correlation.load_correlations(results, frame(GROUPS[0], GROUPS[1][1:]), ("daar", "l1"))[
        "cifar10", "resnet56"
    ]
    np.testing.assert_array_equal(part.values, whole.values[1:])
    assert rank_correlation.load_correlations(results, frame(GROUPS[0][:1], GROUPS[1][1:]), ("daar", "l1")) == {}


def test_absent_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    results, data = placed(tmp_path, *GROUPS)
    path = tmp_path / "cifar10/resnet56/seed1/l1/importance.safetensors"

    def load() -> None:
        rank_correlation.load_correlations(results, data, ("daar", "l1"))

    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"seed1/l1/importance\.safetensors should hold importances"):
        load()
    safetensors.numpy.save_file({"conv1": float32(1, 2)}, path)
    with pytest.raises(InputError, match=r"seed1/l1/importance\.safetensors should score the same layers as .*daar/"):
        load()
    path.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        load()


@pytest.mark.parametrize("names", [("daar", "l1"), tuple(f"v{k}" for k in range(12))])
def test_the_heat_map_says_every_number_and_clips_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    results, data = placed(tmp_path, *(rows(name, (92.0, 92.5)) for name in names))
    found = rank_correlation.load_correlations(results, data, names)["cifar10", "resnet56"]
    titles = TITLES if len(names) == 2 else dict.fromkeys(names, "A <$x$> long title (with authors et al. 2017): v")
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure: Any = rank_correlation.draw_rank_correlation(data, found, named(titles))
        figure.draw_without_rendering()
    (panel,) = figure.axes
    mean = found.values.mean(axis=0)
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in panel.texts}
    assert set(shown) == {(row, column) for row in range(len(names)) for column in range(row + 1)}
    for place, text in shown.items():
        assert float(text.get_text().replace("−", "-")) == pytest.approx(mean[place], abs=0.005)
        # a number fits its cell
        corners = panel.transData.transform([(-0.5, -0.5), (0.5, 0.5)])
        assert text.get_window_extent().width < abs(corners[1, 0] - corners[0, 0])
    boxes = [label.get_window_extent() for label in panel.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in itertools.pairwise(boxes))
    box = panel.get_tightbbox()
    assert (box.x0 >= 0, box.y0 >= 0) == (True, True)
    assert (box.x1 <= figure.bbox.x1, box.y1 <= figure.bbox.y1) == (True, True)
    assert ("reconstruction" in figure.get_supxlabel()) == ("daar" in names)
