"""Any image becomes 8-bit RGB of one size; pixels worked out by hand are the oracle."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from daar.data.own import images
from daar.data.own.images import ALPHA, CMYK, DEEP, FRAMES, GREY, TURNED
from daar.errors import InputError
from tests.data.own.folders import picture


def encoded(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    held = BytesIO()
    image.save(held, form, **how)
    return held.getvalue()


def read(content: bytes, size: int = 2, *, crop: bool = True) -> tuple[Any, list[str]]:
    return images.read(content, "x", size, crop)


def one(mode: str, colour: Any, form: str = "PNG") -> tuple[list[int], list[str]]:
    pixels, kinds = read(encoded(Image.new(mode, (2, 2), colour), form))
    assert pixels.shape == (2, 2, 3)
    assert pixels.dtype == np.uint8
    return pixels[0, 0].tolist(), kinds


@pytest.mark.parametrize(
    ("mode", "colour", "form", "expected", "kinds"),
    [
        ("RGB", (10, 20, 30), "PNG", [10, 20, 30], []),
        ("L", 77, "PNG", [77, 77, 77], [GREY]),
        ("1", 1, "PNG", [255, 255, 255], [GREY]),
        ("RGBA", (10, 20, 30, 255), "PNG", [10, 20, 30], [ALPHA]),
        ("RGBA", (10, 20, 30, 0), "PNG", [255, 255, 255], [ALPHA]),
        ("LA", (100, 0), "PNG", [255, 255, 255], [GREY, ALPHA]),
        ("CMYK", (0, 255, 255, 0), "TIFF", [255, 0, 0], [CMYK]),
        ("I;16", 65_535, "PNG", [255, 255, 255], [GREY, DEEP]),
        ("I;16", 257 * 90, "PNG", [90, 90, 90], [GREY, DEEP]),
        ("I", 257 * 90, "TIFF", [90, 90, 90], [GREY, DEEP]),
    ],
)
def test_modes(mode: str, colour: Any, form: str, expected: list[int], kinds: list[str]) -> None:
    assert one(mode, colour, form) == (expected, kinds)


def test_half_seen_on_white() -> None:
    assert one("RGBA", (0, 100, 200, 51)) == ([204, 224, 244], [ALPHA])  # 0.2 · colour + 0.8 · 255


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    assert read(encoded(image))[0][0, 0].tolist() == [9, 8, 7]
    pixels, kinds = read(encoded(image, transparency=1))
    assert (pixels[0, 0].tolist(), kinds) == ([255, 255, 255], [ALPHA])


def test_what_has_the_size_keeps_its_pixels() -> None:
    image = picture(0)
    for crop in (True, False):
        assert np.array_equal(read(encoded(image), 8, crop=crop)[0], np.asarray(image))


def test_the_centre_square_or_the_whole() -> None:
    wide = picture(1, 8, 13)
    pixels = np.asarray(wide)
    assert np.array_equal(read(encoded(wide), 8)[0], pixels[:, 2:10])
    high = picture(2, 13, 8)
    assert np.array_equal(read(encoded(high), 8)[0], np.asarray(high)[2:10])
    squeezed = np.asarray(wide.resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(read(encoded(wide), 8, crop=False)[0], squeezed)


def test_odd_sizes() -> None:
    for height, width in ((1, 1), (1, 4000), (3, 2), (401, 7)):
        assert read(encoded(picture(3, height, width)), 16)[0].shape == (16, 16, 3)


def test_exif_turns_an_image() -> None:
    image = picture(4)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    pixels, kinds = read(encoded(image, exif=exif), 8)
    assert kinds == [TURNED]
    assert np.array_equal(pixels, np.rot90(np.asarray(image), -1))


def test_the_first_of_several_frames() -> None:
    first, second = Image.new("RGB", (2, 2), (255, 0, 0)), Image.new("RGB", (2, 2), (0, 0, 255))
    pixels, kinds = read(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert FRAMES in kinds


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no known image format"),
        (b"hello", "no known image format"),
        (encoded(picture(5, 40, 40))[:300], "truncated|broken"),
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "floating-point numbers"),
        (encoded(Image.new("I", (2, 2), 70_000), "TIFF"), r"outside 0\.\.65535"),
        (None, "null"),
    ],
)
def test_what_cannot_be_decoded_is_named(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should be an image"):
        images.read(tmp_path, "x", 2, True)
