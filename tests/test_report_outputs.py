"""Statistics, fairness and tables, from frames with the columns of results.csv."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from daar.errors import InputError
from daar.report import fairness, tables, write_figures, write_tables
from daar.report.collect import COLUMNS
from daar.report.statistics import by_variant, summarise

BLANK = {"string": "x", "bool": False, "int64": 1, "Int64": 1, "float64": 1.0}
COMMON = {name: BLANK[dtype] for name, dtype in COLUMNS.items()} | {
    **{"suite": "paper", "dataset": "cifar10", "network": "resnet56", "policy": "uniform", "scope": "all"},
    **{"target": 0.5, "recipe": "0123456789ab", "epochs": 150, "calibration_images": 640, "options": "{}"},
    **{
        "macs_dense": 125_485_696,
        "macs_slim": 62_742_848,
        "macs_dense_thop": 126_000_000,
        "macs_slim_thop": 63_000_000,
    },
    **{"macs_reduction": 0.5, "params_dense": 853_018, "params_slim": 426_509, "params_reduction": 0.5},
    **{"top1_pruned": 10.0, "top1_recalibrated": 60.125, "top1_best_val": 93.0, "val_top1_tuned": 92.0},
    **{"hardware_cpu": "EPYC_7", "hardware_cores": 2, "hardware_gpu": pd.NA},
    **{name: float("nan") for name in COLUMNS if "top5" in name},  # as below 100 classes
}
DENSE = (93.0, 93.2, 93.4)
TITLES = {"daar": "DAAR (reconstruction)", "l1": "L1 (Li et al. 2017)"}


def rows(variant: str, tuned: tuple[float, ...], **changes: Any) -> list[dict[str, Any]]:
    """One row per seed, of bases with the accuracies DENSE."""
    own = {"variant": variant, "method": variant, "control": variant == "random"}
    return [
        COMMON | own | {"seed": k, "base_sha256": f"{k}" * 64, "top1_dense": DENSE[k], "top1_tuned": top1} | changes
        for k, top1 in enumerate(tuned)
    ]


def frame(*groups: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for group in groups for row in group])[list(COLUMNS)].astype(COLUMNS)


L1 = rows("l1", (92.5, 92.9, 93.0))
DAAR = rows("daar", (93.3, 93.5, 93.4), policy="adaptive")
RANDOM = rows("random", (92.0, 92.0, 92.0), recipe="f" * 12, epochs=200)


def csv(folder: Path, *groups: list[dict[str, Any]]) -> Path:
    path = folder / "results.csv"
    frame(*groups).to_csv(path, index=False)
    return path


# statistics


def test_summary_against_numpy() -> None:
    values = np.random.default_rng(0).normal(90, 3, 7)
    mean, std, n = summarise(values)
    assert (mean, std, n) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)), 7)


def test_summary_by_hand() -> None:
    # deviations −2, 0, 2: the sum of squares is 8, over n − 1 it is 4
    assert summarise([1, 3, 5]) == (3.0, 2.0, 3)
    assert summarise([1, 3]) == (2.0, math.sqrt(2), 2)
    mean, std, n = summarise([4.0])
    assert (mean, n) == (4.0, 1)
    assert math.isnan(std)
    blank = summarise([1.0, float("nan")])
    assert math.isnan(blank.mean)
    assert math.isnan(blank.std)
    assert summarise([97.6] * 3).std == 0


def test_delta_is_recomputed_from_the_raw_columns() -> None:
    row = by_variant(frame(L1).assign(delta_top1=99.0)).iloc[0]
    differences = np.array([92.5, 92.9, 93.0]) - np.array(DENSE)
    assert row["delta_top1_mean"] == pytest.approx(differences.mean())
    assert row["delta_top1_std"] == pytest.approx(np.std(differences, ddof=1))
    # paired: smaller than what independent spreads would give
    assert row["delta_top1_std"] < row["top1_tuned_std"]


def test_one_imported_base_has_no_spread() -> None:
    imported = rows("l1", (92.5, 92.9, 93.0), base_sha256="a" * 64, imported=True, top1_dense=93.1)
    row = by_variant(frame(imported)).iloc[0]
    assert (row["n"], row["bases"], row["top1_dense_mean"]) == (3, 1, 93.1)
    assert math.isnan(row["top1_dense_std"])


# fairness


def change(group: list[dict[str, Any]], seed: int | None = None, **changes: Any) -> list[dict[str, Any]]:
    return [row | changes if seed in (None, row["seed"]) else row for row in group]


FAIR = {
    "plain": (L1, DAAR),
    "a control with a recipe of its own": (L1, DAAR, RANDOM),
    "half a point of MACs": (L1, change(DAAR, macs_reduction=0.495)),
    "other MACs at another target": (L1, change(DAAR, target=0.7, macs_reduction=0.7)),
    "other MACs, published": (L1, change(DAAR, policy="published", macs_reduction=0.3)),
    "other MACs, no target": (L1, change(DAAR, target=float("nan"), macs_reduction=0.3)),
    "seeds of another target": (L1, change(DAAR[:2], target=0.7, macs_reduction=0.7)),
    "another network": (L1, change(DAAR, network="vgg16_bn", scope="inner", recipe="e" * 12, base_sha256="9" * 64)),
}


@pytest.mark.parametrize("name", FAIR)
def test_fair(name: str) -> None:
    fairness.check(frame(*FAIR[name]))


UNFAIR = {
    "base": (change(DAAR, 1, base_sha256="9" * 64), ("base_sha256", "'daar'", "seed 1", "9" * 64, "1" * 64)),
    "recipe": (change(DAAR, 2, recipe="e" * 12), ("recipe", "'daar'", "seed 2", "e" * 12, "0123456789ab")),
    "scope": (change(DAAR, 0, scope="inner"), ("scope", "'daar'", "inner", "all")),
    "scope of another target": (change(DAAR[:1], target=0.7, scope="inner"), ("scope", "'daar'", "70%", "inner")),
    "images": (change(DAAR, 0, calibration_images=64), ("calibration_images", "'daar'", "64", "640")),
    "suite": (change(DAAR, 0, suite="demo"), ("suite", "'daar'", "demo", "paper")),
    "options": (change(DAAR, 0, options='{"a": 1}'), ("options", "'daar'", '{"a": 1}', "{}")),
    "macs": (change(DAAR, 1, macs_reduction=0.4949), ("macs_reduction", "'daar'", "seed 1", "49.49%", "50.00%")),
    "seeds": (DAAR[:2], ("seed", "'daar'", "0, 1,", "0, 1, 2", "Run seed 2")),
    "seeds, published": (
        [*change(L1, policy="published"), *change(DAAR[1:], policy="published", macs_reduction=0.3)],
        ("'daar'", "published", "Run seed 0"),
    ),
    "base of a control": (change(RANDOM, 0, base_sha256="9" * 64), ("base_sha256", "'random'")),
    "scope of a control": (change(RANDOM, scope="inner"), ("scope", "'random'")),
    "images of a control": (change(RANDOM, calibration_images=64), ("calibration_images", "'random'")),
    "macs of a control": (change(RANDOM, macs_reduction=0.51), ("macs_reduction", "'random'")),
    "seeds of a control": (RANDOM[1:], ("'random'", "Run seed 0")),
}


@pytest.mark.parametrize("name", UNFAIR)
def test_unfair(tmp_path: Path, name: str) -> None:
    group, expected = UNFAIR[name]
    path = csv(tmp_path, L1, rows("fpgm", (92.6, 92.7, 92.8)), group)
    for write in (write_tables, write_figures):
        with pytest.raises(InputError) as error:
            write(path, tmp_path / "out", {})
        for part in ("cifar10/resnet56", *expected):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()


# tables

# worked out by hand. Tuned l1: mean 92.8, deviations −0.3, 0.1, 0.2, std √(0.14 / 2) = 0.26, Δ −0.5, −0.3, −0.4.
# daar: mean 93.4, std 0.1, Δ 0.3, 0.3, 0.0. random: Δ −1.0, −1.2, −1.4. Dense: mean 93.2, std 0.2.
GOLDEN = """\
# ResNet-56 on CIFAR-10

