"""The adaptive pruning rate: how many filters each group keeps follows from its attention, and from what it costs."""

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from daar.api import ranking, smallest_ratio, spend_by_worth

Counts = dict[str, int]
Macs = Callable[[Counts], int]
Loss = Callable[[dict[str, list[int]]], float]
# group → (kept count, what that adds to the calibration loss), the count falling from all channels
Ladders = dict[str, list[tuple[int, float]]]

RUNGS = 8


class Cumulative:
    """Eq. 10: k_g(t), the fewest channels, best first, whose shares add up to t.

    Args:
        groups: those in scope.
        importance: group → (size,) shares.
    """

    def __init__(self, groups: Sequence[Any], importance: dict[str, Any]) -> None:
        self.groups = groups
        self.orders = {g.name: ranking(g, importance[g.name]) for g in groups}
        self.sorted = {name: importance[name][order].tolist() for name, order in self.orders.items()}
        self.cumulative = {name: np.cumsum(shares) for name, shares in self.sorted.items()}

    def counts(self, t: float) -> Counts:
        """Kept counts for 0 ≤ t ≤ 1; they grow with t."""
        # 1e-12: the shares of a group add up to 1 only but for rounding
        fewest = {g.name: 1 + int(np.searchsorted(self.cumulative[g.name], t - 1e-12)) for g in self.groups}
        return {g.name: max(g.min_kept, min(g.size, fewest[g.name])) for g in self.groups}

    def above_mean(self) -> Counts:
        """Eq. 9: without a target, the channels whose share is at least the mean, 1/C."""
        # shares are divided by a rounded sum: those of a group of equals must all count as the mean
        return {
            g.name: max(g.min_kept, sum(share * g.size >= 1 - 1e-12 for share in self.sorted[g.name]))
            for g in self.groups
        }

    def removed(self, name: str, count: int) -> dict[str, list[int]]:
        """The one group masked down to `count` channels, as `loss` takes it."""
        return {name: sorted(self.orders[name][count:])}


def largest(rule: Cumulative, macs: Macs, target: int) -> Counts:
    """The largest t whose counts are within the target, then channels by share per MAC until within the slack.

    Args:
        rule: from t to counts.
        macs: MACs of one image for given counts.
        target: the most allowed.

    Raises:
        InputError: the smallest counts are above the target; says how much can be removed.
    """
    ratio = smallest_ratio(lambda ratio: rule.counts(1 - ratio), macs, target)
    return spend_by_worth(rule.counts(1 - ratio), rule.sorted, macs, target)


def ladders(rule: Cumulative, loss: Loss) -> Ladders:
    """Eq. 12: what each group adds to the calibration loss, pruned alone to k_g(t), t = 1, 7/8 … 0.

    Where a step costs more than the next ones would on average, it is left out: of the curve its lower convex hull.

    Args:
        rule: from t to counts, and the orders in which channels go.
        loss: calibration loss of the masked network.
    """
    dense = loss({})
    rungs = [rule.counts(1 - step / RUNGS) for step in range(RUNGS + 1)]
    found = {}
    for group in rule.groups:
        counts = sorted({counts[group.name] for counts in rungs}, reverse=True)
        added = [loss(rule.removed(group.name, k)) - dense if k < group.size else 0.0 for k in counts]
        found[group.name] = _hull(list(zip(counts, added, strict=True)))
    return found


def _hull(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The corners of the lower convex hull of points whose count falls, from first to last."""
    hull: list[tuple[int, float]] = []
    for point in points:
        while len(hull) > 1 and _price(*hull[-2:]) >= _price(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _price(here: tuple[int, float], there: tuple[int, float]) -> float:
    """Loss that is added by each channel that goes."""
    return (there[1] - here[1]) / (here[0] - there[0])


def descend(rule: Cumulative, ladders: Ladders, macs: Macs, target: int) -> Counts:
    """Eq. 13: down the ladders, the step first that adds the least loss per MAC that it saves; then as `largest`.

    Args:
        rule: of the ladders.
        ladders: as the function of that name finds them.
        macs: MACs of one image for given counts.
        target: the most allowed, within reach.
    """
    counts = {name: steps[0][0] for name, steps in ladders.items()}
    rest = {name: list(itertools.pairwise(steps)) for name, steps in ladders.items()}
    used = macs(counts)

    def saved(name: str, count: int) -> int:
        return used - macs({**counts, name: count})

    def per_mac(name: str) -> float:
        (_, before), (count, after) = rest[name][0]
        return (after - before) / max(1, saved(name, count))

    while used > target:
        name = min((name for name, steps in rest.items() if steps), key=per_mac)
        _, (least, _) = rest[name].pop(0)
        # of the last step only what is needed
        enough = range(counts[name] - 1, least - 1, -1)
        step = bisect.bisect_left(enough, used - target, key=lambda count: saved(name, count))
        counts[name] = enough[step] if step < len(enough) else least
        used = macs(counts)
    return spend_by_worth(counts, rule.sorted, macs, target)
