"""Intervals of 95 % for accuracies of one set of images, and for the difference of two on the same images."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

_Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """An estimate and its interval, as fractions."""

    value: float
    low: float
    high: float


def wilson(correct: Sequence[bool]) -> Interval:
    """The fraction that is right (Wilson, Journal of the American Statistical Association 22, 1927).

    Args:
        correct: of each image, one at least.
    """
    n, share = len(correct), sum(correct) / len(correct)
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Interval(share, centre - half, centre + half)


def difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Interval:
    """How much more of the same images one is right on than another.

    Bonett & Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data",
    Journal of Educational and Behavioral Statistics 37(4), 2012.

    Args:
        ours: whether one is right, for each image.
        theirs: whether the other is, for the same images in the same order.
    """
    won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    n = len(ours)
    gain, loss = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _Z * math.sqrt((gain + loss - (gain - loss) ** 2) / (n + 2))
    return Interval((won - lost) / n, gain - loss - half, gain - loss + half)