- Scope: all. Seeds: 0, 1, 2. Calibration images: 640.
- Tuning recipe: `0123456789ab`, 150 epochs; `ffffffffffff`, 200 epochs for random.
- Hardware: EPYC\\_7 (2 cores), no GPU.

| Method | Policy | Dense top-1 | Pruned top-1 (no tuning) | BN recalibrated | Tuned top-1 | Δ (tuned − dense) \
| FLOPs (MACs), removed | Params, removed | MACs by thop | Best-val top-1 | Val top-1 |
|:-|:-|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|
| Dense | – | 93.20 ± 0.20 (3) | – | – | – | – | 125.5M (0.00%) | 853.0K (0.00%) | 126.0M | – | – |
| **Target: 50% of the MACs removed** | | | | | | | | | | | |
| DAAR (reconstruction) | adaptive | 93.20 | 10.00 | 60.12 | 93.40 ± 0.10 (3) | +0.20 \
| 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |
| L1 (Li et al. 2017) | uniform | 93.20 | 10.00 | 60.12 | 92.80 ± 0.26 (3) | −0.40 \
| 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |
| random (control) | uniform | 93.20 | 10.00 | 60.12 | 92.00 ± 0.00 (3) | −1.20 \
| 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |

- Accuracies are percent of the test images, Val top-1 of the validation images; tuned: last epoch, best-val: epoch \
with the best validation accuracy.
- Mean ± sample standard deviation (n). Δ is taken per seed, in points, then averaged.
- FLOPs means MACs: multiply-accumulates of conv and linear layers for one image; thop adds BN.
- DAAR here is a reconstruction from the abstract; its numbers are not the paper's.
"""


def squeezed(text: str) -> str:
    """Without the padding of the table's cells."""
    return re.sub("-{2,}", "-", re.sub(" +", " ", text))


