"""Time two things side by side: windows of either in turn, in one run, and a ratio for each pair of neighbours.

Machines drift (clock, temperature, neighbours), so two runs one after the other say little. Two neighbouring windows
have seen the same machine; their ratio is what is reported, as a median with its range.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.quiet import Quiet

RATE, SECONDS = "images/s", "s"


@dataclass(frozen=True)
class Options:
    """How much is done in a window.

    Attributes:
        device: where networks run.
        steps: training steps in a window.
        lead: untimed training steps before a window, until the loader's workers, who went on meanwhile, have no more
            batches ready than they will have at its end.
        train_images: size of the made-up train part.
        test_images: images classified in a window.
    """

    device: torch.device
    steps: int = 15
    lead: int = 5
    train_images: int = 390 * 128
    test_images: int = 10_000


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        what: its settings, in words.
        work: what is timed; returns when all of it is done, on every device.
        images: how many images `work` takes; 0 where seconds are what counts.
        times: how often `work` does what seconds are given of.
        before: runs untimed before each window.
    """

    what: str
    work: Callable[[], None]
    images: int = 0
    times: int = 1
    before: Callable[[], None] = _nothing

    def value(self, seconds: float) -> float:
        """What a window of so many seconds means: images per second, or seconds of one time."""
        return self.images / seconds if self.images else seconds / self.times


@dataclass(frozen=True)
class Sides:
    """What a benchmark has opened: ours, the reference where there is one, and facts that are no timing."""

    ours: Side
    reference: Side | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What is to be reached, in words and as a test of the result; the ratio that is asked for, for the figure."""

    words: str
    reached: Callable[["Result"], bool]
    ratio: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named pair.

    Attributes:
        name: as `daar bench --only` takes it.
        title: as the table prints it.
        open: makes the two sides ready, and tidies up behind them.
        goal: what is to be reached, or None.
        most: at most so many windows, for what takes long and hardly varies.
        budget: no further window is begun after so many seconds of windows, the warm-up's included.
        difference: ours minus reference is what counts, not a ratio.
    """

    name: str
    title: str
    open: Callable[[Options], AbstractContextManager[Sides]]
    goal: Goal | None = None
    most: int = 1_000
    budget: float = float("inf")
    difference: bool = False


@dataclass(frozen=True)
class Numbers:
    """One value per window."""

    windows: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle window, or the mean of the middle two."""
        return statistics.median(self.windows)

    def to_json(self) -> dict[str, Any]:
        """Every window, and what the table says of them."""
        return {
            "windows": list(self.windows),
            "median": self.median,
            "min": min(self.windows),
            "max": max(self.windows),
        }


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        benchmark: what it was.
        unit: of both sides: images/s, where more is better, or s.
        ours: one value per window.
        reference: the same, or None.
        compared: window by window, how many times faster ours is, or by how much it differs; None without a reference.
        repeated: pairs of windows that were taken again, since other programs were at work.
        what: what ran as ours and as the reference. Words, so that a result holds no network or images alive.
        facts: what is no timing.
    """

    benchmark: Benchmark
    unit: str
    ours: Numbers
    reference: Numbers | None
    compared: Numbers | None
    repeated: int
    what: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        return None if self.benchmark.goal is None else self.benchmark.goal.reached(self)

    def to_json(self) -> dict[str, Any]:
        """Keys as in docs/performance.md."""
        comparison = "difference" if self.benchmark.difference else "ratio"
        return {
            "name": self.benchmark.name,
            "title": self.benchmark.title,
            "unit": self.unit,
            "ours": {"what": self.what[0], **self.ours.to_json()},
            "reference": self.reference and {"what": self.what[1], **self.reference.to_json()},
            comparison: self.compared and self.compared.to_json(),
            "repeated": self.repeated,
            "facts": self.facts,
            "goal": self.benchmark.goal and self.benchmark.goal.words,
            "reached": self.reached,
        }


def at_least(ratio: float) -> Goal:
    """Ours is so many times faster than the reference, in the median."""
    return Goal(f"≥ {ratio:g}×", lambda r: r.compared is not None and r.compared.median >= ratio, ratio)


def within(times: float) -> Goal:
    """Ours takes at most so many times as long as the reference, in the median."""
    least = 1 / times
    return Goal(f"≤ {times:g}× the time", lambda r: r.compared is not None and r.compared.median >= least, least)


def under(seconds: float) -> Goal:
    """Ours takes less, in the median."""
    return Goal(f"< {seconds:g} s", lambda r: r.ours.median < seconds)


def measure(
    benchmark: Benchmark,
    options: Options,
    windows: int,
    clock: Callable[[], float] = time.perf_counter,
    quiet: Quiet | None = None,
) -> Result:
    """Warm both sides up by one window, then time windows of ours and of the reference in turn.

    Args:
        benchmark: what.
        options: how much in a window.
        windows: of each side; fewer where the benchmark says so.
        clock: gives seconds.
        quiet: what to wait for before each pair of windows; a pair is taken again if it was disturbed.
    """
    quiet = quiet or Quiet(0)
    rounds: list[list[float]] = []
    repeated = 0
    with benchmark.open(options) as sides:
        both = [side for side in (sides.ours, sides.reference) if side is not None]
        spent = sum(_seconds(side, clock) for side in both)
        while not rounds or (len(rounds) < min(windows, benchmark.most) and spent < benchmark.budget):
            quiet.wait()
            seconds = [_seconds(side, clock) for side in both]
            spent += sum(seconds)
            if quiet.disturbed():
                repeated += 1
            else:
                rounds.append([side.value(s) for side, s in zip(both, seconds, strict=True)])
    ours, *rest = (Numbers(own) for own in zip(*rounds, strict=True))
    unit = RATE if sides.ours.images else SECONDS
    reference = rest[0] if rest else None
    compared = reference and _compare(ours, reference, unit, benchmark.difference)
    what = tuple(side.what for side in both)
    return Result(benchmark, unit, ours, reference, compared, repeated, what, sides.facts)


def _seconds(side: Side, clock: Callable[[], float]) -> float:
    side.before()
    start = clock()
    side.work()
    return clock() - start


def _compare(ours: Numbers, reference: Numbers, unit: str, difference: bool) -> Numbers:
    """Window by window; a ratio above 1 says that ours is faster, whatever the unit."""
    pairs = list(zip(ours.windows, reference.windows, strict=True))
    if difference:
        return Numbers(tuple(own - other for own, other in pairs))
    return Numbers(tuple(own / other if unit == RATE else other / own for own, other in pairs))
