"""The attention pictures, from attention.safetensors alone: where a method looks, what it keeps and what it removes."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.names import pair_title, removed
from daar.storage import explanation
from daar.storage.explanation import Explanation, Seen

_COLUMNS = 8
_BARS = 3  # columns that bars take from the maps
_ROW_INCHES = 0.55
_HEAD_INCHES = 0.36
# colour and line of the frames: the line distinguishes them in grey print
_FRAMES = {True: (drawing.COLOURS[0], "-"), False: (drawing.COLOURS[1], (0, (2, 1.2)))}
_WORDS = {True: "kept", False: "removed"}


def write_attention(files: Mapping[tuple[str, str], Path], folder: Path, title: str) -> list[Path]:
    """Write `<dataset>-<network>-attention.png` and `.svg` into `folder`.

    Args:
        files: (dataset, network) → attention.safetensors.
        folder: where the figures go.
        title: the method, as a reader should see it.

    Returns:
        The files written.

    Raises:
        InputError: a file is absent or damaged; no figure is written then.
    """
    loaded = {pair: explanation.load(path) for pair, path in files.items()}
    paths = []
    for (dataset, network), one in loaded.items():
        paths += drawing.write(Path(folder) / f"{dataset}-{network}-attention", partial(attention, one, title))
    return paths


def attention(shown: Explanation, title: str) -> Figure:
    """A block per layer, a row per image: the image, the layer's attention, maps of kept and of removed filters.

    Args:
        shown: what attention.safetensors holds.
        title: the method, as a reader should see it.
    """
    figure = Figure(dpi=drawing.PNG_DPI)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01)
    blocks = figure.subfigures(len(shown.layers), 1, squeeze=False)[:, 0]
    for block, layer in zip(blocks, shown.layers, strict=True):
        _draw_block(block, shown, layer)
    pair = pair_title(shown.about["network"], shown.about["dataset"])
    head = figure.suptitle(f"{title}, {pair}", x=0.01, ha="left", fontsize=8)
    drawing.mark(head, "target", "own" if shown.about["target"] is None else f"{shown.about['target']:g}")
    lines = drawing.footnote(figure, _notes(shown), [shown.about["method"]])
    height = len(shown.layers) * (_HEAD_INCHES + _ROW_INCHES * len(shown.images))
    drawing.set_height(figure, height + 0.25, lines)
    return figure


def _draw_block(block: Any, content: Explanation, layer: Seen) -> None:
    kind = "places" if layer.attention is not None else "channels"
    words = f"Layer {layer.name}, attention over {kind}: {int(layer.kept.sum())} of {len(layer.kept)} filters kept"
    block.suptitle(words, x=0.01, ha="left", fontsize=6.5)
    grid = block.add_gridspec(len(content.images), _COLUMNS, wspace=0.09)
    wide = _BARS if layer.attention is None else 1
    shown = _shown(layer, _COLUMNS - 1 - wide)
    for row, image in enumerate(content.images):
        first = block.add_subplot(grid[row, 0])
        key = (layer.name, str(row))
        drawing.mark(_draw_map(first, image.squeeze(), None), "image", *key)
        first.set_ylabel(content.classes[row], fontsize=6)
        second = block.add_subplot(grid[row, 1 : 1 + wide])
        if layer.attention is None:
            drawing.mark(second, "panel", *key)
            _draw_bars(second, layer.shares[row], layer.kept, key)
        else:
            drawing.mark(_draw_map(second, layer.attention[row], None, "cividis"), "attention", *key)
        most = max(float(layer.maps[row][shown].max()), 1e-12)
        for place, index in enumerate(shown):
            panel = block.add_subplot(grid[row, 1 + wide + place])
            _draw_filter(panel, layer, row, index, most)
        if row == 0:
            first.set_title("image", fontsize=5.5, pad=2)
            second.set_title("attention" if wide == 1 else "added to shares, sorted", fontsize=5.5, pad=2)


def _shown(layer: Seen, room: int) -> list[int]:
    """Which of the layer's maps have room: equally many of kept and of removed filters, from both ends."""
    kept = [index for index, number in enumerate(layer.filters) if layer.kept[number]]
    gone = [index for index, number in enumerate(layer.filters) if not layer.kept[number]]
    return kept[: room // 2] + gone[len(gone) - min(len(gone), room // 2) :]


def _draw_map(panel: Axes, values: Any, most: float | None, colours: str = "gray") -> Any:
    """A map or an image without axes; returns what shows it."""
    # nearest: a place of the map is one square; the images are small as well
    shown = panel.imshow(values, cmap=colours, vmin=None if most is None else 0, vmax=most, interpolation="nearest")
    panel.grid(False)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    return shown


def _draw_filter(panel: Axes, layer: Seen, row: int, index: int, most: float) -> None:
    """A feature map in its frame, its filter's number above and what this image adds to its share below."""
    number = int(layer.filters[index])
    kept = bool(layer.kept[number])
    colour, line = _FRAMES[kept]
    key = (layer.name, str(row), str(number))
    drawing.mark(_draw_map(panel, layer.maps[row][index], most), "map", *key)
    panel.spines[:].set(visible=True, color=colour, linestyle=line, linewidth=1.3)
    share = panel.set_xlabel(f"{100 * layer.shares[row][number]:.1f}%", fontsize=5.5, labelpad=1.5)
    drawing.mark(share, "share", *key)
    if row == 0:
        panel.set_title(f"{_WORDS[kept]}\n{number}", fontsize=5.5, pad=2, color=colour)


def _draw_bars(panel: Axes, shares: Any, kept: Any, key: Sequence[str]) -> None:
    """What one image adds to every filter's share, the largest first, in the colour for kept or removed."""
    order = np.argsort(-shares, kind="stable")
    for stays, (colour, _) in _FRAMES.items():
        at = np.flatnonzero(kept[order] == stays)
        bars = panel.bar(at, 100 * shares[order][at], width=1.0, color=colour, alpha=1.0 if stays else 0.55)
        for bar, number in zip(bars, order[at], strict=True):
            drawing.mark(bar, "bar", *key, str(number))
    panel.margins(x=0.01)
    panel.set_xticks([])
    panel.tick_params(labelsize=5, length=1.5, pad=1)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")


def _notes(shown: Explanation) -> list[str]:
    about = shown.about
    target = "at its own rate" if about["target"] is None else removed(about["target"])
    many = "The first calibration image of each of the first classes" if len(shown.images) > 1 else "One image"
    return [
        f"{many}; seed {about['seed']}, policy {about['policy']}, {target}.",
        "Framed: feature maps of the filters kept with the largest mean share (solid) and of those removed with the "
        "smallest (dashed), one grey scale in a row; above, the filter's number, below, what this image adds to its "
        "share of the layer's attention, the mean over all calibration images.",
    ]