def test_golden_markdown(tmp_path: Path) -> None:
    page, _ = write_tables(csv(tmp_path, RANDOM, L1, DAAR), tmp_path / "tables", TITLES)
    assert page.name == "cifar10-resnet56.md"
    assert squeezed(page.read_text(encoding="utf-8")) == GOLDEN


def test_top5_stands_beside_top1_where_it_was_measured(tmp_path: Path) -> None:
    dense, tuned = (99.0, 99.2, 99.4), (98.0, 98.5, 99.0)
    measured = [
        change(L1, dataset="cifar100", top5_dense=value, top5_tuned=tuned[k])[k] for k, value in enumerate(dense)
    ]
    own = [row | {"target": float("nan"), "macs_reduction": 0.3, "top5_tuned": 97.0} for row in measured]
    pages = write_tables(csv(tmp_path, measured, own, L1), tmp_path / "tables", {})
    assert [page.name for page in pages[::2]] == ["cifar10-resnet56.md", "cifar100-resnet56.md"]
    assert "top-5" not in pages[0].read_text(encoding="utf-8")
    text = pages[2].read_text(encoding="utf-8")
    assert text.startswith("# ResNet-56 on CIFAR-100\n")
    header, *cells = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if re.match(r"\| (Method|Dense|l1) ", line)
    )
    at = header.index("Dense top-5")
    assert header[at - 1 : at + 3] == ["Δ (tuned − dense)", "Dense top-5", "Tuned top-5", "FLOPs (MACs), removed"]
    # by hand: deviations of 0.2 and of 0.5 from the mean on either side
    assert [row[at : at + 2] for row in cells if row != header] == [
        ["99.20 ± 0.20 (3)", "–"],
        ["99.20", "98.50 ± 0.50 (3)"],
        ["99.20 ± 0.20 (3)", "–"],
        ["99.20", "97.00 ± 0.00 (3)"],
    ]


