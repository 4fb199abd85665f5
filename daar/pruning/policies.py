"""The policies: how many channels each group keeps, by name. What a policy is, see policy.py."""

import bisect
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daar.errors import InputError, unknown
from daar.methods import discovery, planners
from daar.pruning import own_ratios, published_ratios
from daar.pruning.policy import Counts, Loss, Macs, Policy

if TYPE_CHECKING:  # suites ask for names while the DAG is built: no torch, no numpy
    from daar.pruning.groups import Group
    from daar.pruning.importance import Importance

# a plan within this fraction of the dense MACs below its target is close enough
SLACK = 0.002


class TargetError(InputError):
    """A policy cannot meet a target; who calls it knows the scope and what else may help.

    Attributes:
        target: the most MACs, or parameters, that were allowed.
        least: the fewest that the policy leaves.
    """

    def __init__(self, target: int, least: int) -> None:
        super().__init__(
            f"a target of {target:,} MACs or parameters cannot be reached: with the fewest channels that the policy "
            f"keeps there are {least:,}. Give a target of {least:,} or more."
        )
        self.target, self.least = target, least


def uniform(
    groups: "Sequence[Group]", importance: "Importance", macs_target: int | None, *, macs: Macs, loss: Loss
) -> Counts:
    """One pruning ratio for all groups: the smallest that is within the target.

    Rounding down leaves part of the budget unused; channels are added back with it one by one, to the group with the
    largest fractional remainder first.

    Raises:
        InputError: no target, or one that cannot be reached.
    """
    if macs_target is None:
        raise InputError(_no_rate("uniform"))

    def counts(ratio: float) -> Counts:
        return {g.name: max(g.min_kept, math.floor((1 - ratio) * g.size + 1e-9)) for g in groups}

    ratio = smallest_ratio(counts, macs, macs_target)
    remainder = {g.name: (1 - ratio) * g.size - counts(ratio)[g.name] for g in groups}
    order = sorted(groups, key=lambda g: -remainder[g.name])
    return refill_in_turn(counts(ratio), order, macs, macs_target)


def global_(
    groups: "Sequence[Group]", importance: "Importance", macs_target: int | None, *, macs: Macs, loss: Loss
) -> Counts:
    """One threshold on size × share for all groups: the lowest that is within the target.

    A share times the group's size is 1 on average in every group, so that wide and narrow ones compare. A channel stays
    if it reaches the threshold, or if its group needs it for its minimum. What is left of the budget is refilled by
    importance per MAC.

    Raises:
        InputError: no target, or one that cannot be reached.
    """
    if macs_target is None:
        raise InputError(_no_rate("global"))
    from daar.pruning.importance import ranking  # it imports torch

    # rounded, for equal shares of groups of unequal size to be equals (49 × 1/49 < 1)
    worth = {g.name: (g.size * importance[g.name][ranking(g, importance[g.name])]).round(12).tolist() for g in groups}
    # negated, since bisect wants values that rise; the first min_kept stay whatever they are worth
    rest = {g.name: [-value for value in worth[g.name][g.min_kept :]] for g in groups}

    def counts(threshold: float) -> Counts:
        return {g.name: g.min_kept + bisect.bisect_right(rest[g.name], -threshold) for g in groups}

    thresholds = [math.inf, *sorted({-value for values in rest.values() for value in values}, reverse=True)]
    within = bisect.bisect_right(thresholds, macs_target, key=lambda threshold: macs(counts(threshold)))
    if not within:
        raise TargetError(macs_target, macs(counts(math.inf)))
    return refill_by_importance_per_mac(counts(thresholds[within - 1]), worth, macs, macs_target)


def smallest_ratio(counts: Callable[[float], Counts], macs: Macs, macs_target: int) -> float:
    """Bisect the smallest ratio in [0, 1] whose counts are within the target.

    Args:
        counts: from a ratio to counts that fall with it.
        macs: MACs for given counts.
        macs_target: the most allowed.

    Raises:
        TargetError: even the highest ratio leaves more; says how much.
    """
    low, high = 0.0, 1.0
    if macs(counts(high)) > macs_target:
        raise TargetError(macs_target, macs(counts(high)))
    if macs(counts(low)) <= macs_target:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if macs(counts(middle)) <= macs_target else (middle, high)
    return high


