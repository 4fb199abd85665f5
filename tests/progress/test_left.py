"""How long a run still takes: sums that can be done by hand."""

import pytest

from daar.progress import left
from daar.progress.left import Left
from daar.progress.logs import Epoch
from daar.progress.state import Run
from tests.progress.events import BEGAN, DENSE, SETTING, finished, message, planned, said, started


def run(*records: object, **counts: int) -> Run:
    it = Run()
    said(it, message("Building DAG of jobs..."), planned(**counts), *records)
    return it


def at(seconds: float, it: Run) -> Left | None:
    return left.estimate(it, BEGAN + seconds)


def test_nothing_is_known_at_first() -> None:
    assert at(0, run(train=3)) is None
    assert at(5, run(started(1, "train", 0, DENSE), train=3)) is None


def test_one_at_a_time_it_is_the_sum() -> None:
    """One of three has taken 10 s; the second has been at work for 4."""
    it = run(started(1, "train", 0, DENSE), finished(1, 10), started(2, "train", 10, DENSE), train=3)
    assert at(14, it) == Left(6 + 10, least=False)
    # one that takes longer than the mean is taken to be about to end, and then nothing is sure
    assert at(29, it) == Left(10, least=False)
    assert at(31, it) == Left(10, least=True)


def test_two_at_a_time_it_is_half_but_never_less_than_the_longest() -> None:
    jobs = [started(n, "train", 0, DENSE) for n in (1, 2)]
    jobs += [finished(n, 10) for n in (1, 2)] + [started(n, "train", 10, DENSE) for n in (3, 4)]
    assert at(14, run(*jobs, train=8)) == Left((6 + 6 + 4 * 10) / 2, least=False)
    it = run(*jobs, train=4)
    it.running[3].epoch = Epoch(1, 100, "50.00", BEGAN + 114)
    assert at(14, it) == Left(100, least=False)


def test_epochs_say_it_before_a_training_has_ended_for_others_of_its_rule_too() -> None:
    it = run(started(1, "train", 0, DENSE), train=3)
    it.running[1].epoch = Epoch(1, 4, "50.00", BEGAN + 40)
    assert at(10, it) == Left(30 + 2 * 40, least=False)


@pytest.mark.parametrize(("unknown", "least"), [("finetune", True), ("score_l1", True), ("page", False)])
def test_it_is_a_bound_while_a_kind_of_long_jobs_is_unknown(unknown: str, least: bool) -> None:
    it = run(started(1, "train", 0, DENSE), finished(1, 10), **{"train": 2, unknown: 1})
    assert at(10, it) == Left(10, least=least)
    said(it, started(2, unknown, 10, SETTING))
    assert at(10, it) == Left(10, least=least)
