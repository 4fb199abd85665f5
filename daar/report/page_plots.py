"""The figure of the page that shows values on hover: accuracy versus MACs, as Plotly's data and layout."""

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from daar.report.drawing import POLICY_LOOKS, Look
from daar.report.page_rows import target_text
from daar.report.table_text import plus_minus

_SYMBOLS = {
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"},
    **{"X": "x", "<": "triangle-left", ">": "triangle-right", "d": "diamond-tall"},
}
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_MIN_SPAN = 20.0  # the least span of the axis, in points of MACs
_FEWEST = 3  # targets of one row that a line joins, as in print
_SIZES = 13, 7  # of the first and of the last trace's markers, which is in front
_HOVER = "%{customdata[0]}<br>top-1 %{y:.2f}%%{customdata[1]}<br>MACs left %{customdata[2]:.2f}%<extra></extra>"


def accuracy_macs_plot(numeric: pd.DataFrame, looks: Mapping[str, Look], state: str = "tuned") -> dict[str, Any]:
    """Tuned top-1 versus MACs left, one trace per (variant, policy), every mark at its true MACs.

    Args:
        numeric: the numeric table of one (dataset, network) (`daar.report.accuracies.table`).
        looks: variant → its look, that of the figures in print.
        state: of the networks, "untuned" where nothing was tuned.

    Returns:
        `data` and `layout`, JSON-like. Plotly reads markup in names, so names are escaped.
    """
    whole, pruned = numeric.iloc[0], numeric.iloc[1:]
    left = 100 * (1 - pruned["macs_reduction_mean"])
    middle, span = (left.min() + left.max()) / 2, max(_MIN_SPAN, 1.2 * (left.max() - left.min()))
    # in the order of print: controls last, in front
    groups = list(pruned.groupby(["control", "variant", "policy"]))
    data: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for index, ((_, variant, _), members) in enumerate(groups):
        policy = seen.setdefault(str(variant), 0)
        seen[str(variant)] += 1
        size = _SIZES[0] + (_SIZES[1] - _SIZES[0]) * index / max(len(groups) - 1, 1)
        data.append(_trace(members.to_dict("records"), looks[str(variant)], policy, size))
    return {"data": data, "layout": _layout(middle, span, float(whole["top1_dense_mean"]), len(data), state)}


def _layout(middle: float, span: float, dense: float, traces: int, state: str) -> dict[str, Any]:
    """Axes, and a dashed line for the dense networks.

    Args:
        middle: of the axis of MACs, in percent.
        span: of that axis, in points.
        dense: top-1 in percent.
        traces: how many there are.
        state: of the networks, tuned or untuned.
    """
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": dense, "y1": dense}
    return {
        "height": 360 + 24 * traces,  # the legend is below, a line for each in a narrow window
        "xaxis": {
            "title": {"text": "MACs left (% of the dense network's)"},
            "range": [_number(middle - span / 2), _number(middle + span / 2)],
        },
        "yaxis": {"title": {"text": f"Test top-1, {state} (%)"}},
        "shapes": [line | {"line": {"dash": "dash", "width": 1, "color": "#808080"}}],
        "annotations": [
            {
                "xref": "paper",
                "x": 0,
                "y": dense,
                "text": f"dense {dense:.2f}%",
                "showarrow": False,
                "yanchor": "bottom",
            }
        ],
    }


def _trace(points: list[dict[Any, Any]], look: Look, policy: int, size: float) -> dict[str, Any]:
    """One row's marks.

    Args:
        points: of the numeric table, one for each target.
        look: the variant's.
        policy: which of the variant's policies it is, from 0; print has the same line and filling.
        size: of the markers, in pixels.
    """
    points = sorted(points, key=lambda point: point["macs_reduction_mean"])
    own = any(point["own_ratios"] for point in points)
    left = [100 * (1 - point["macs_reduction_mean"]) for point in points]
    name, (line, fill) = escape(str(points[0]["title"])), POLICY_LOOKS[policy % len(POLICY_LOOKS)]
    filled = fill == "full" and not own
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) >= _FEWEST and not own else "markers",
        "name": name,
        "meta": ["own" if point["own_ratios"] else target_text(point) for point in points],  # what the filter reads
        "x": [_number(macs) for macs in left],
        "y": [_number(point["top1_tuned_mean"]) for point in points],
        "error_y": {
            "type": "data",
            "array": [_number(point["top1_tuned_std"]) or 0 for point in points],
            "thickness": 1,
            "width": 0,
        },
        "customdata": [
            [name, f"{plus_minus(point['top1_tuned_std'])} ({point['n']})", _number(macs)]
            for macs, point in zip(left, points, strict=True)
        ],
        "hovertemplate": _HOVER,
        "marker": {
            "color": look.colour,
            "symbol": _SYMBOLS[look.marker] + ("" if filled else "-open"),
            "size": _number(size),
            "line": {"width": 1, "color": "#ffffff" if filled else look.colour},
        },
        "line": {"color": look.colour, "width": 0.7, "dash": _DASHES[line]},
    }


def _number(value: Any) -> float | None:
    """JSON has no NaN."""
    return None if pd.isna(value) else round(float(value), 6)
