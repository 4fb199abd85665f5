"""The figure of rank correlation: how alike methods order the filters of the same network."""

import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.errors import InputError
from daar.report import drawing
from daar.report.names import pair_title
from daar.report.setting_files import setting_files
from daar.storage import tensors
from daar.suite.names import Names

_ROW_INCHES = 0.24
_ROOMY = 8  # up to this number of variants the figures have room next to their labels
_DARK = 0.55  # above it numbers are white

Scores = dict[str, Any]  # layer → (c_out,)


class Correlations(NamedTuple):
    """The rank correlations of one (dataset, network).

    Attributes:
        variants: whose importances are correlated; in the order of rows and columns, controls last.
        layers: how many convs every mean is over.
        values: (seeds, variants, variants) means over the layers of Spearman's rank correlation.
    """

    variants: tuple[str, ...]
    layers: int
    values: Any


def load_correlations(
    results: Path, frame: pd.DataFrame, scored: Collection[str]
) -> dict[tuple[str, str], Correlations]:
    """Read the importances next to a results.csv and correlate them.

    Args:
        results: the results.csv.
        frame: its rows.
        scored: the variants that have an importance.safetensors.

    Returns:
        (dataset, network) → the correlations, over the seeds that all variants have; only of two variants or more.

    Raises:
        InputError: an importance is absent or damaged, or two of one network have different layers.
    """
    chosen = frame[frame["variant"].isin(scored)].drop_duplicates(["dataset", "network", "seed", "variant"])
    chosen = chosen.sort_values(["control", "variant"])
    by_pair = {}
    for (dataset, network), rows in chosen.groupby(["dataset", "network"]):
        variants = tuple(dict.fromkeys(rows["variant"]))
        if len(variants) < 2:
            continue
        matrices = []
        for _, seed in rows.groupby("seed"):
            paths = {setting.variant: setting.importance for setting in setting_files(results, seed)}
            if len(paths) < len(variants):
                continue  # a setting of this seed has failed
            remedy = "Delete it and run the suite again."
            scores = [tensors.read_scores(paths[variant], remedy, framework="np") for variant in variants]
            _require_equal_layers([paths[variant] for variant in variants], scores)
            matrices.append(correlations(scores))
        if matrices:
            by_pair[str(dataset), str(network)] = Correlations(variants, len(scores[0]), np.stack(matrices))
    return by_pair


def correlations(scores: list[Scores]) -> Any:
    """Spearman's rank correlation of every two, per layer, averaged over the layers.

    Where it is undefined, as a constant ranks nothing, it is 1 if both are constant and 0 if one is.

    Args:
        scores: of n variants; equal layers.

    Returns:
        (n, n) float64.
    """
    matrices = []
    for layer in scores[0]:
        ranks = pd.DataFrame([one[layer] for one in scores]).rank(axis=1).to_numpy()
        ranks = ranks - ranks.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(ranks, axis=1)
        constant = norms == 0
        units = ranks / np.where(constant, 1, norms)[:, None]
        matrices.append(units @ units.T + np.outer(constant, constant))
    return np.mean(matrices, axis=0)


def _require_equal_layers(paths: list[Path], scores: list[Scores]) -> None:
    shapes = [{layer: vector.shape for layer, vector in one.items()} for one in scores]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0] or not shape:
            odd = sorted(set(shape.items()) ^ set(shapes[0].items()))
            which = f"layer {odd[0][0]!r} differs" if odd else "there are none"
            raise InputError(
                f"{path} should score the same layers as {paths[0]}, but {which}. Delete the outdated one and run the "
                "suite again."
            )


def draw_rank_correlation(rows: pd.DataFrame, matrices: Correlations, names: Names) -> Figure:
    """A labelled heat map: the mean over seeds of every two variants' correlation.

    Args:
        rows: rows of results.csv of one (dataset, network).
        matrices: of that pair, as `load_correlations` gives them.
        names: of the rows.
    """
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panel = figure.subplots()
    width = 30 if len(matrices.variants) <= _ROOMY else 22
    labels = [textwrap.fill(names.variant(variant), width) for variant in matrices.variants]
    _heat_map(panel, matrices.values.mean(axis=0), labels)
    panel.set_title(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), loc="left")
    lines = drawing.footnote(figure, _notes(matrices), rows.loc[rows["variant"].isin(matrices.variants), "method"])
    row = max(_ROW_INCHES, 0.115 * max(1 + label.count("\n") for label in labels))
    drawing.set_height(figure, row * len(labels) + 0.55, lines)
    return figure


def _heat_map(panel: Axes, mean: Any, labels: list[str]) -> None:
    """Rows are named in full and numbered, columns numbered; only the half below the diagonal is shown."""
    n = len(labels)
    half = np.ma.masked_array(mean, np.triu(np.ones((n, n), dtype=bool), 1))
    panel.pcolormesh(np.arange(n + 1) - 0.5, np.arange(n + 1) - 0.5, half, cmap="Blues", vmin=0, vmax=1, linewidth=0)
    for row in range(n):
        for column in range(row + 1):
            value = mean[row, column]
            text = f"{value:.2f}".replace("-", "−")
            text = text.removeprefix("−") if float(f"{value:.2f}") == 0 else text
            colour = "white" if value > _DARK else "black"
            shown = panel.text(column, row, text, ha="center", va="center", fontsize=min(5.5, 50 / n), color=colour)
            drawing.mark(shown, "value", str(row), str(column))
    panel.set_xlim(-0.5, n - 0.5)
    panel.set_ylim(n - 0.5, -0.5)
    panel.grid(False)
    panel.set_yticks(range(n), [f"{label}  {k}" for k, label in enumerate(labels, 1)], fontsize=6)
    panel.set_xticks(range(n), [str(k) for k in range(1, n + 1)], fontsize=6)
    panel.tick_params(length=0)
    panel.spines[["left", "bottom"]].set_visible(False)


def _notes(matrices: Correlations) -> list[str]:
    seeds, layers, lowest = len(matrices.values), matrices.layers, matrices.values.mean(axis=0).min()
    notes = [
        f"Spearman's rank correlation of the importances of a conv's filters, averaged over all {layers} scored convs "
        + (f"and then {seeds} seeds." if seeds > 1 else "of one seed."),
        "1: the same order; 0: as unlike as random orders" + (", and white below." if lowest < 0 else "."),
    ]
    if seeds > 1:
        spread = float(matrices.values.std(axis=0, ddof=1).max())
        notes.append(f"Sample standard deviation over seeds: at most {spread:.2f}.")
    return notes
