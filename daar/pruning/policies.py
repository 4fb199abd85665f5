"""Policies: how many channels each group keeps.

Every policy has the signature of a method's own `plan`, so that any importance can go with any policy:

    plan(groups, importance, macs_target, *, macs, loss, **options) -> {group name: kept count}

    groups: the groups in scope (name, size, min_kept, members).
    importance: group → (size,), ≥ 0, summing to 1.
    macs_target: the most MACs allowed, or None for the policy's own rate.
    macs: MACs of one image for given counts; exact.
    loss: calibration loss of the masked network, given group → removed indices: cross-entropy to the dense network.
    returns: group → kept count, from its min_kept to its size. Pure: no state, no files.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daar import discovery
from daar.errors import InputError, unknown

if TYPE_CHECKING:  # suites ask for names while the DAG is built: no torch, no numpy
    from daar.pruning.groups import Group
    from daar.pruning.importance import Importance

Counts = dict[str, int]
Macs = Callable[[Counts], int]
Loss = Callable[[dict[str, list[int]]], float]
Policy = Callable[..., Counts]

# a plan within this fraction of the dense MACs below its target is close enough
SLACK = 0.002


def uniform(
    groups: "Sequence[Group]", importance: "Importance", macs_target: int | None, *, macs: Macs, loss: Loss
) -> Counts:
    """One pruning ratio for all groups: the smallest that is within the target.

    Rounding down leaves some of the budget; it is given back channel by channel, to the group with the largest
    fractional remainder first.

    Raises:
        InputError: no target, or one that cannot be reached.
    """
    if macs_target is None:
        raise InputError("policy 'uniform' has no rate of its own. Give a target: macs_reduction between 0 and 1.")

    def counts(ratio: float) -> Counts:
        return {g.name: max(g.min_kept, math.floor((1 - ratio) * g.size + 1e-9)) for g in groups}

    ratio = smallest_ratio(counts, macs, macs_target)
    remainder = {g.name: (1 - ratio) * g.size - counts(ratio)[g.name] for g in groups}
    order = sorted(groups, key=lambda g: -remainder[g.name])
    return spend(counts(ratio), order, macs, macs_target)


def smallest_ratio(counts: Callable[[float], Counts], macs: Macs, macs_target: int) -> float:
    """Bisect the smallest ratio in [0, 1] whose counts are within the target.

    Args:
        counts: from a ratio to counts that fall with it.
        macs: MACs for given counts.
        macs_target: the most allowed.

    Raises:
        InputError: even the highest ratio leaves more; says how much can be removed.
    """
    low, high = 0.0, 1.0
    if macs(counts(high)) > macs_target:
        least, dense = macs(counts(high)), macs(counts(low))
        closest = math.floor(1000 * (1 - least / dense)) / 1000  # rounded so that it can be reached
        raise InputError(
            f"a target of {macs_target:,} MACs cannot be reached: at {least:,} each group is at its minimum. "
            f"The closest macs_reduction is {closest:.3f}; or choose scope `all`."
        )
    if macs(counts(low)) <= macs_target:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if macs(counts(middle)) <= macs_target else (middle, high)
    return high


def spend(counts: Counts, order: "Sequence[Group]", macs: Macs, macs_target: int) -> Counts:
    """Give channels back, one at a time in turn, until within SLACK of the target or nothing fits any more.

    Args:
        counts: kept counts within the target.
        order: the groups, the first in line first.
        macs: MACs for given counts.
        macs_target: the most allowed.
    """
    counts = dict(counts)
    slack = SLACK * macs({g.name: g.size for g in order})
    fits = True
    while fits:
        fits = False
        for group in order:
            if macs_target - macs(counts) <= slack:
                return counts
            more = {**counts, group.name: counts[group.name] + 1}
            if more[group.name] <= group.size and macs(more) <= macs_target:
                counts, fits = more, True
    return counts


OWN: dict[str, Policy] = {"uniform": uniform}


def names(extra: Sequence[Path] = ()) -> dict[str, str]:
    """Every policy there is, ours and those that methods bring: name → what it does or who brings it."""
    brought = {m.policy: f"brought by method {m.name!r}" for m in discovery.find(extra).values() if m.plans is not None}
    return {**{name: (policy.__doc__ or "").splitlines()[0] for name, policy in OWN.items()}, **brought}


def get(name: str, extra: Sequence[Path] = ()) -> Policy:
    """Look a policy up; a method's `plan` is found under the method's policy name.

    Raises:
        InputError: there is none of that name; the message lists those there are.
    """
    if name in OWN:
        return OWN[name]
    for method in discovery.find(extra).values():
        if method.plans is not None and method.policy == name:
            return discovery.load(method).plan
    raise unknown("policy", name, list(names(extra)))
