"""The tables and figures that the page shows, from the files in a suite's folder."""

import base64
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from daar.errors import InputError
from daar.report.html import escape
from daar.report.table_text import RECONSTRUCTION
from daar.storage.documents import read_text

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
# ids of an SVG's parts that are of one target: of a panel, or of a picture that shows one target alone
_OF_TARGET = re.compile(r'<g id="(panel|target):(?:[^":]*:)*(own|0\.\d+|\d(?:\.\d+)?e-\d+)"')
# kinds that mix no targets: importances are the same for all, and the attention is of one setting
_UNMIXED = ("rank-correlation", "stability", "attention")
# kind → its words; another kind is named as its file
_FIGURES = {
    "accuracy-macs": "accuracy versus MACs, in print",
    "differences": "paired differences of accuracy, with their 95% intervals",
    "accuracy-costs": "accuracy next to parameters, MACs and the seconds of scoring and planning",
    "tuning-curves": "tuning, epoch by epoch",
    "accuracy-latency": "accuracy versus measured latency",
    "pruning-ratios": "pruning ratios over depth",
    "rank-correlation": "rank correlation between methods",
    "stability": "how many calibration images an importance needs",
    "attention": "what a method looks at, keeps and removes",
}


def _belongs(stem: str, pairs: Mapping[str, str]) -> tuple[str | None, str]:
    """The pair's stem that a file's name starts with, or None, and the rest of the name."""
    pair = next((pair for pair in pairs if stem.startswith(f"{pair}-")), None)
    return pair, stem if pair is None else stem.removeprefix(f"{pair}-")


def fragment(path: Path) -> Markup | None:
    """HTML of our own, whose texts are escaped, without what the page says once; None where there is no such file."""
    if not path.is_file():
        return None
    html = read_text(path, "a table in HTML").replace(f"<li>{escape(RECONSTRUCTION)}</li>\n", "")
    # below the page's own headings
    return Markup(re.sub(r"<(/?)h([23])>", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}>", html))


def figures(folder: Path, pairs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every figure once, in the order of _FIGURES, as the smaller of its files: pictures as PNG, lines as SVG, mostly.

    Args:
        folder: of the figures.
        pairs: stem → title.

    Yields:
        `pair`, the stem, or None where it is of no pair; `name`; `uri`, the file itself; `targets`, those that have
        a part of it to themselves; and `mixed`, whether it shows several that have not.
    """
    order = list(_FIGURES)

    def place(stem: str) -> tuple[int, str]:
        kind = _belongs(stem, pairs)[1]
        return (order.index(kind) if kind in order else len(order), stem)

    stems = {path.stem for path in folder.glob("*") if path.suffix in _TYPES and path.is_file()}
    for stem in sorted(stems, key=place):
        files = [folder / f"{stem}{ending}" for ending in _TYPES if (folder / f"{stem}{ending}").is_file()]
        small = min(files, key=lambda path: path.stat().st_size)
        data = base64.b64encode(small.read_bytes()).decode()
        pair, kind = _belongs(stem, pairs)
        name = _FIGURES.get(kind, kind.replace("-", " "))
        targets = _shown_targets(folder / f"{stem}.svg")
        yield {
            "pair": pair,
            "name": name,
            "uri": f"data:{_TYPES[small.suffix]};base64,{data}",
            "targets": targets,
            "mixed": not targets and (pair is None or kind not in _UNMIXED),
        }


def _shown_targets(svg: Path) -> list[str]:
    """The targets of a figure's panels, as the page's filter has them; none where it has no ids that say so."""
    if not svg.is_file():
        return []
    found = {target for _, target in _OF_TARGET.findall(svg.read_text(encoding="utf-8", errors="replace"))}
    return sorted(target if target == "own" else f"{100 * float(target):g}%" for target in found)


def more_tables(folder: Path, pairs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The tables other than the main ones, as a fragment of HTML where there is one, else as the CSV's cells.

    Args:
        folder: of the tables.
        pairs: stem → title.

    Yields:
        `name`, `pair` (its stem, or None) and `html`; where that is None, `heads`, `rows` and, for each row, its target
        in `targets`, blank where it has none.

    Raises:
        InputError: a CSV cannot be read.
    """
    for path in sorted(folder.glob("*.csv")):
        if path.stem in pairs:
            continue
        html = fragment(path.with_name(f"{path.stem}.html"))
        pair, kind = _belongs(path.stem, pairs)
        name = kind.replace("-", " ")
        whole: dict[str, Any] = {"name": name if pair is None else f"{pairs[pair]}: {name}", "pair": pair}
        if html is not None:
            yield whole | {"html": html}
            continue
        try:
            text = io.StringIO(read_text(path, "a table"))
            cells = pd.read_csv(text, dtype=str, keep_default_na=False)
        except ValueError as error:
            why = " ".join(str(error).split())
            raise InputError(f"{path} should be a table, but cannot be read: {why}. Make the tables again.") from error
        if cells.empty:  # as the ledger of a data set without published results
            continue
        rows = [[_short(cell) for cell in row] for row in cells.to_numpy().tolist()]
        heads = [head.replace("_", " ") for head in cells.columns]
        yield whole | {"html": None, "heads": heads, "rows": rows, "targets": _targets(cells)}


def _targets(cells: pd.DataFrame) -> list[str]:
    """The target of each row, as the page's filter has it."""
    if "target" not in cells.columns:
        return [""] * len(cells)
    numbers = pd.to_numeric(cells["target"], errors="coerce")
    return ["" if pd.isna(number) else f"{100 * number:g}%" for number in numbers]


def _short(cell: str) -> str:
    """A number as people write it, and any other text as it is."""
    try:
        return f"{float(cell):.4g}" if "." in cell else cell
    except ValueError:
        return cell
