"""Published results, the rows of workflow/resources/published_results.csv.

Columns and units are those of workflow/schemas/published_results.schema.yaml; figures are as printed, slips of the
sources included. What can be computed from them is a property of `PublishedResult`.

Imported while the DAG is built: neither torch nor numpy.
"""

import csv
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar import models
from daar.errors import InputError
from daar.storage.bundled import RESOURCES
from daar.storage.documents import read_text
from daar.storage.schemas import schema, validate

FILE = RESOURCES / "published_results.csv"
_REMEDY = "Restore it from git, or mend the row."
# printed accuracies are rounded, so their difference may be a hundredth off the printed one
_ROUNDING = 0.015


@dataclass(frozen=True)
class PublishedResult:
    """One published result; attributes as in the schema, None where the source says nothing."""

    method: str
    our_method: str | None
    paper_title: str | None
    year: int | None
    venue: str | None
    doi_or_arxiv: str | None
    dataset: str
    our_dataset: str | None
    network: str | None
    our_network: str | None
    variant: str | None
    baseline_top1: float | None
    pruned_top1: float | None
    top1_drop: float | None
    drop_sign: str | None
    baseline_top5: float | None
    pruned_top5: float | None
    flops_million: float | None
    flops_reduction_pct: float | None
    speed_up: float | None
    counting: str | None
    params_million: float | None
    params_reduction_pct: float | None
    finetuned: str | None
    tuning_epochs: int | None
    selection: str | None
    source_url: str
    source_kind: str
    note: str | None

    @property
    def printed_delta(self) -> float | None:
        """The printed difference as pruned − dense, in points."""
        if self.top1_drop is None:
            return None
        return -self.top1_drop if self.drop_sign == "loss_positive" else self.top1_drop

    @property
    def computed_delta(self) -> float | None:
        """Pruned − dense, in points, from the two accuracies."""
        if self.baseline_top1 is None or self.pruned_top1 is None:
            return None
        return self.pruned_top1 - self.baseline_top1

    @property
    def delta(self) -> float | None:
        """Computed where both accuracies are published, else as printed."""
        return self.printed_delta if self.computed_delta is None else self.computed_delta

    @property
    def contradicts_itself(self) -> bool:
        """Whether the printed difference is not that of the printed accuracies."""
        if self.printed_delta is None or self.computed_delta is None:
            return False
        return abs(self.printed_delta - self.computed_delta) > _ROUNDING

    @property
    def macs_reduction(self) -> float | None:
        """Fraction of the MACs removed: as printed, of the printed speed-up, or of our count of the dense network.

        The last only where the source may count as we do.
        """
        if self.flops_reduction_pct is not None:
            return self.flops_reduction_pct / 100
        if self.speed_up is not None:
            return 1 - 1 / self.speed_up
        known = self.flops_million is not None and self.our_network in models.NETWORKS
        if not known or self.counting in ("masked", "double"):
            return None
        return 1 - float(self.flops_million or 0) * 1e6 / models.get(str(self.our_network)).macs


def pairs() -> set[tuple[str, str]]:
    """The (dataset, network), by our names, that have published results; quick, since no row is validated."""
    return {(row["our_dataset"], row["our_network"]) for row in _raw(FILE) if row["our_dataset"] and row["our_network"]}


@functools.cache
def load(file: Path = FILE) -> tuple[PublishedResult, ...]:
    """All published results, in the order of the file.

    Raises:
        InputError: it cannot be read, or a row breaks the schema; names row and column.
    """
    kinds = schema("published_results")["properties"]
    results = []
    for number, row in enumerate(_raw(file), start=2):
        where = f"{file}, line {number}"
        if None in row or None in row.values():
            raise InputError(f"{where}: expected {len(kinds)} cells, as the head has. {_REMEDY}")
        typed = {column: _typed(cell, kinds.get(column, {})) for column, cell in row.items()}
        validate(typed, "published_results", where, _REMEDY)
        results.append(PublishedResult(**typed))
    return tuple(results)


def of_pair(dataset: str, network: str, file: Path = FILE) -> list[PublishedResult]:
    """Published results of one (dataset, network), and those on the dataset whose source names no network."""
    return [one for one in load(file) if one.our_dataset == dataset and (one.our_network == network or not one.network)]


@functools.cache
def _raw(file: Path) -> list[dict[str, str]]:
    try:
        lines = io.StringIO(read_text(file, "published results"), newline="")
        return list(csv.DictReader(lines, strict=True))
    except (ValueError, csv.Error) as error:
        why = " ".join(str(error).split())
        raise InputError(f"published results {file} cannot be read: {why}. Restore it from git.") from error


def _typed(cell: str, kind: dict[str, Any]) -> Any:
    """A cell as its column's type; text that is no number stays text, for the schema to refuse."""
    if not cell:
        return None
    kinds = kind.get("type", "number" if "$ref" in kind else "string")
    try:
        if "integer" in kinds:
            return int(cell)
        return float(cell) if "number" in kinds else cell
    except ValueError:
        return cell