def test_csv_has_the_numbers_apart(tmp_path: Path) -> None:
    _, path = write_tables(csv(tmp_path, RANDOM, L1, DAAR), tmp_path / "tables", TITLES)
    table = pd.read_csv(path)
    assert list(table["variant"]) == ["dense", "daar", "l1", "random"]
    assert list(table["n"]) == [3, 3, 3, 3]
    assert list(table["control"]) == [False, False, False, True]
    tuned = np.array([[93.3, 93.5, 93.4], [92.5, 92.9, 93.0], [92.0, 92.0, 92.0]])
    np.testing.assert_allclose(table["top1_tuned_mean"][1:], tuned.mean(1), rtol=1e-15)
    np.testing.assert_allclose(table["top1_tuned_std"][1:], tuned.std(1, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(table["delta_top1_mean"][1:], (tuned - DENSE).mean(1), rtol=1e-12)
    assert list(table["macs_slim_mean"]) == [125_485_696, *[62_742_848] * 3]


def methods(text: str) -> list[str]:
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]


def test_groups_by_target_and_own_ratios_by_macs() -> None:
    high = [change(group, target=0.7, macs_reduction=0.7) for group in (L1, DAAR)]
    none = change(L1, target=float("nan"), policy="global", macs_slim=30_000_000, macs_reduction=0.76)
    published = change(rows("hrank", (92.0, 92.0, 92.0)), policy="published", macs_slim=60_000_000, macs_reduction=0.52)
    text = tables.markdown(frame(none, *high, published, L1, DAAR), TITLES | {"daar": "zeta"})
    first, second = text.split("## At ratios of their own")
    titles = ["L1 (Li et al. 2017)", "zeta"]
    assert methods(first) == [
        *("Method", "Dense", "**Target: 50% of the MACs removed**", *titles),
        *("**Target: 70% of the MACs removed**", *titles),
    ]
    assert methods(second) == ["Method", "Dense", "hrank", "L1 (Li et al. 2017)"]
    alone = tables.markdown(frame(none), {})
    assert methods(alone) == ["Method", "Dense", "l1"]


def test_imported_base_that_saw_val() -> None:
    imported = rows("l1", (92.5, 92.9, 93.0), base_sha256="a" * 64, imported=True, saw_val=True, top1_dense=93.1)
    data = frame(imported)
    text = tables.markdown(data, {})
    assert "One base, 3 tunings" in text
    assert "nothing was chosen on them" in text
    assert "reconstruction" not in text
    dense, _, method = (line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| (Dense|\*|l1)", line))
    assert dense[2].strip() == "93.10 (1)"
    assert [cell.strip() for cell in method[-2:]] == ["", "seen"]
    numeric = tables.table(data, {}).iloc[1]
    assert pd.isna(numeric["top1_best_val_mean"])
    assert pd.isna(numeric["val_top1_tuned_mean"])


def test_single_seed_has_no_spread() -> None:
    text = tables.markdown(frame(rows("l1", (92.5,), macs_slim_thop=pd.NA, top1_best_val=float("nan"))), {})
    cells = [cell.strip() for cell in text.splitlines()[10].split("|")[1:-1]]
    assert (cells[0], cells[5], cells[9], cells[10]) == ("l1", "92.50 (1)", "–", "–")


def test_names_cannot_break_the_table() -> None:
    odd = rows("l1", (92.5,), hardware_gpu="<b>|GPU|\n$x$")
    text = tables.markdown(frame(odd), {"l1": "a|b *c* `d` [e](f)\n# g"})
    assert r"| a\|b \*c\* \`d\` \[e\](f) \# g " in text
    assert r"\<b\>\|GPU\| \$x\$." in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4.089e9, "4.09G"),
        (125_485_696, "125.5M"),
        (9_994_000, "9.99M"),
        (853_018, "853.0K"),
        (12, "12"),
        (math.nan, "–"),
    ],
)
def test_count(number: float, text: str) -> None:
    assert tables.count(number) == text


@pytest.mark.parametrize(
    ("points", "text"), [(-0.4, "−0.40"), (0.126, "+0.13"), (0.0, "0.00"), (-0.004, "0.00"), (-12.5, "−12.50")]
)
def test_signed(points: float, text: str) -> None:
    assert tables.signed(points) == text
