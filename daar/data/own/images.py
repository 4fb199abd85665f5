"""Any image as 8-bit RGB of one size; what was done to it is told."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from daar.data.decoding import cause, open_encoded
from daar.errors import InputError
from daar.storage.documents import require_file

GREY, ALPHA, CMYK, DEEP, TURNED, FRAMES = (
    "grey", "with alpha (put on white)", "CMYK", "of 16 bits", "turned as EXIF says", "animated (first frame)",
)  # fmt: skip
_WHITE = (255, 255, 255, 255)
_EXIF_ORIENTATION = 0x0112


def read(encoded: bytes | Path | None, name: str, size: int, crop: bool) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Decode an image and scale it.

    Args:
        encoded: bytes or path of the image file.
        name: what a message calls it.
        size: pixels of a side.
        crop: whether the centre square is taken; else the whole image is squeezed.

    Returns:
        (size, size, 3) uint8, and what the image was that is not an ordinary one.

    Raises:
        InputError: it cannot be decoded.
    """
    if encoded is None:
        raise InputError(f"{name} is null")
    if isinstance(encoded, Path):
        require_file(encoded, "an image")
    try:
        with open_encoded(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            kinds = [FRAMES] if getattr(image, "n_frames", 1) > 1 else []
            upright = ImageOps.exif_transpose(image) if image.getexif().get(_EXIF_ORIENTATION, 1) != 1 else image
            kinds += [TURNED] if upright is not image else []
            rgb = _rgb(upright, kinds)
            box = _square(rgb) if crop else None
            return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, box=box)), kinds
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise InputError(f"{name} ({cause(error)})") from error


def _square(image: Image.Image) -> tuple[float, float, float, float]:
    """The largest square in the centre; of an odd margin the larger part is right and below."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _rgb(image: Image.Image, kinds: list[str]) -> Image.Image:
    """An image as RGB; notes its kind."""
    if image.mode.startswith("I"):
        kinds += [GREY, DEEP]
        return Image.fromarray(_in_8_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers, whose range nobody knows; convert it to 8 or 16 bits")
    if image.mode in ("1", "L", "LA", "La"):
        kinds.append(GREY)
    if image.mode == "CMYK":
        kinds.append(CMYK)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        kinds.append(ALPHA)
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, _WHITE), seen).convert("RGB")
    return image.convert("RGB")


def _in_8_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Grey values of 16 bits, 0..65535, as 0..255: 65535 is 257 · 255."""
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65_535:
        raise ValueError("pixels are outside 0..65535; convert it to 8 or 16 bits")
    return np.round(wide / 257).astype(np.uint8)
