"""How many calibration images an importance needs: a table and a figure, from stability/<variant>.json alone."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.drawing import Look
from daar.report.markdown import bullets, escape, pipe_table
from daar.report.names import pair_title
from daar.report.table_text import RECONSTRUCTION, mean_std
from daar.storage.documents import read_json
from daar.storage.files import write_text
from daar.storage.schemas import validate
from daar.suite.names import Names

MEASURES = {"correlation": "Rank correlation", "overlap": "Overlap"}
_TO_LARGEST = {f"{name}_to_largest": f"{head} to the largest" for name, head in MEASURES.items()}


def write_stability(
    folder: Path,
    pairs: Sequence[tuple[str, str]],
    variants: Sequence[str],
    names: Names,
    controls: Collection[str] = (),
) -> list[Path]:
    """Write tables/<dataset>-<network>-stability.{md,csv} and figures/….{png,svg}.

    Args:
        folder: of the suite's results.
        pairs: (dataset, network).
        variants: that were scored.
        names: of all the suite's variants, which have one look each.
        controls: those variants that are controls.

    Returns:
        The files written.

    Raises:
        InputError: a JSON file is absent or damaged.
    """
    given = drawing.looks({*names.variants, *variants}, controls)
    paths = []
    for dataset, network in pairs:
        contents = {v: _read(folder / dataset / network / "stability" / f"{v}.json") for v in variants}
        table, name = frame(contents, names), f"{dataset}-{network}-stability"
        for ending, text in (
            ("md", markdown(contents, table)),
            ("csv", table.to_csv(index=False, lineterminator="\n")),
        ):
            paths.append(folder / "tables" / f"{name}.{ending}")
            write_text(paths[-1], text)
        paths += drawing.write(folder / "figures" / name, partial(figure, contents, table, given))
    return paths


def frame(contents: Mapping[str, dict[str, Any]], names: Names) -> pd.DataFrame:
    """One row per variant and count: each measure's mean, std and n."""
    rows = []
    for variant, content in contents.items():
        front = {key: content[key] for key in ("dataset", "network", "method", "scope", "target")}
        for entry in content["counts"]:
            row = {**front, "variant": variant, "title": names.variant(variant), "images": entry["images"]}
            for name in (*MEASURES, *_TO_LARGEST):
                row |= {f"{name}_{key}": value for key, value in entry[name].items()}
            rows.append(row | {"random_overlap": content["random_overlap"]})
    table = pd.DataFrame(rows)
    return table.astype({name: float for name in table.columns if name.endswith("_std")})


def markdown(contents: Mapping[str, dict[str, Any]], table: pd.DataFrame) -> str:
    """The Markdown page of one (dataset, network)."""
    one = next(iter(contents.values()))
    measures = {**MEASURES, **_TO_LARGEST}
    cells = [
        {"Method": escape(row["title"]), "Images": f"{row['images']:,}"}
        | {head: mean_std(row[f"{name}_mean"], row[f"{name}_std"], 3) for name, head in measures.items()}
        for row in table.to_dict("records")
    ]
    heads = ["Method", "Images", *measures.values()]
    grid = pipe_table(pd.DataFrame(cells, columns=heads), ("left", *("right",) * (len(heads) - 1)))
    notes = [*_notes(one), *([RECONSTRUCTION] if (table["method"] == "daar").any() else [])]
    title = f"# Calibration images: {escape(pair_title(one['network'], one['dataset']))}"
    return "\n\n".join((title, grid, bullets(notes))) + "\n"


def figure(contents: Mapping[str, dict[str, Any]], table: pd.DataFrame, given: Mapping[str, Look]) -> Figure:
    """Mean rank correlation (upper panel) and overlap (lower panel) against images, ± one std as a band.

    Args:
        contents: variant → what its JSON file holds.
        table: of `frame`.
        given: variant → its look.
    """
    drawn = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panels = drawn.subplots(2, 1, sharex=True)
    for panel, (name, head) in zip(panels, MEASURES.items(), strict=True):
        for variant, rows in table.groupby("variant", sort=False):
            _line(panel, rows, name, given[str(variant)])
        panel.set_ylabel(head)
        drawing.mark(panel, "panel", name)
        panel.set_ylim(min(0.0, panel.get_ylim()[0]), 1.02)
    one = next(iter(contents.values()))
    panels[1].axhline(one["random_overlap"], color="black", linestyle=(0, (4, 3)), linewidth=0.8)
    panels[1].annotate(
        "random sets", (1, one["random_overlap"]), (0, 2), ("axes fraction", "data"), "offset points", ha="right",
        fontsize=6,
    )  # fmt: skip
    counts = sorted(set(table["images"]))
    panels[1].set_xscale("log")
    panels[1].set_xticks(counts, [str(count) for count in counts])
    panels[1].set_xticks([], minor=True)
    panels[1].set_xlabel("Calibration images")
    panels[0].set_title(pair_title(one["network"], one["dataset"]), loc="left")
    drawn.align_ylabels()
    lines = drawing.legend(drawn, panels[:1])
    lines += drawing.footnote(drawn, _figure_notes(one), table["method"])
    drawing.set_height(drawn, drawing.PANELS_INCHES, lines)
    return drawn


def _line(panel: Axes, rows: pd.DataFrame, name: str, look: Look) -> None:
    x, mean, std = (rows[key].to_numpy() for key in ("images", f"{name}_mean", f"{name}_std"))
    std = np.nan_to_num(std)
    panel.fill_between(x, mean - std, mean + std, color=look.colour, alpha=0.15, linewidth=0, zorder=2)
    (line,) = panel.plot(
        x, mean, color=look.colour, marker=look.marker, markersize=3.6, linewidth=0.8, label=rows["title"].iloc[0],
        zorder=3,
    )  # fmt: skip
    drawing.mark(line, "mean", name, str(rows["variant"].iloc[0]))


def _figure_notes(one: dict[str, Any]) -> list[str]:
    pairs, target = one["counts"][0]["correlation"]["n"], 100 * one["target"]
    formula = "|A ∩ B| / |A ∪ B|".replace(" ", "\N{NO-BREAK SPACE}")
    return [
        f"Mean ± sample standard deviation over {pairs} pairs of {len(one['seeds'])} calibration seeds.",
        f"Overlap {formula} of the kept sets, uniform widths, {target:g}% of the MACs removed.",
    ]


def _notes(one: dict[str, Any]) -> list[str]:
    pairs, seeds = one["counts"][0]["correlation"]["n"], len(one["seeds"])
    return [
        f"One dense network, {seeds} calibration seeds. Mean ± sample standard deviation over their {pairs} pairs, or, "
        f"to the largest count of the same seed, over the {seeds} seeds. Pairs share seeds: the deviation is no "
        "standard error.",
        f"Rank correlation: Spearman's, of importance per group, averaged over {one['groups']} groups (scope "
        f"{one['scope']}); 1 where both are constant, 0 where one is.",
        f"Overlap: intersection over union of the kept sets at uniform widths, {100 * one['target']:g}% of MACs "
        f"removed; random sets have {one['random_overlap']:.3f}.",
    ]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path, "what `daar stability` wrote")
    validate(content, "stability", str(path), "Make it again: daar stability")
    return content
