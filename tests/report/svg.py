"""Reads numbers back from an SVG figure as a program would: marks by their ids, places by the ticks of their panel."""

import base64
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_POINT = re.compile(r"[ML]\s*(-?[\d.]+)[ ,](-?[\d.]+)")


class Drawing:
    """An SVG that Matplotlib has written."""

    def __init__(self, path: Path) -> None:
        self.root = ElementTree.parse(path).getroot()
        self.by_id = {element.get("id"): element for element in self.root.iter() if element.get("id")}

    def ids(self, what: str) -> list[list[str]]:
        """The parts of all ids that begin with `what`."""
        return [name.split(":") for name in self.by_id if name and name.split(":")[0] == what]

    def points(self, *parts: str) -> Any:
        """The places of an artist's markers, in pixels; (n, 2)."""
        uses = self.by_id[":".join(parts)].iter(f"{_SVG}use")
        return np.array([[float(use.get("x", "nan")), float(use.get("y", "nan"))] for use in uses]).reshape(-1, 2)

    def spans(self, *parts: str) -> Any:
        """The ends of an artist's bars, in pixels; (n, 2, 2)."""
        paths = self.by_id[":".join(parts)].iter(f"{_SVG}path")
        return np.array([[list(map(float, point)) for point in _POINT.findall(path.get("d", ""))] for path in paths])

    def boxes(self, what: str) -> dict[tuple[str, ...], Any]:
        """The least and the largest x and y of each rectangle whose id begins with `what`, in pixels; (2, 2)."""
        return {tuple(parts[1:]): np.stack([ends.min(0), ends.max(0)]) for parts in self.ids(what)
                for (ends,) in [self.spans(*parts)]}  # fmt: skip

    def pixels(self, *parts: str) -> Any:
        """The colours of a picture in the figure, as a reader sees it; (h, w, 4) uint8."""
        mark = self.by_id[":".join(parts)]
        image = next(one for one in mark.iter(f"{_SVG}image"))
        shown = Image.open(io.BytesIO(base64.b64decode(image.get(_HREF, "").split(",")[1]))).convert("RGBA")
        # Matplotlib stores it upside down and turns it by a transform
        return np.asarray(shown)[::-1] if "scale(1 -1)" in image.get("transform", "") else np.asarray(shown)

    def text(self, *parts: str) -> str:
        """What a text says."""
        return "".join(self.by_id[":".join(parts)].itertext()).strip()

    def axis(self, panel: str, which: str, *, log: bool = False) -> tuple[Any, Any]:
        """Places and numbers of a panel's ticks; of a shared axis those of a panel that has labels.

        Args:
            panel: its id.
            which: x or y.
            log: whether the axis is logarithmic; the numbers are their logarithms then.
        """
        index = "xy".index(which)
        places, numbers = [], []
        for tick in self.by_id[panel].iter(f"{_SVG}g"):
            if re.fullmatch(rf"{which}tick_\d+", tick.get("id") or ""):
                text = "".join("".join(one.itertext()) for one in tick.iter(f"{_SVG}text"))
                use = next(tick.iter(f"{_SVG}use"), None)
                if text.strip() and use is not None:
                    places.append(float(use.get("xy"[index], "nan")))
                    numbers.append(float(text.strip().removesuffix("%").replace("−", "-")))
        return np.array(places), np.log10(numbers) if log else np.array(numbers)

    def data(self, pixels: Any, panel: str, which: str, *, log: bool = False) -> Any:
        """What places in a panel mean, by its ticks.

        Args:
            pixels: x or y of places.
            panel: id of the panel, or of one that shares its axis and has the labels.
            which: x or y.
            log: whether the axis is logarithmic.
        """
        places, numbers = self.axis(panel, which, log=log)
        assert len(places) > 1, panel
        slope, start = np.polyfit(places, numbers, 1)
        np.testing.assert_allclose(slope * places + start, numbers, atol=1e-6 * np.ptp(numbers))
        values = slope * np.asarray(pixels) + start
        return 10**values if log else values
