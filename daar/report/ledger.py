"""The ledger: our numbers next to the published ones, each with a verdict, from results.csv alone.

A published result has a counterpart where dataset, network and method are ours, the variant has no options of its own,
and its nearest target removes as many MACs to within `NEAR_POINTS`. docs/protocol.md says how to read it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from daar.report import fairness, literature
from daar.report.collect import finished, read_results
from daar.report.literature import PublishedResult
from daar.report.markdown import bullets, escape, pipe_table
from daar.report.names import pair_title
from daar.report.published import KINDS, delta, source
from daar.report.statistics import half_width, summarise
from daar.report.table_text import RECONSTRUCTION, mean_std_n, percent, signed
from daar.storage.files import write_text
from daar.suite import definition
from daar.suite.names import Names

NEAR_POINTS = 10.0  # of MACs: beyond it there is no counterpart
MACS_POINTS = 3.0
BASE_POINTS = 1.0
# A published Δ is of one run, ours a mean over seeds. At the usual spread of 0.2 points between seeds their difference
# has a standard deviation of 0.2 · sqrt(1 + 1/3) = 0.23; this is about twice that.
TOLERANCE = 0.5
WITHIN, OFF, NOT = "within tolerance", "off", "not comparable"


class Ours(NamedTuple):
    """Seeds of one (variant, policy, target): accuracies in percent, `delta` in points with its 95 % interval."""

    variant: str
    method: str
    policy: str
    target: float
    n: int
    top1_dense: float
    top1_tuned: float
    top1_tuned_std: float
    delta: float
    delta_low: float
    delta_high: float
    macs: float
    macs_reduction: float
    epochs: int
    imported: bool


class LedgerEntry(NamedTuple):
    """A published result and ours of the same dataset, network and method, with nearly the same MACs removed."""

    dataset: str
    network: str
    theirs: PublishedResult
    ours: Ours

    @property
    def difference(self) -> float:
        """Our Δ − theirs, in points; NaN where they publish none."""
        return math.nan if self.theirs.delta is None else self.ours.delta - self.theirs.delta

    @property
    def reasons(self) -> list[str]:
        """Why the two are not comparable; empty where they are."""
        theirs, ours = self.theirs, self.ours
        base = None if theirs.baseline_top1 is None else ours.top1_dense - theirs.baseline_top1
        macs = 100 * abs(ours.macs_reduction - (theirs.macs_reduction or 0))
        conditions = {
            "no dense accuracy is published, so there is no Δ": theirs.delta is None,
            "the source names no network": not theirs.network,
            f"dense accuracies {abs(base or 0):.2f} points apart": base is not None and _exceeds(base, BASE_POINTS),
            f"MACs {macs:.1f} points apart": _exceeds(macs, MACS_POINTS),
            "MACs of a masked network": theirs.counting == "masked",
            "theirs is the best epoch on test": theirs.selection == "best_test",
            "theirs is not tuned": theirs.finetuned == "no",
            "ours is not tuned": ours.epochs == 0,
            "theirs is trained from scratch": theirs.finetuned == "scratch",
            f"tuned {ours.epochs} epochs, theirs {theirs.tuning_epochs}": ours.epochs < (theirs.tuning_epochs or 0),
            "our dense network is imported": ours.imported,
        }
        return [reason for reason, holds in conditions.items() if holds]

    @property
    def verdict(self) -> str:
        """`NOT` where a reason holds, else `WITHIN` or `OFF`."""
        if self.reasons:
            return NOT
        return OFF if _exceeds(self.difference, TOLERANCE) else WITHIN

    @property
    def words(self) -> str:
        """The verdict as a reader should see it."""
        if self.reasons:
            return f"{NOT}: {'; '.join(self.reasons)}"
        if self.verdict == WITHIN:
            return WITHIN
        inside = self.ours.delta_low <= (self.theirs.delta or 0) <= self.ours.delta_high
        return f"off by {signed(self.difference)}" + (", inside our 95 % interval" if inside else "")


class Ledger(NamedTuple):
    """All entries of a suite, and how many results of its methods have none: without MACs, or without a near target."""

    entries: list[LedgerEntry]
    without_macs: int
    far: int


def write_ledger(
    results: Path,
    folder: Path,
    names: Names,
    deviations: Mapping[str, Sequence[str]],
    macs_points: float = definition.MACS_POINTS,
) -> list[Path]:
    """Write `ledger.md` and `ledger.csv` into `folder`.

    Args:
        results: the results.csv.
        folder: where they go.
        names: of the rows.
        deviations: variant -> where it differs from the paper that it follows, phrases.
        macs_points: as `fairness.check` takes it.

    Returns:
        The files written.

    Raises:
        InputError: results.csv or the published results are damaged, or the suite's own comparison is not fair.
    """
    frame = read_results(results)
    fairness.check(frame, macs_points)
    ledger = compare(frame, literature.load())
    paths = [Path(folder) / "ledger.md", Path(folder) / "ledger.csv"]
    write_text(paths[0], markdown(ledger, names, deviations))
    write_text(paths[1], table(ledger).to_csv(index=False, lineterminator="\n"))
    return paths


def compare(results: pd.DataFrame, published: Sequence[PublishedResult]) -> Ledger:
    """Find the counterparts of published results.

    Args:
        results: rows of results.csv, fair ones.
        published: of any dataset, network and method.

    Returns:
        The entries by dataset, network, method (DAAR first) and MACs removed; then in the order of `published`.
    """
    entries, lost = [], Counter[str]()
    for (dataset, network), rows in results.groupby(["dataset", "network"]):
        ours = summaries(rows)
        for theirs in published:
            if theirs.our_dataset != dataset or (theirs.network and theirs.our_network != network):
                continue
            of_method = [one for one in ours if one.method == theirs.our_method]
            removed = theirs.macs_reduction
            near = [] if removed is None else _nearest(of_method, removed)
            entries += [LedgerEntry(str(dataset), str(network), theirs, one) for one in near]
            if of_method and not near:
                lost["macs" if removed is None else "far"] += 1
    entries.sort(key=lambda e: (e.dataset, e.network, e.ours.method != "daar", e.ours.method, e.theirs.macs_reduction))
    return Ledger(entries, lost["macs"], lost["far"])


def summaries(rows: pd.DataFrame) -> list[Ours]:
    """Our settings of one (dataset, network): methods as published, so neither controls nor variants with options."""
    rows = finished(rows)
    rows = rows[~rows["control"] & (rows["options"] == "{}")]
    ours = []
    for (variant, policy, _), group in rows.groupby(["variant", "policy", "target"], dropna=False):
        deltas, tuned = summarise(group["top1_tuned"] - group["top1_dense"]), summarise(group["top1_tuned"])
        half = half_width(deltas.std, deltas.n)
        ours.append(
            Ours(
                str(variant), str(group["method"].iloc[0]), str(policy), float(group["target"].iloc[0]), deltas.n,
                summarise(group.drop_duplicates("base_sha256")["top1_dense"]).mean,
                tuned.mean, tuned.std, deltas.mean, deltas.mean - half, deltas.mean + half,
                summarise(group["macs_slim"].astype(float)).mean, summarise(group["macs_reduction"]).mean,
                int(group["epochs"].min()), bool(group["imported"].any()),
            )
        )  # fmt: skip
    return ours


def _nearest(ours: Sequence[Ours], removed: float) -> list[Ours]:
    """The setting of every variant and policy that is nearest to this fraction of MACs removed, if near enough."""
    nearest: dict[tuple[str, str], Ours] = {}
    for one in sorted(ours, key=lambda one: abs(one.macs_reduction - removed)):
        if not _exceeds(100 * (one.macs_reduction - removed), NEAR_POINTS):
            nearest.setdefault((one.variant, one.policy), one)
    return [nearest[key] for key in sorted(nearest)]


def _exceeds(points: float, bound: float) -> bool:
    # rounding of a subtraction must not turn a difference of exactly the bound into more
    return abs(points) > bound + 1e-9


def table(ledger: Ledger) -> pd.DataFrame:
    """The numeric ledger, one row per entry: the published result, ours, and the verdict."""
    rows = []
    for entry in ledger.entries:
        theirs, ours = entry.theirs, entry.ours._asdict()
        # its fields first, so that an empty ledger has the same columns
        rows.append(
            {"dataset": entry.dataset, "network": entry.network}
            | {f"published_{name}": getattr(theirs, name) for name in _PUBLISHED}
            | {name: ours[name] for name in Ours._fields}
            | {
                "delta_difference": entry.difference,
                "top1_difference": math.nan if theirs.pruned_top1 is None else ours["top1_tuned"] - theirs.pruned_top1,
                "tolerance": TOLERANCE,
                "verdict": entry.verdict,
                "reasons": "; ".join(entry.reasons),
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS)


_PUBLISHED = (
    "method", "variant", "baseline_top1", "pruned_top1", "delta", "printed_delta", "contradicts_itself",
    "flops_million", "macs_reduction", "counting", "finetuned", "tuning_epochs", "selection",
    "source_kind", "source_url", "note",
)  # fmt: skip
_COLUMNS = [
    *("dataset", "network"), *(f"published_{name}" for name in _PUBLISHED), *Ours._fields,
    *("delta_difference", "top1_difference", "tolerance", "verdict", "reasons"),
]  # fmt: skip


def markdown(ledger: Ledger, names: Names, deviations: Mapping[str, Sequence[str]]) -> str:
    """The ledger as a page. Arguments as for `write_ledger`."""
    head = "# Ledger: our numbers next to the published ones"
    if not ledger.entries:
        return f"{head}\n\nNo published result has a counterpart in this suite.{_left_out(ledger)}\n"
    verdicts = Counter(entry.verdict for entry in ledger.entries)
    total = len(ledger.entries)
    parts = [
        head,
        f"{total} comparison{'' if total == 1 else 's'} with published results: {verdicts[WITHIN]} within tolerance, "
        f"{verdicts[OFF]} off, {verdicts[NOT]} not comparable.{_left_out(ledger)}",
    ]
    pairs = dict.fromkeys((entry.dataset, entry.network) for entry in ledger.entries)
    for dataset, network in pairs:
        cells = [_cells(e, names) for e in ledger.entries if (e.dataset, e.network) == (dataset, network)]
        grid = pipe_table(pd.DataFrame(cells), ["left"] * 2 + ["right"] * 9 + ["left"])
        parts += [f"## {escape(pair_title(network, dataset))}", grid]
    return "\n\n".join((*parts, _notes(ledger, names, deviations))) + "\n"


def _left_out(ledger: Ledger) -> str:
    counts = (
        (ledger.without_macs, "print no MACs"),
        (ledger.far, f"have no target of ours within {NEAR_POINTS:g} points of their MACs"),
    )
    said = ", ".join(f"{count} {words}" for count, words in counts if count)
    return f" Published results of its methods without a counterpart: {said}." if said else ""


def _cells(entry: LedgerEntry, names: Names) -> dict[str, str]:
    theirs, ours = entry.theirs, entry.ours
    variant = theirs.variant or theirs.method
    named = variant if variant.startswith(theirs.method) else f"{theirs.method}, {variant}"
    interval = "" if math.isnan(ours.delta_low) else f" [{signed(ours.delta_low)}, {signed(ours.delta_high)}]"
    return {
        "Published": f"{escape(named)} ({KINDS[theirs.source_kind]}, {source(theirs)})",
        "Ours": f"{escape(names.row(ours.variant, ours.policy))}",
        "Their dense": percent(theirs.baseline_top1),
        "Our dense": percent(ours.top1_dense),
        "Their pruned": percent(theirs.pruned_top1),
        "Our pruned": mean_std_n(ours.top1_tuned, ours.top1_tuned_std, str(ours.n)),
        "Their Δ": delta(theirs),
        "Our Δ": escape(signed(ours.delta) + interval),
        "Δ: ours − theirs": "–" if math.isnan(entry.difference) else signed(entry.difference),
        "Their MACs removed": f"{100 * (theirs.macs_reduction or 0):.1f}%",
        "Our MACs removed": f"{100 * ours.macs_reduction:.1f}%",
        "Verdict": escape(entry.words),
    }


def _notes(ledger: Ledger, names: Names, deviations: Mapping[str, Sequence[str]]) -> str:
    variants = dict.fromkeys(entry.ours.variant for entry in ledger.entries)
    notes = [
        "Accuracies are percent of the test images; ours is the last epoch, mean ± sample standard deviation (n).",
        "Δ is pruned − dense, in points, computed from the published accuracies; *printed* where the source gives the "
        "difference alone, or another one. Ours is taken per seed; in brackets its 95 % interval (Student's t).",
        f"Within tolerance: the two Δ differ by at most {TOLERANCE:g} points. Not comparable: a rule says that they "
        "cannot be compared with each other, whatever their difference. The dense accuracies may differ by "
        f"{BASE_POINTS:g} point, the MACs removed by {MACS_POINTS:g} points.",
        *(
            f"How {escape(names.variant(name))} differs from its source: {escape('; '.join(deviations[name]))}."
            for name in variants
            if deviations.get(name)
        ),
    ]
    if any(entry.ours.method == "daar" for entry in ledger.entries):
        notes.append(RECONSTRUCTION)
    return bullets(notes)
