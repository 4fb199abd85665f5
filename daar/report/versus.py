"""Two suites: tuned top-1 of the rows with the same name and target, as a table of one of them.

A difference is taken per seed, with an interval, where both suites pruned the same dense network of each seed; else it
is that of the means, without one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from daar.errors import InputError
from daar.report import sheet_files
from daar.report.collect import finished, read_results, state
from daar.report.differences import Difference, between
from daar.report.fairness import own_ratios
from daar.report.names import pair_title
from daar.report.notes import on_intervals
from daar.report.sheet import Cell, Section, Sheet, grid, headed
from daar.report.statistics import summarise
from daar.report.table_text import RECONSTRUCTION, difference, mean_std_n, target_heading
from daar.suite.names import Names

_KEY = ["dataset", "network", "of_target", "title"]
# what may differ between suites, and explains a difference
_CONDITIONS = {
    **{"recipe": "tuning recipe", "epochs": "epochs of tuning", "precision": "precision of tuning"},
    **{"calibration_images": "calibration images", "scope": "scope", "train_recipe": "training recipe"},
    **{"top1_dense": "dense top-1", "hardware_cpu": "CPU", "hardware_gpu": "GPU"},
}


class Side(NamedTuple):
    """A suite of the two: its name, its results.csv, and the names of its rows."""

    suite: str
    results: Path
    names: Names


def write_versus(ours: Side, theirs: Side, folder: Path) -> list[Path]:
    """Write `versus-<their suite>` in all forms of a table.

    Args:
        ours: the suite whose table it is.
        theirs: the suite that it is compared with.
        folder: of our tables.

    Returns:
        The files written.

    Raises:
        InputError: a results.csv cannot be read, or no row of both has the same name and target.
    """
    numbers, both = compare(ours, theirs)
    page = _sheet(ours.suite, theirs.suite, numbers, both)
    return sheet_files.write(folder / f"versus-{theirs.suite}", page, numbers)


def compare(ours: Side, theirs: Side) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """One line for each row that both suites have, and the rows of results.csv that they are of, ours and theirs.

    Returns:
        dataset, network, target (NaN at ratios of its own), title; for each side the mean, standard deviation and n of
        tuned top-1, `ours_…` and `theirs_…`; `mean`, `low`, `high`, `n`, `tied` of ours − theirs, in points; `paired`.
    """
    known = [_rows(side) for side in (ours, theirs)]
    groups = [dict(iter(rows.groupby(_KEY, dropna=False))) for rows in known]
    common = [key for key in groups[0] if key in groups[1]]
    if not common:
        raise InputError(
            f"suites {ours.suite!r} and {theirs.suite!r} should have rows with the same name and target, but have none "
            f"({known[0]['title'].nunique()} and {known[1]['title'].nunique()} names). Give --with another suite."
        )
    lines = [dict(zip(_KEY, key, strict=True)) | _line(groups[0][key], groups[1][key]) for key in common]
    numbers = pd.DataFrame(lines).sort_values(
        ["dataset", "network", "of_target", "ours_mean", "title"], ascending=[True, True, True, False, True]
    )
    numbers = numbers.assign(target=pd.to_numeric(numbers.pop("of_target"), errors="coerce"))
    both = [pd.concat([own[key] for key in common]) for own in groups]
    return numbers.reset_index(drop=True), both


def _rows(side: Side) -> pd.DataFrame:
    rows = finished(read_results(side.results))
    target = rows["target"].astype(object).where(~own_ratios(rows), "own")
    titles = [side.names.row(variant, policy) for variant, policy in zip(rows["variant"], rows["policy"], strict=True)]
    return rows.assign(title=titles, of_target=target.map(str))


def _line(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for name, rows in (("ours", ours), ("theirs", theirs)):
        mean, std, n = summarise(rows["top1_tuned"])
        line |= {f"{name}_mean": mean, f"{name}_std": std, f"{name}_n": n}
    bases = [dict(zip(rows["seed"], rows["base_sha256"], strict=True)) for rows in (ours, theirs)]
    seeds = bases[0].keys() & bases[1].keys()
    paired = bool(seeds) and all(bases[0][seed] == bases[1][seed] for seed in seeds)
    if paired:
        tuned = [dict(zip(rows["seed"], rows["top1_tuned"], strict=True)) for rows in (ours, theirs)]
        points = between(tuned[0], tuned[1])
    else:
        nan = float("nan")
        points = Difference(line["ours_mean"] - line["theirs_mean"], nan, nan, min(line["ours_n"], line["theirs_n"]))
    return line | points._asdict() | {"tied": points.tied, "paired": paired}


def _sheet(ours: str, theirs: str, numbers: pd.DataFrame, both: list[pd.DataFrame]) -> Sheet:
    usual = int(both[0]["seed"].nunique())
    named = [f"{name}: {state(rows)} top-1" for name, rows in zip((ours, theirs), both, strict=True)]
    heads = ("Method", *named, f"{ours} − {theirs}")
    cells = (
        (
            f"{target_heading(row['target'])}, {pair_title(row['network'], row['dataset'])}",
            _cells(row, heads, usual),
        )
        for row in numbers.to_dict("records")
    )
    facts = tuple(_facts(ours, theirs, both))
    notes = tuple(_notes(numbers, both, usual))
    return Sheet(f"{ours} and {theirs}", (Section(None, facts, grid(headed(cells), heads, 1, heads)),), notes)


def _cells(row: Mapping[Any, Any], heads: tuple[str, ...], usual: int) -> dict[str, Cell | str]:
    points = Difference(row["mean"], row["low"], row["high"], row["n"])
    texts = (
        str(row["title"]),
        *(mean_std_n(row[f"{side}_mean"], row[f"{side}_std"], str(row[f"{side}_n"])) for side in ("ours", "theirs")),
        difference(points, usual),
    )
    return dict(zip(heads, texts, strict=True))


def _facts(ours: str, theirs: str, both: list[pd.DataFrame]) -> Iterator[str]:
    """What differs between the two, besides the numbers."""
    for column, words in _CONDITIONS.items():
        own, other = (sorted(set(rows[column].dropna().map(_text))) for rows in both)
        if own != other:
            yield f"Not the same {words}: {', '.join(own) or 'none'} ({ours}); {', '.join(other) or 'none'} ({theirs})."


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _notes(numbers: pd.DataFrame, both: list[pd.DataFrame], usual: int) -> Iterator[str]:
    yield "Top-1 in percent of the test images, mean ± sample standard deviation (n)."
    yield "Only rows that both suites have are here."
    if numbers["paired"].any():
        yield on_intervals(usual)
    if not numbers["paired"].all():
        yield "No interval: the two suites pruned other dense networks, so seeds cannot be paired."
    if any((rows["method"] == "daar").any() for rows in both):
        yield RECONSTRUCTION
