"""The figure of the page that shows values on hover: accuracy versus MACs, as Plotly's data and layout."""

from html import escape
from typing import Any

import pandas as pd

from daar.report.drawing import Look, looks_of
from daar.report.table_text import plus_minus

_SYMBOLS = {
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"},
    **{"X": "x", "p": "pentagon", "h": "hexagon", "*": "star"},
}
# the least span of the axis, in points of MACs, and the part of the span between neighbours of one target
_MIN_SPAN, _APART = 20.0, 0.012
_HOVER = "%{customdata[0]}<br>tuned top-1 %{y:.2f}%%{customdata[1]}<br>MACs left %{customdata[2]:.2f}%<extra></extra>"


def accuracy_macs_plot(rows: pd.DataFrame, numeric: pd.DataFrame) -> dict[str, Any]:
    """Tuned top-1 versus MACs left, one trace per (variant, policy).

    Args:
        rows: rows of results.csv of one (dataset, network).
        numeric: their numeric table (`daar.report.accuracies.table`).

    Returns:
        `data` and `layout`, JSON-like. Plotly reads markup in names, so names are escaped.
    """
    given = looks_of(rows)
    whole, pruned = numeric.iloc[0], numeric.iloc[1:]
    left = 100 * (1 - pruned["macs_reduction_mean"])
    middle, span = (left.min() + left.max()) / 2, max(_MIN_SPAN, 1.2 * (left.max() - left.min()))
    data: list[dict[str, Any]] = []
    groups = list(pruned.groupby(["variant", "policy"], sort=False))
    for index, ((variant, policy), members) in enumerate(groups):
        name = str(members["title"].iloc[0])
        name += ", control" if members["control"].iloc[0] else f", {policy}"
        shift = _APART * span * (index - (len(groups) - 1) / 2)
        data.append(_trace(members.to_dict("records"), escape(name), given[str(variant)], shift))
    return {"data": data, "layout": _layout(middle, span, float(whole["top1_dense_mean"]), len(data))}


def _layout(middle: float, span: float, dense: float, traces: int) -> dict[str, Any]:
    """Axes, and a dashed line for the dense networks.

    Args:
        middle: of the axis of MACs, in percent.
        span: of that axis, in points.
        dense: top-1 in percent.
        traces: how many there are.
    """
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": dense, "y1": dense}
    return {
        "height": 360 + 24 * traces,  # the legend is below, a line for each in a narrow window
        "xaxis": {
            "title": {"text": "MACs left (% of the dense network's)"},
            "range": [_number(middle - span / 2), _number(middle + span / 2)],
        },
        "yaxis": {"title": {"text": "Test top-1, tuned (%)"}},
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


def _trace(points: list[dict[Any, Any]], name: str, look: Look, shift: float) -> dict[str, Any]:
    points = sorted(points, key=lambda point: point["macs_reduction_mean"])
    left = [100 * (1 - point["macs_reduction_mean"]) for point in points]
    spreads = [point["top1_tuned_std"] for point in points]
    return {
        "type": "scatter",
        "mode": "markers" if any(point["own_ratios"] for point in points) else "lines+markers",
        "name": name,
        # rows at ratios of their own share no target with others: they are not shifted
        "x": [_number(macs + (0 if point["own_ratios"] else shift)) for macs, point in zip(left, points, strict=True)],
        "y": [_number(point["top1_tuned_mean"]) for point in points],
        "error_y": {"type": "data", "array": [_number(spread) or 0 for spread in spreads], "thickness": 1},
        "customdata": [
            [name, f"{plus_minus(point['top1_tuned_std'])} ({point['n']})", _number(macs)]
            for macs, point in zip(left, points, strict=True)
        ],
        "hovertemplate": _HOVER,
        "marker": {"color": look.colour, "symbol": _SYMBOLS[look.marker], "size": 8},
        "line": {"color": look.colour, "width": 1},
    }


def _number(value: Any) -> float | None:
    """JSON has no NaN."""
    return None if pd.isna(value) else round(float(value), 6)
