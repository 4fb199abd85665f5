"""The short form of a test of several parameters."""

from itertools import product

import pytest

from tests.pairs import in_pairs


@pytest.mark.parametrize("sizes", [(4, 3, 2), (3, 3, 3), (5, 1), (7,)])
def test_every_pair_is_in_the_short_form_and_every_case_in_the_long_one(sizes: tuple[int, ...]) -> None:
    cases = list(product(*(range(size) for size in sizes)))
    found = in_pairs(cases)
    assert [case.values for case in found] == cases
    short = [case.values for case in found if not case.marks]
    for at, size in enumerate(sizes):
        assert {case[at] for case in short} == set(range(size))
    for one, first in enumerate(sizes):
        for other, second in list(enumerate(sizes))[one + 1 :]:
            assert {(case[one], case[other]) for case in short} == set(product(range(first), range(second)))
    if len(sizes) == 3:
        assert len(short) < len(cases)
