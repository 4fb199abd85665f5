"""Means and spreads over seeds."""

import math

import numpy as np
import pytest
import scipy.stats

from daar.report.statistics import by_variant, dense, half_width, summarise
from tests.report.report_rows import DENSE, L1, change, frame, lost, rows


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


@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_interval_against_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(90, 3, n)
    mean, std, _ = summarise(values)
    low, high = scipy.stats.t.interval(0.95, n - 1, np.mean(values), scipy.stats.sem(values))
    half = half_width(std, n)
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))


def test_fewer_than_two_values_have_no_interval() -> None:
    assert math.isnan(half_width(1.0, 1))
    assert math.isnan(half_width(math.nan, 0))


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
    # what was tuned is of every seed
    assert row["top1_tuned_mean"] == pytest.approx(np.mean([92.5, 92.9, 93.0]))


def test_counts_are_means_over_seeds() -> None:
    sizes = [
        row | {"macs_slim": size, "params_reduction": size / 100} for row, size in zip(L1, (10, 20, 60), strict=True)
    ]
    row = by_variant(frame(sizes)).iloc[0]
    assert (row["macs_slim_mean"], row["params_reduction_mean"]) == (30.0, pytest.approx(0.3))
    # one blank has no mean
    assert math.isnan(by_variant(frame(change(L1, 1, macs_slim_thop=None))).iloc[0]["macs_slim_thop_mean"])


def test_settings_without_a_record_are_asked_for_but_do_not_count() -> None:
    row = by_variant(frame([lost(L1[2]), L1[0], lost(L1[1])])).iloc[0]
    assert (row["n"], row["n_asked"], row["bases"], row["failed_seeds"]) == (1, 3, 1, "1, 2")
    assert row["top1_tuned_mean"] == 92.5
    assert by_variant(frame(L1)).iloc[0]["failed_seeds"] == ""


def test_ratios_of_their_own_are_rows_too() -> None:
    assert by_variant(frame(L1, change(L1, target=float("nan"))))["own_ratios"].tolist() == [False, True]


def test_nothing_is_validated_on_what_a_base_has_seen() -> None:
    half = change(L1, 1, saw_val=True)
    row = by_variant(frame(half)).iloc[0]
    assert row["saw_val"]
    assert math.isnan(row["val_top1_tuned_mean"])
    assert math.isnan(row["top1_best_val_mean"])
    assert row["top1_tuned_mean"] == pytest.approx(np.mean([92.5, 92.9, 93.0]))
    assert dense(frame(half))["saw_val"]
    unseen = by_variant(frame(L1)).iloc[0]
    assert (unseen["saw_val"], unseen["val_top1_tuned_mean"], unseen["top1_best_val_mean"]) == (False, 92.0, 93.0)


def test_the_dense_row_is_of_networks_not_of_settings() -> None:
    whole = dense(frame(L1, rows("fpgm", (90.0, 90.0, 90.0)), [lost(L1[0] | {"seed": 3, "base_sha256": "3" * 64})]))
    assert whole == {
        **{"variant": "dense", "control": False, "own_ratios": False, "n": 3, "n_asked": 3, "bases": 3},
        **{"failed_seeds": "", "saw_val": False},
        "top1_dense_mean": pytest.approx(np.mean(DENSE)),
        "top1_dense_std": pytest.approx(np.std(DENSE, ddof=1)),
        "top5_dense_mean": pytest.approx(math.nan, nan_ok=True),
        "top5_dense_std": pytest.approx(math.nan, nan_ok=True),
        **{"macs_slim_mean": 125_485_696.0, "macs_slim_thop_mean": 126_000_000.0, "params_slim_mean": 853_018.0},
        **{"macs_reduction_mean": 0.0, "params_reduction_mean": 0.0},
    }