def refill_in_turn(counts: Counts, order: "Sequence[Group]", macs: Macs, macs_target: int) -> Counts:
    """Add channels back, one to each group in turn, until within SLACK of the target or none fits any more.

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


def refill_by_importance_per_mac(counts: Counts, worth: dict[str, list[float]], macs: Macs, macs_target: int) -> Counts:
    """Add channels back one by one, the most importance per MAC first, until within SLACK of the target or none fits.

    The MACs of a channel only grow while others come back, and each group's most important channel comes first. So
    importance per MAC only falls: an earlier figure is an upper bound, and only the group in front needs a new one.

    Args:
        counts: kept counts within the target.
        worth: group → importance of each of its channels, (size,), in the order in which they come back.
        macs: MACs for given counts; more channels never cost less.
        macs_target: the most allowed.
    """
    counts = dict(counts)
    used = macs(counts)
    slack = SLACK * macs({name: len(values) for name, values in worth.items()})
    # (-importance per MAC as last seen, place, group): a heap gives the smallest first, of equals the earlier group
    queue = [(-math.inf, place, name) for place, name in enumerate(counts)]
    while queue and macs_target - used > slack:
        _, place, name = heapq.heappop(queue)
        if counts[name] == len(worth[name]):
            continue
        cost = macs({**counts, name: counts[name] + 1}) - used
        if used + cost > macs_target:
            continue  # nor will it fit later
        now = (-worth[name][counts[name]] / cost if cost else -math.inf, place, name)
        if not queue or now < queue[0]:
            counts[name], used = counts[name] + 1, used + cost
        heapq.heappush(queue, now)
    return counts


def _no_rate(name: str) -> str:
    return f"policy {name!r} has no rate of its own. Give a target: a macs_reduction between 0 and 1, not null."


# each needs a target
OWN: dict[str, Policy] = {"uniform": uniform, "global": global_}


def names(extra: Sequence[Path] = ()) -> dict[str, str]:
    """Every policy there is, ours, the papers' and those that methods bring: name → what it does or where it is from.

    Raises:
        InputError: a file of published ratios is damaged.
    """
    ours = {name: (policy.__doc__ or "").splitlines()[0] for name, policy in OWN.items()}
    brought = {
        name: str(one.info.get("title", "")) if one.is_policy else f"brought by method {one.name!r}"
        for name, one in planners.find(extra).items()
    }
    return {**ours, **{name: ratios.summary for name, ratios in published_ratios.find().items()}, **brought}


def measuring(extra: Sequence[Path] = ()) -> list[str]:
    """Those that read the calibration loss, sorted."""
    return planners.measuring(extra)


def get(name: str, extra: Sequence[Path] = (), *, network: str | None = None) -> Policy:
    """Look a policy up; a method's `plan` goes by the method's policy name.

    Args:
        name: of the policy.
        extra: further folders of methods, whose policies count too.
        network: whose ratios are wanted, for the `published-…` policies.

    Raises:
        InputError: there is none of that name, and the message lists those there are; or it has no ratios for the
            network.
    """
    if name in OWN:
        return OWN[name]
    if name in published_ratios.find():
        return published_ratios.policy(name, network)
    for method in planners.find(extra).values():
        if method.plans is not None and method.policy == name:
            plan: Policy = discovery.load(method).plan
            return plan
    raise unknown("policy", name, list(names(extra)))


def check_options(name: str, given: Mapping[str, Any], extra: Sequence[Path] = ()) -> None:
    """Compare keyword options for a policy with those that it has; only policies that folders bring have any.

    Args:
        name: of the policy.
        given: option → value.
        extra: further folders of methods, whose policies count too.

    Raises:
        InputError: it has no such option, or it does not take that value; lists what there is.
    """
    brought = [m.plans for m in planners.find(extra).values() if m.plans is not None and m.policy == name]
    allowed = brought[0] if brought else {}
    for option, value in given.items():
        if option not in allowed:
            raise unknown(f"option of policy {name!r}", option, list(allowed))
        if value not in allowed[option]:
            raise InputError(f"option {option!r} of policy {name!r} is {value!r}; it takes {allowed[option]}.")


def problem(name: str, network: str, target: float | None) -> str | None:
    """Why a policy cannot plan this, a sentence, before anything runs; None where nothing speaks against it.

    Args:
        name: of the policy.
        network: to be pruned.
        target: fraction of the MACs to be removed, or None.
    """
    if name in OWN:
        return _no_rate(name) if target is None else None
    if own_ratios.is_own(name):
        return None if target is None else own_ratios.no_target()
    return published_ratios.problem(name, network, target) if name in published_ratios.find() else None
