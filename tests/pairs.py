"""Fewer combinations of several parameters, in which every two values that meet in any meet all the same."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest


def in_pairs(cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Parameters of a test, those marked as slow that hold no pair of values that others do not hold."""
    missing = {pair for case in cases for pair in _pairs(case)}
    needed = set()
    while missing:
        best = max(cases, key=lambda case: len(missing & _pairs(case)))
        needed.add(best)
        missing -= _pairs(best)
    return [pytest.param(*case, marks=[] if case in needed else pytest.mark.slow) for case in cases]


def _pairs(case: tuple[Any, ...]) -> set[Any]:
    return set(combinations(enumerate(case), min(2, len(case))))
