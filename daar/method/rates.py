"""The adaptive pruning rate: how many filters each group keeps follows from its attention, and from what it costs."""

import bisect
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from daar.api import ranking, refill_by_importance_per_mac, smallest_ratio

Counts = dict[str, int]
Macs = Callable[[Counts], int]
Loss = Callable[[dict[str, list[int]]], float]
STEPS = 8


class Cumulative:
    """Eq. 12: k_g(t), the fewest channels, best first, whose shares add up to t.

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
        """Eq. 11: without a target, the channels whose share is at least the mean, 1/C."""
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
        InputError: the smallest counts are above the target; says by how much.
    """
    ratio = smallest_ratio(lambda ratio: rule.counts(1 - ratio), macs, target)
    return refill_by_importance_per_mac(rule.counts(1 - ratio), rule.sorted, macs, target)


def steps(rule: Cumulative, group: Any, loss: Loss, dense: float) -> Iterator[tuple[int, float]]:
    """Eq. 14: down by eighths of the channels, least attention first, and what one costs on each step, pruned alone.

    No channel counts for less than those that went before it: once a network guesses its loss hardly grows, and what
    is left of a group would seem to cost nothing. A loss is asked for when its step is.

    Args:
        rule: the orders in which channels go.
        group: of the rule's.
        loss: calibration loss of the masked network.
        dense: the loss with nothing masked.

    Yields:
        (count behind the step, loss that is added by each channel that goes), neither smaller than 0, nor the second
        than before.
    """
    before, low, price = group.size, 0.0, 0.0
    for left in range(STEPS - 1, -1, -1):
        count = max(group.min_kept, math.ceil(group.size * left / STEPS))
        if count < before:
            high = loss(rule.removed(group.name, count)) - dense
            price = max(price, (high - low) / (before - count))
            yield count, price
            before, low = count, high


def descend(rule: Cumulative, loss: Loss, macs: Macs, target: int) -> Counts:
    """Eq. 15: from the dense network down, the step first that adds the least loss per MAC saved; then as `largest`.

    Args:
        rule: the orders in which channels go.
        loss: calibration loss of the masked network.
        macs: MACs of one image for given counts.
        target: the most allowed, within reach.
    """
    dense = loss({})
    ladders = {g.name: steps(rule, g, loss, dense) for g in rule.groups}
    ahead = {name: step for name, ladder in ladders.items() if (step := next(ladder, None))}
    counts: Counts = {g.name: g.size for g in rule.groups}
    used = macs(counts)

    def saved(name: str, count: int) -> int:
        return used - macs({**counts, name: count})

    def per_mac(name: str) -> float:
        count, price = ahead[name]
        return price * (counts[name] - count) / max(1, saved(name, count))

    while used > target:
        name = min(ahead, key=per_mac)
        least, _ = ahead.pop(name)
        # of the last step only what is needed
        enough = range(counts[name] - 1, least - 1, -1)
        index = bisect.bisect_left(enough, used - target, key=functools.partial(saved, name))
        counts[name] = enough[index] if index < len(enough) else least
        used = macs(counts)
        if used > target and (step := next(ladders[name], None)):
            ahead[name] = step
    return refill_by_importance_per_mac(counts, rule.sorted, macs, target)
