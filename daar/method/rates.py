"""The adaptive pruning rate: how many filters each group keeps follows from how its attention is spread."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from daar.api import ranking, smallest_ratio, spend_by_worth

Counts = dict[str, int]
Macs = Callable[[Counts], int]
Loss = Callable[[dict[str, list[int]]], float]


class Cumulative:
    """Eq. 10: k_g(t), the fewest channels, best first, whose shares add up to t^(1/w_g).

    Args:
        groups: those in scope.
        importance: group → (size,) shares.
        weights: group → w_g; above 1 it keeps more than others at the same t.
    """

    def __init__(self, groups: Sequence[Any], importance: dict[str, Any], weights: dict[str, float]) -> None:
        self.groups = groups
        self.weights = weights
        self.orders = {g.name: ranking(g, importance[g.name]) for g in groups}
        self.sorted = {name: importance[name][order].tolist() for name, order in self.orders.items()}
        self.cumulative = {name: np.cumsum(shares) for name, shares in self.sorted.items()}

    def counts(self, t: float) -> Counts:
        """Kept counts for 0 ≤ t ≤ 1; they grow with t."""
        return {g.name: max(g.min_kept, min(g.size, self._fewest(g.name, t))) for g in self.groups}

    def _fewest(self, name: str, t: float) -> int:
        # 1e-12: the shares of a group add up to 1 only but for rounding
        return 1 + int(np.searchsorted(self.cumulative[name], t ** (1 / self.weights[name]) - 1e-12))

    def above_mean(self) -> Counts:
        """Eq. 9: without a target, the channels whose share is at least the mean, 1/C; at least (1/C)/w_g."""
        # shares are divided by a rounded sum: those of a group of equals must all count as the mean
        return {
            g.name: max(
                g.min_kept, sum(share * g.size * self.weights[g.name] >= 1 - 1e-12 for share in self.sorted[g.name])
            )
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


def sensitivities(rule: Cumulative, counts: Counts, loss: Loss) -> dict[str, float]:
    """Eq. 12: w_g from what each group, pruned alone, adds to the calibration loss.

    Args:
        rule: the orders in which channels go.
        counts: how far each group is pruned.
        loss: calibration loss of the masked network.

    Returns:
        group → w_g, from 0.5 to 2; all 1 where half of the groups add nothing.
    """
    dense = loss({})
    added = {g.name: max(0.0, loss(rule.removed(g.name, counts[g.name])) - dense) for g in rule.groups}
    usual = statistics.median(added.values())
    if usual == 0:
        return dict.fromkeys(added, 1.0)
    return {name: min(2.0, max(0.5, math.sqrt(value / usual))) for name, value in added.items()}
