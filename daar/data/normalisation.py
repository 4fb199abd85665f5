"""By what a network's input is normalised, (pixel in 0..1 - mean) / std per channel, and which numbers that can be."""

import math
from collections.abc import Sequence

from daar.errors import InputError

RESULT_NEUTRAL = "refuses numbers, changes none"

# A mean of pixels in 0..1 is in 0..1. Their standard deviation is at most 0.5 (Popoviciu); published weights also have
# 1, which leaves the scale as it is, and 1/255 = 0.0039, which makes pixels of 0..255. A quarter of such a step or less
# is a channel without a picture, or a mistake.
MEAN, STD = (0.0, 1.0), (0.001, 1.0)


def require(mean: Sequence[float], std: Sequence[float], channels: int, where: str) -> None:
    """Check mean and standard deviation.

    Args:
        mean: per channel, of pixels in 0..1.
        std: standard deviation, of the same pixels.
        channels: of an image.
        where: begins the message: the file or option that they come from.

    Raises:
        InputError: there is not one of each for every channel, or one is outside MEAN or STD.
    """
    if len(mean) != channels or len(std) != channels:
        raise InputError(
            f"{where}: mean and std must have {channels} values each, one for a channel, got {len(mean)} and "
            f"{len(std)}. Give one for each channel."
        )
    for name, values, (least, most) in (("mean", mean, MEAN), ("std", std, STD)):
        for value in values:
            if not least <= value <= most:  # NaN too
                raise InputError(
                    f"{where}: {name} has {value:g}, expected {least:g} to {most:g}, as pixels are in 0..1. "
                    f"{_remedy(value)}"
                )


def _remedy(value: float) -> str:
    if math.isfinite(value) and 1 < value <= 255:
        return "Divide what is of pixels in 0..255 by 255."
    return "Give what the network was trained with."
