"""The intervals are scipy's, and cover what they should."""

import itertools

import pytest
import scipy.stats

from benchmarks.proportions import difference, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 10), (5, 10), (10, 10), (381, 500), (1, 1)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    expected = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson([True] * right + [False] * (n - right)) == pytest.approx((right / n, expected.low, expected.high))


def pairs(won: int, lost: int, n: int) -> tuple[list[bool], list[bool]]:
    """Right in one alone, in the other alone, and both or none in turn."""
    rest = [index % 2 == 0 for index in range(n - won - lost)]
    return [True] * won + [False] * lost + rest, [False] * won + [True] * lost + rest


@pytest.mark.parametrize("chances", [(0.1, 0.05), (0.2, 0.2), (0.3, 0.05)])
def test_the_difference_is_covered_in_19_of_20_cases(chances: tuple[float, float]) -> None:
    n, (gain, loss) = 60, chances
    multinomial = scipy.stats.multinomial(n, [gain, loss, 1 - gain - loss])
    covered = 0.0
    for won, lost in itertools.product(range(n + 1), repeat=2):
        if won + lost <= n:
            interval = difference(*pairs(won, lost, n))
            assert interval.value == pytest.approx((won - lost) / n)
            covered += multinomial.pmf([won, lost, n - won - lost]) * (interval.low <= gain - loss <= interval.high)
    assert 0.94 <= covered <= 0.97


def test_the_difference_of_one_with_itself_is_about_nothing() -> None:
    value, low, high = difference(*pairs(0, 0, 500))
    assert value == 0
    assert low == pytest.approx(-high)
    assert high < 0.01


def test_images_of_two_sets_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        difference([True, False], [True])
