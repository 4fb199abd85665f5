"""The attention picture shows the numbers of attention.safetensors: colours, bars and texts are read from its SVG."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from daar.report.attention import write_attention
from daar.report.page_files import figures
from daar.storage import explanation
from daar.storage.explanation import Explanation, Seen
from tests.report.svg import Drawing

IMAGES, SIDE = 2, 4
PLACES, CHANNELS = "layer1.0.conv1", "layer3.2.conv1"
FILTERS = {PLACES: 8, CHANNELS: 24}


def seen(name: str) -> Seen:
    size = FILTERS[name]
    dice = np.random.default_rng(size)
    kept = np.arange(size) % 2 == 0
    shares = dice.random((IMAGES, size)).astype(np.float32)
    shares /= shares.sum(axis=1, keepdims=True)
    filters = np.array([0, 2, 4, 3, 5, 7])
    maps = dice.random((IMAGES, len(filters), SIDE, SIDE)).astype(np.float32)
    places = dice.random((IMAGES, SIDE, SIDE)).astype(np.float32) if name == PLACES else None
    return Seen(name, kept, filters, shares, maps, places)


def content(target: float | None) -> Explanation:
    about = {"network": "resnet20", "dataset": "digits", "method": "daar", "policy": "adaptive", "target": target}
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    about |= {"seed": 0, "calibration_images": 40}
    return Explanation(about, images, ("cat", "dog"), (seen(PLACES), seen(CHANNELS)))


def drawn(tmp_path: Path, target: float | None = 0.5) -> Drawing:
    explanation.save(tmp_path / "attention.safetensors", content(target))
    files = {("digits", "resnet20"): tmp_path / "attention.safetensors"}
    _, svg = write_attention(files, tmp_path / "figures", "DAAR")
    return Drawing(svg)


def squares(pixels: Any, side: int) -> Any:
    """The colour in the middle of each square of a picture; (side, side, 3)."""
    middle = [((2 * np.arange(side) + 1) * size) // (2 * side) for size in pixels.shape[:2]]
    return pixels[np.ix_(*middle)][:, :, :3]


def test_images_and_maps_have_the_colours_of_their_numbers(tmp_path: Path) -> None:
    svg, whole = drawn(tmp_path), content(0.5)
    for layer in whole.layers:
        shown = sorted(int(filter_) for _, name, row, filter_ in svg.ids("map") if (name, row) == (layer.name, "0"))
        # bars take the room of two maps
        expected = [0, 2, 4, 3, 5, 7] if layer.name == PLACES else [0, 2, 5, 7]
        assert shown == sorted(expected)
        for row in range(IMAGES):
            np.testing.assert_array_equal(squares(svg.pixels("image", layer.name, str(row)), 8), whole.images[row])
            places = [list(layer.filters).index(filter_) for filter_ in expected]
            most = layer.maps[row][places].max()  # one grey scale in a row
            for place, filter_ in zip(places, expected, strict=True):
                grey = squares(svg.pixels("map", layer.name, str(row), str(filter_)), SIDE)
                assert np.ptp(grey, axis=2).max() == 0
                np.testing.assert_allclose(grey[:, :, 0], 255 * layer.maps[row][place] / most, atol=2)  # of 255
    for row in range(IMAGES):
        values = np.asarray(whole.layers[0].attention)[row]
        between = (values - values.min()) / np.ptp(values)
        colours = 255 * matplotlib.colormaps["cividis"](between)[:, :, :3]
        np.testing.assert_allclose(squares(svg.pixels("attention", PLACES, str(row)), SIDE), colours, atol=2)  # of 255


def test_shares_are_those_of_the_file(tmp_path: Path) -> None:
    svg, whole = drawn(tmp_path), content(0.5)
    for layer in whole.layers:
        for _, name, *place in svg.ids("share"):
            if name == layer.name:
                shown = float(svg.text("share", name, *place).removesuffix("%"))
                assert shown == pytest.approx(100 * layer.shares[tuple(map(int, place))], abs=0.0501)
    bars, layer = svg.boxes("bar"), whole.layers[1]
    assert len(bars) == IMAGES * FILTERS[CHANNELS]
    for row in range(IMAGES):
        own = [bars[CHANNELS, str(row), str(filter_)] for filter_ in range(FILTERS[CHANNELS])]
        ends = svg.data([box[:, 1] for box in own], f"panel:{CHANNELS}:{row}", "y")
        np.testing.assert_allclose(ends[:, 1], 0, atol=0.01)  # bars start at 0
        np.testing.assert_allclose(ends[:, 0], 100 * layer.shares[row], atol=0.02)
        falling = np.argsort([box[0, 0] for box in own])  # from left to right
        assert (np.diff(layer.shares[row][falling]) <= 0).all()
        for filter_ in range(FILTERS[CHANNELS]):
            bar = svg.by_id[f"bar:{CHANNELS}:{row}:{filter_}"]
            styles = " ".join(part.get("style", "") for part in bar.iter())
            assert ("#0072b2" in styles) == layer.kept[filter_]


@pytest.mark.parametrize(("target", "shown"), [(0.5, "50%"), (None, "own")])
def test_the_page_knows_its_target(tmp_path: Path, target: float | None, shown: str) -> None:
    drawn(tmp_path, target)
    (figure,) = figures(tmp_path / "figures", {"digits-resnet20": "x"})
    assert (figure["targets"], figure["mixed"]) == ([shown], False)
