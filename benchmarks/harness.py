"""Time two sides in one run: their windows alternate, and each pair of neighbouring windows gives a ratio.

Machines drift (clock, temperature, other programs), so two runs one after the other say little. Two neighbouring
windows meet the same conditions; their ratio is reported, as a median with its range.
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
    """The work of a window.

    Attributes:
        device: where networks run.
        steps: training steps in a window.
        lead: untimed training steps before a window. The loader's workers have gone on in the meantime; these steps use
            up the batches that they have prepared.
        train_images: size of the random train part.
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
    """One of the two sides of a comparison.

    Attributes:
        what: its settings, in words.
        work: what is timed; returns when all devices have finished.
        images: number of images that `work` processes; 0 to report seconds.
        times: number of repetitions in `work`; seconds are of one of them.
        before: run untimed before each window.
    """

    what: str
    work: Callable[[], None]
    images: int = 0
    times: int = 1
    before: Callable[[], None] = _nothing

    def value(self, seconds: float) -> float:
        """The figure of a window: images per second, or seconds of one repetition."""
        return self.images / seconds if self.images else seconds / self.times


@dataclass(frozen=True)
class Sides:
    """The opened sides of a benchmark: ours, the reference if there is one, and facts other than times."""

    ours: Side
    reference: Side | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """A goal: in words, as a test of the result, and as a ratio for the figure if it is one."""

    words: str
    reached: Callable[["Result"], bool]
    ratio: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named comparison of two sides.

    Attributes:
        name: as `python -m benchmarks --only` takes it.
        title: as the table prints it.
        open: prepares the two sides, and cleans up after them.
        goal: to be reached, or None.
        most: limit on the number of windows, for work that takes long and hardly varies.
        budget: seconds of windows, with the warm-up, after which no further one is started.
        difference: whether ours minus reference is reported instead of a ratio.
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
        """All windows, and their median and range."""
        return {
            "windows": list(self.windows),
            "median": self.median,
            "min": min(self.windows),
            "max": max(self.windows),
        }


@dataclass(frozen=True)
class Result:
    """The result of a benchmark.

    Attributes:
        benchmark: that was run.
        unit: of both sides: images/s, where more is better, or s.
        ours: one value per window.
        reference: one value per window, or None.
        compared: ratio (above 1: ours is faster) or difference of each pair of windows; None without a reference.
        repeated: pairs of windows that were repeated, since other programs were running.
        what: settings of ours and of the reference, in words: a result keeps no network or images in memory.
        facts: other than times.
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
        """Whether the goal is reached; None without a goal."""
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
    """Goal: ours is at least `ratio` times as fast as the reference, in the median."""
    return Goal(f"≥ {ratio:g}×", lambda r: r.compared is not None and r.compared.median >= ratio, ratio)


def within(times: float) -> Goal:
    """Goal: ours takes at most `times` times as long as the reference, in the median."""
    least = 1 / times
    return Goal(f"≤ {times:g}× the time", lambda r: r.compared is not None and r.compared.median >= least, least)


def under(seconds: float) -> Goal:
    """Goal: ours takes less than `seconds`, in the median."""
    return Goal(f"< {seconds:g} s", lambda r: r.ours.median < seconds)


def measure(
    benchmark: Benchmark,
    options: Options,
    windows: int,
    clock: Callable[[], float] = time.perf_counter,
    quiet: Quiet | None = None,
) -> Result:
    """Warm up both sides by one window, then time alternating windows of ours and of the reference.

    Args:
        benchmark: to run.
        options: work of a window.
        windows: of each side; fewer if the benchmark has a limit.
        clock: returns seconds.
        quiet: waits before each pair of windows; a disturbed pair is repeated.
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
    """Ratio or difference of each pair of windows; a ratio above 1 means that ours is faster, whatever the unit."""
    pairs = list(zip(ours.windows, reference.windows, strict=True))
    if difference:
        return Numbers(tuple(own - other for own, other in pairs))
    return Numbers(tuple(own / other if unit == RATE else other / own for own, other in pairs))
