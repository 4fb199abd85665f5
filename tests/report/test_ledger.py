"""The ledger and the tables of published results, from hand-made published rows and results with known verdicts."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from daar.cli.main import main
from daar.errors import InputError
from daar.report import ledger, literature, published
from daar.report.ledger import write_ledger
from daar.report.literature import PublishedResult
from daar.report.published import write_published
from daar.report.table_text import RECONSTRUCTION
from tests.report.report_rows import DAAR, DENSE, L1, RANDOM, TITLES, frame, lost, named, rows
from tests.report.test_literature import result

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<img src=x onerror=alert(1)> | $x$ [a](javascript:b) *c* `d`"
CONTROL_OF_L1 = {"variant": "at", "method": "random_at", "control": True, "of": "l1"}


def theirs(**changes: Any) -> PublishedResult:
    """A published result that can be compared with L1: the same Δ, −0.4, at 50 % of the MACs."""
    return result(
        **{"method": "L1 (PFEC)", "our_method": "l1", "variant": "B", "baseline_top1": 93.0, "pruned_top1": 92.6}
        | {"flops_reduction_pct": 50.0, "finetuned": "yes"}
        | changes
    )


def only(results: pd.DataFrame, *published_results: PublishedResult) -> ledger.LedgerEntry:
    """The one entry of a ledger."""
    (entry,) = ledger.compare(results, published_results).entries
    return entry


def taken(entries: list[ledger.LedgerEntry]) -> list[tuple[str, float]]:
    """Policy and MACs removed of our side."""
    return [(entry.ours.policy, round(entry.ours.macs_reduction, 9)) for entry in entries]


# verdicts: L1's Δ is the mean of −0.5, −0.3 and −0.4, its dense accuracy 93.2


def test_the_difference_by_hand() -> None:
    entry = only(frame(L1), theirs())
    assert entry.ours.delta == pytest.approx(-0.4)
    assert entry.difference == pytest.approx(0)
    assert (entry.verdict, entry.words, entry.reasons) == ("within tolerance", "within tolerance", [])
    assert (entry.ours.n, entry.ours.top1_dense, entry.ours.macs_reduction) == (3, pytest.approx(93.2), 0.5)


@pytest.mark.parametrize(
    ("pruned", "verdict", "words"),
    [
        (92.1, "within tolerance", "within tolerance"),  # theirs −0.9: exactly half a point lower
        (92.0, "off", "off by +0.60"),
        (93.2, "off", "off by −0.60"),
    ],
)
def test_tolerance_is_half_a_point(pruned: float, verdict: str, words: str) -> None:
    entry = only(frame(L1), theirs(pruned_top1=pruned))
    assert (entry.verdict, entry.words) == (verdict, words)


def test_the_interval_is_student_s_and_named_where_it_holds_theirs() -> None:
    spread = rows("l1", (92.5, 93.5, 92.8))
    entry = only(frame(spread), theirs(pruned_top1=92.0))
    deltas = np.array([92.5, 93.5, 92.8]) - np.array(DENSE)
    low, high = stats.t.interval(0.95, 2, loc=deltas.mean(), scale=stats.sem(deltas))
    assert (entry.ours.delta_low, entry.ours.delta_high) == (pytest.approx(low), pytest.approx(high))
    assert low < -1.0 < high
    assert entry.words == f"off by +{deltas.mean() + 1:.2f}, inside our 95 % interval"


def test_one_seed_has_no_interval() -> None:
    entry = only(frame(L1[:1]), theirs(pruned_top1=91.0))
    assert math.isnan(entry.ours.delta_low)
    assert entry.words == "off by +1.50"


@pytest.mark.parametrize(
    ("published_changes", "our_changes", "reason"),
    [
        ({"baseline_top1": None}, {}, "no dense accuracy is published, so there is no Δ"),
        ({"network": None, "our_network": None}, {}, "the source names no network"),
        ({"baseline_top1": 94.3, "pruned_top1": 93.9}, {}, "dense accuracies 1.10 points apart"),
        ({"flops_reduction_pct": 53.1}, {}, "MACs 3.1 points apart"),
        ({"counting": "masked"}, {}, "MACs of a masked network"),
        ({"selection": "best_test"}, {}, "theirs is the best epoch on test"),
        ({"finetuned": "no"}, {}, "theirs is not tuned"),
        ({"finetuned": "scratch"}, {}, "theirs is trained from scratch"),
        ({"tuning_epochs": 151}, {}, "tuned 150 epochs, theirs 151"),
        ({}, {"epochs": 0}, "ours is not tuned"),
        ({}, {"imported": True, "base_sha256": "a" * 64, "top1_dense": 93.2}, "our dense network is imported"),
    ],
)
def test_each_reason(published_changes: dict[str, Any], our_changes: dict[str, Any], reason: str) -> None:
    entry = only(frame(rows("l1", (92.5, 92.9, 93.0), **our_changes)), theirs(**published_changes))
    assert entry.reasons == [reason]
    assert (entry.verdict, entry.words) == ("not comparable", f"not comparable: {reason}")


def test_bounds_belong_to_what_is_comparable() -> None:
    for bound in ({"baseline_top1": 94.2, "pruned_top1": 93.8}, {"flops_reduction_pct": 53.0}, {"tuning_epochs": 150}):
        assert only(frame(L1), theirs(**bound)).reasons == []


def test_several_reasons_are_all_told() -> None:
    entry = only(frame(L1), theirs(counting="masked", selection="best_test", tuning_epochs=200))
    assert entry.words == (
        "not comparable: MACs of a masked network; theirs is the best epoch on test; tuned 150 epochs, theirs 200"
    )


def test_a_printed_difference_counts_where_there_is_no_other() -> None:
    lone = theirs(baseline_top1=None, pruned_top1=None, top1_drop=0.4, drop_sign="loss_positive")
    entry = only(frame(L1), lone)
    assert (entry.verdict, entry.difference) == ("within tolerance", pytest.approx(0))
    assert published.delta(lone) == "−0.40 (printed)"
    assert published.delta(theirs(top1_drop=0.5, drop_sign="loss_positive")) == "−0.40 (printed: −0.50)"
    assert published.delta(theirs(top1_drop=0.4, drop_sign="loss_positive")) == "−0.40"


# counterparts


def test_the_nearest_target_of_every_policy() -> None:
    far = rows("l1", (91.0, 91.0, 91.0), target=0.7, macs_reduction=0.7)
    own = rows("l1", (92.9, 92.9, 92.9), policy="published-pfec-b", target=float("nan"), macs_reduction=0.55)
    found = ledger.compare(frame(L1, far, own), [theirs(flops_reduction_pct=58.0)]).entries
    assert taken(found) == [("published-pfec-b", 0.55), ("uniform", 0.5)]
    found = ledger.compare(frame(L1, far, own), [theirs(flops_reduction_pct=61.0)]).entries
    assert taken(found) == [("published-pfec-b", 0.55), ("uniform", 0.7)]


def test_beyond_ten_points_there_is_no_counterpart() -> None:
    lost = [theirs(flops_reduction_pct=39.9), theirs(flops_reduction_pct=None), theirs(flops_reduction_pct=60.0)]
    found = ledger.compare(frame(L1), lost)
    assert (len(found.entries), found.far, found.without_macs) == (1, 1, 1)
    page = ledger.markdown(ledger.compare(frame(L1), lost[:2]), named(), {})
    assert "No published result has a counterpart in this suite." in page
    assert "1 print no MACs, 1 have no target of ours within 10 points" in page


@pytest.mark.parametrize(
    "changes",
    [
        *({"our_method": "fpgm"}, {"our_method": None}, {"our_dataset": "cifar100"}),
        *({"our_network": "resnet110"}, {"our_network": None}),
    ],
)
def test_others_are_no_counterpart(changes: dict[str, Any]) -> None:
    assert ledger.compare(frame(L1), [theirs(**changes)]) == ledger.Ledger([], 0, 0)


def test_failed_seeds_do_not_count() -> None:
    entry = only(frame([*L1[:2], lost(L1[2])]), theirs())
    assert (entry.ours.n, entry.ours.delta) == (2, pytest.approx(-0.4))
    assert ledger.compare(frame([*map(lost, L1), *DAAR]), [theirs()]) == ledger.Ledger([], 0, 0)


def test_controls_and_variants_with_options_are_no_counterpart() -> None:
    options = [row | {"options": json.dumps({"power": 1})} for row in rows("l1-power", (92.0, 92.0, 92.0), method="l1")]
    at = [row | CONTROL_OF_L1 for row in L1]
    found = ledger.compare(frame(RANDOM, options, at), [theirs(), theirs(our_method="random")])
    assert found == ledger.Ledger([], 0, 0)


def test_daar_s_abstract_stands_beside_every_network_and_first() -> None:
    deep = rows("daar", (93.3, 93.5, 93.4), policy="adaptive", network="resnet110", target=0.841, macs_reduction=0.84)
    near = rows("daar", (93.3, 93.5, 93.4), policy="adaptive", target=0.841, macs_reduction=0.84)
    entries = ledger.compare(frame(L1, near, deep), literature.load()).entries
    abstract = [entry for entry in entries if entry.theirs.our_method == "daar"]
    assert [entry.network for entry in abstract] == ["resnet110", "resnet56"]
    assert all("the source names no network" in entry.reasons for entry in abstract)
    first = next(entry for entry in entries if entry.network == "resnet56")
    assert first in abstract


def test_pfec_at_its_own_ratios_against_the_paper() -> None:
    """ResNet-56-B: 93.04 → 93.06 at 27.6 %; really slim, but the best epoch on test."""
    own = rows("l1", (92.9, 93.1, 93.0), policy="published-pfec-b", target=float("nan"), macs_reduction=0.2758)
    entries = ledger.compare(frame(own), literature.load()).entries
    (entry,) = [e for e in entries if e.theirs.variant == "pruned-B" and e.theirs.source_kind == "paper"]
    assert entry.theirs.delta == pytest.approx(0.02)
    assert entry.difference == pytest.approx(np.mean([92.9, 93.1, 93.0]) - np.mean(DENSE) - 0.02)
    assert entry.reasons == ["theirs is the best epoch on test"]


# files


def written(
    folder: Path, *groups: list[dict[str, Any]], titles: dict[str, str] | None = None
) -> tuple[str, pd.DataFrame]:
    frame(*groups).to_csv(folder / "results.csv", index=False)
    page, table = write_ledger(
        folder / "results.csv", folder / "tables", named(titles or TITLES), {"l1": ("a | b", "c")}
    )
    return page.read_text(encoding="utf-8"), pd.read_csv(table)


def test_the_ledger_of_the_real_resource(tmp_path: Path) -> None:
    page, table = written(tmp_path, L1, DAAR, RANDOM)
    counts = table["verdict"].value_counts()
    said = re.search(r"(\d+) comparisons with published results: (\d+) within tolerance, (\d+) off, (\d+) not", page)
    assert said
    assert list(map(int, said.groups())) == [
        len(table),
        *(counts.get(verdict, 0) for verdict in ("within tolerance", "off", "not comparable")),
    ]
    assert set(table["method"]) == {"l1"}  # DAAR's abstract is 34 points away
    expected = (table["published_pruned_top1"] - table["published_baseline_top1"]).dropna()
    assert np.allclose(table.loc[expected.index, "published_delta"], expected)
    assert np.allclose(table.loc[expected.index, "delta_difference"], table["delta"][expected.index] - expected)
    assert "## ResNet-56 on CIFAR-10" in page
    assert "L1 differs from its source: a \\| b; c." in page
    assert RECONSTRUCTION not in page
    again, _ = written(tmp_path, RANDOM, DAAR, L1)
    assert again == page


def test_daar_s_numbers_carry_the_notice(tmp_path: Path) -> None:
    near = [row | {"target": 0.84, "macs_reduction": 0.84} for row in DAAR]
    page, _ = written(tmp_path, near)
    assert RECONSTRUCTION in page


def test_digits_have_a_ledger_that_says_so(tmp_path: Path) -> None:
    digits = [row | {"dataset": "digits", "network": "resnet20"} for row in L1]
    page, table = written(tmp_path, digits)
    assert page == (
        "# Ledger: our numbers next to the published ones\n\nNo published result has a counterpart in this suite.\n"
    )
    assert table.empty
    assert {"verdict", "reasons", "delta_difference", "published_delta"} <= set(table.columns)
    assert write_published(tmp_path / "tables", [("digits", "resnet20")]) == []


def test_an_unfair_suite_has_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unfair"):
        written(tmp_path, L1, [row | {"recipe": "e" * 12} for row in DAAR])
    assert not (tmp_path / "tables").exists()


def test_hostile_names_are_escaped() -> None:
    results = frame(rows("l1", (92.5, 92.9, 93.0), policy=HOSTILE))
    their = theirs(variant=HOSTILE, source_url="https://example.org/)|<b>`")
    pages = (
        ledger.markdown(ledger.compare(results, [their]), named({"l1": HOSTILE}), {"l1": (HOSTILE,)}),
        published.markdown([their], "cifar10", HOSTILE),
    )
    for page in pages:
        # a bar that is not escaped would open another cell
        table = [line for line in page.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert not re.search(r"(?<!\\)<img|(?<!\\)\[a\]|(?<!\\)\$x|(?<!\\)`d", page)
        assert "(https://example.org/%29%7C%3Cb%3E%60)" in page


# published results of a pair


def test_the_table_of_a_pair(tmp_path: Path) -> None:
    paths = write_published(tmp_path, [("cifar10", "resnet110"), ("digits", "resnet20")])
    assert [path.name for path in paths] == ["cifar10-resnet110-published.md", "cifar10-resnet110-published.csv"]
    table = pd.read_csv(paths[1])
    assert len(table) == len(literature.of_pair("cifar10", "resnet110"))
    assert table["method"].iloc[0] == "DAAR"
    reductions = table["macs_reduction"].iloc[1:].dropna()
    assert reductions.is_monotonic_increasing
    assert table["macs_reduction"].iloc[len(reductions) + 1 :].isna().all()
    both = table.dropna(subset=["baseline_top1", "pruned_top1"])
    assert np.allclose(both["delta"], both["pruned_top1"] - both["baseline_top1"])
    page = paths[0].read_text(encoding="utf-8")
    assert "# Published results: ResNet-110 on CIFAR-10" in page
    assert "+0.06 (printed: +0.16)" in page  # FPGM pre-trained: 93.68 → 93.74
    assert "[arXiv:1608.08710](https://arxiv.org/abs/1608.08710)" in page
    assert "The source of DAAR names no network" in page


def test_points_for_a_figure() -> None:
    points = published.points("cifar10", "resnet56")
    assert list(points.columns) == ["macs_reduction", "pruned_top1", "drop", "label", "source"]
    assert points["macs_reduction"].between(0, 1).all()
    assert points["pruned_top1"].between(80, 100).all()
    assert points["macs_reduction"].is_monotonic_increasing
    assert "DAAR" not in set(points["label"])
    # PFEC's pruned-B is quoted by others; once is enough, from the paper
    pfec = points[(points["label"] == "L1 (PFEC)") & (points["pruned_top1"] == 93.06)]
    assert pfec[["macs_reduction", "drop", "source"]].values.tolist() == [[0.276, pytest.approx(-0.02), "paper"]]
    untuned = points[(points["label"] == "GAL") & (points["pruned_top1"] == 90.36)]
    assert untuned.empty
    assert published.points("digits", "resnet20").empty


# the command


def test_report_writes_both(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    folder.mkdir()
    frame(L1, DAAR, RANDOM).to_csv(folder / "results.csv", index=False)
    suite = str(ROOT / "workflow" / "config" / "paper.yaml")
    for part in ("ledger", "published"):
        main(["report", suite, "--results", str(tmp_path), "--only", part])
    names = {path.name for path in (folder / "tables").iterdir()}
    pairs = ("cifar10-resnet56", "cifar10-resnet110", "cifar10-vgg16_bn")
    assert names == {
        f"{stem}{end}" for stem in ("ledger", *(f"{p}-published" for p in pairs)) for end in (".md", ".csv")
    }
    page = (folder / "tables" / "ledger.md").read_text(encoding="utf-8")
    assert "the paper sets ratios by hand" in page  # L1's deviation, from its own INFO
