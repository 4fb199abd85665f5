"""Paired differences against scipy, and by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from daar.report.differences import best_comparison, between, differences, paired, plain
from daar.suite.names import Names
from tests.report.report_rows import DAAR, L1, NAMES, RANDOM, change, frame, lost, rows


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_is_that_of_a_paired_t_test(n: int) -> None:
    one, other = np.random.default_rng(n).normal(90, 1, (2, n))
    found = between(dict(enumerate(one)), dict(enumerate(other)))
    interval = scipy.stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.mean, found.n) == (pytest.approx((one - other).mean()), n)
    assert found.tied == (scipy.stats.ttest_rel(one, other).pvalue >= 0.05)


def test_interval_by_hand() -> None:
    # mean 2, s = 1; the tables give t(0.975, 2) = 4.3027
    found = paired([1.0, 2.0, 3.0])
    assert found.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-4)
    assert found.low == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4)
    assert found.tied


def test_few_and_equal_differences() -> None:
    one = paired([0.5])
    assert (one.mean, one.n, one.tied) == (0.5, 1, None)
    assert math.isnan(one.low)
    assert paired([]).n == 0
    assert paired([]).tied is None
    # equal differences say nothing of how much they vary, but for networks that do not differ at all
    for equal in ([0.5, 0.5, 0.5], [0.1 + 0.2, 0.3]):
        same = paired(equal)
        assert (same.mean, same.n, same.tied) == (pytest.approx(equal[0]), len(equal), None)
        assert math.isnan(same.low)
        assert math.isnan(same.high)
    assert paired([0.0, 0.0]) == (0.0, 0.0, 0.0, 2)
    assert paired([0.0, 0.0]).tied is True


def test_only_common_seeds_count() -> None:
    expected = paired([1.0, 2.0])
    assert between({0: 1.0, 1: 5.0, 2: 9.0}, {1: 4.0, 2: 7.0, 3: 0.0}) == expected
    assert (expected.mean, expected.n) == (1.5, 2)


def test_the_best_is_no_control_and_no_daar() -> None:
    better = change(rows("random", (99.0, 99.0, 99.0)), control=True)
    fpgm = rows("fpgm", (92.4, 92.9, 93.0))
    assert best_comparison(frame(L1, fpgm, better, DAAR), NAMES) == ("l1", "uniform")
    # equal means: by title, neither by name nor by the case of a letter
    equal = frame(L1, rows("fpgm", (92.5, 92.9, 93.0)))
    assert best_comparison(equal, Names({"l1": "a", "fpgm": "Z"})) == ("l1", "uniform")
    assert best_comparison(equal, Names({"l1": "Z", "fpgm": "a"})) == ("fpgm", "uniform")
    # every policy is a row of its own
    assert best_comparison(frame(L1, change(L1, policy="global", top1_tuned=93.0)), NAMES) == ("l1", "global")
    assert best_comparison(frame(DAAR, better), NAMES) is None
    assert best_comparison(frame([lost(row) for row in L1]), NAMES) is None


def test_a_row_cut_off_is_no_reference_beside_whole_ones() -> None:
    # FPGM has the highest mean, of one seed
    fpgm = rows("fpgm", (99.0, 99.0, 99.0))
    one_seed = [fpgm[0], *map(lost, fpgm[1:])]
    assert best_comparison(frame(one_seed, L1), NAMES) == ("l1", "uniform")
    assert best_comparison(frame(one_seed, DAAR), NAMES) == ("fpgm", "uniform")
    # of rows with as many seeds each the highest mean
    assert best_comparison(frame(one_seed, [lost(row) for row in L1[1:]] + L1[:1]), NAMES) == ("fpgm", "uniform")


def test_the_plain_row() -> None:
    both = [*DAAR, *change(DAAR, policy="uniform")]
    assert plain(frame(both), "daar", NAMES) == ("daar", "adaptive")
    assert plain(frame(both), "daar", Names(policies={"daar": "uniform"})) == ("daar", "uniform")
    assert plain(frame(both), "daar", Names(policies={"daar": "global"})) == ("daar", "adaptive")
    assert plain(frame(L1), "daar", NAMES) is None
    a, b, c = (change(DAAR, variant=name, options=options) for name, options in (("a", "{}"), ("b", "{}"), ("c", "x")))
    assert plain(frame(a, b, c), "daar", Names({"a": "z", "b": "y", "c": "x"})) == ("b", "adaptive")
    # the variant of the method's name comes first, whatever its options, and under a policy of its own
    named = change(DAAR, options="x")
    other = change(DAAR, variant="a", policy="uniform")
    assert plain(frame(named, other), "daar", NAMES) == ("daar", "adaptive")
    # a control at DAAR's widths is none of its variants
    assert plain(frame(change(DAAR, of="daar")), "daar", NAMES) is None


def test_frame_of_differences() -> None:
    own = change(L1, target=float("nan"), policy="published", macs_reduction=0.3)
    found = differences(frame(RANDOM, L1, DAAR, own), NAMES).set_index(["reference", "variant"])
    assert set(found.index) == {
        *(("best comparison", "daar"), ("best comparison", "random")),
        *(("DAAR", "l1"), ("DAAR", "random")),
    }
    line = found.to_dict("index")["best comparison", "daar"]
    interval = scipy.stats.ttest_rel([93.3, 93.5, 93.4], [92.5, 92.9, 93.0]).confidence_interval(0.95)
    assert (line["low"], line["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (line["n"], line["seeds"], line["tied"]) == (3, "0, 1, 2", False)
    assert (line["reference_variant"], line["reference_policy"], line["target"]) == ("l1", "uniform", 0.5)
    assert list(found["policy"]) == ["adaptive", "uniform", "uniform", "uniform"]
    assert list(found["control"]) == [False, True, False, True]
    assert differences(frame(own), NAMES).empty


def test_without_daar_there_is_one_reference() -> None:
    compared = differences(frame(L1, RANDOM), NAMES)
    assert set(compared["reference"]) == {"best comparison"}
    assert list(compared["variant"]) == ["random"]


def test_seeds_are_those_that_both_rows_have() -> None:
    line = differences(frame([L1[0], L1[1], lost(L1[2])], [lost(DAAR[0]), *DAAR[1:]]), NAMES).iloc[0]
    assert (line["seeds"], line["n"]) == ("1", 1)
    assert line["mean"] == pytest.approx(93.5 - 92.9)
    assert math.isnan(line["low"])
