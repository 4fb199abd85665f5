"""Means and spreads over seeds."""

import math

import numpy as np
import pytest

from daar.report.statistics import by_variant, summarise
from tests.report.report_rows import DENSE, L1, frame, rows


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
