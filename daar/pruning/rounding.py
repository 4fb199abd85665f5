"""Kept counts in multiples that hardware likes, as near to a policy's own as the target allows."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from daar.errors import InputError
from daar.pruning.target import closest

if TYPE_CHECKING:
    from daar.pruning.groups import Group
    from daar.pruning.policy import Counts, Macs


# exchanges, and groups on either side that are looked at for each: what is left then is a small part of a step
_MOST_EXCHANGES, _LOOKED_AT = 20, 24
# a plan within this fraction of the dense MACs below its target is close enough
_CLOSE = 0.002


def round_counts(
    counts: "Counts", groups: "Sequence[Group]", multiple: int, macs: "Macs", macs_target: int | None, of: str = "macs"
) -> "Counts":
    """Round every group's count to a multiple, or to its whole size.

    Without a target each count goes to the nearest multiple. With one, all are rounded down, and those that lost most
    go up again as long as the target holds; then one goes up for another that goes down, as long as that comes closer
    to the target. No group ends more than a step from its count for that.

    Args:
        counts: group → kept count, as the policy chose.
        groups: the groups in scope.
        multiple: of channels, at least 1.
        macs: MACs of one image for given counts.
        macs_target: the most MACs allowed, or None.
        of: what `macs` counts, if not MACs: `params`; for the message.

    Raises:
        InputError: `multiple` is below 1, or no multiples are within the target.
    """
    if multiple < 1:
        raise InputError(f"round_to is {multiple}; it must be at least 1: kept channels come in multiples of it.")
    if multiple == 1:
        return counts
    allowed = {g.name: _allowed(g, multiple) for g in groups}
    if macs_target is None:
        return {name: min(allowed[name], key=lambda size: (abs(size - count), -size)) for name, count in counts.items()}
    if macs(least(groups, multiple)) > macs_target:
        raise InputError(_too_coarse(groups, multiple, macs, macs_target, of))
    kept = {
        name: max((s for s in allowed[name] if s <= count), default=allowed[name][0]) for name, count in counts.items()
    }
    lost = {name: counts[name] - kept[name] for name in counts}
    _shrink(kept, allowed, lost, macs, macs_target)
    _grow(kept, allowed, lost, macs, macs_target)
    _exchange(kept, allowed, lost, macs, macs_target)
    return kept


def _allowed(group: "Group", multiple: int) -> list[int]:
    """The sizes that a group may have, ascending: multiples from its minimum on, and its whole size."""
    first = -(-group.min_kept // multiple) * multiple
    return sorted({*range(first, group.size, multiple), group.size})


def least(groups: "Sequence[Group]", multiple: int) -> "Counts":
    """The fewest channels that each group may keep: a multiple, or its whole size."""
    return {g.name: min(g.size, -(-g.min_kept // multiple) * multiple) for g in groups}


def _too_coarse(groups: "Sequence[Group]", multiple: int, macs: "Macs", macs_target: int, of: str) -> str:
    """That no such multiples are within the target; names the next ones that are, and the closest target."""
    fewest, dense = macs(least(groups, multiple)), macs({g.name: g.size for g in groups})
    smaller = range(min(multiple - 1, max(g.size for g in groups)), 1, -1)
    fits = next((some for some in smaller if macs(least(groups, some)) <= macs_target), 1)
    reduction = closest(fewest, dense)
    lower = f", or a {of}_reduction of {reduction:.3f} or less" if reduction else ""
    return (
        f"no widths in such multiples have {macs_target:,} {'MACs' if of == 'macs' else 'parameters'} or fewer: at the "
        f"least there are {fewest:,}. Take a round_to of {fits}{lower}."
    )


def _shrink(
    kept: "Counts", allowed: dict[str, list[int]], lost: dict[str, int], macs: "Macs", macs_target: int
) -> None:
    """Take steps from groups until within the target, in place; first from the group that has lost least so far."""
    while macs(kept) > macs_target:
        lower = {name: [size for size in allowed[name] if size < kept[name]] for name in kept}
        lower = {name: sizes for name, sizes in lower.items() if sizes}
        name = min(lower, key=lambda name: lost[name])
        lost[name] += kept[name] - lower[name][-1]
        kept[name] = lower[name][-1]


def _grow(kept: "Counts", allowed: dict[str, list[int]], lost: dict[str, int], macs: "Macs", macs_target: int) -> None:
    """Give steps back to groups below their count while the target holds, in place; first to the one that lost most."""
    waiting = {name for name in kept if lost[name] > 0}
    while waiting:
        name = max(sorted(waiting), key=lambda name: lost[name])
        above = next(size for size in allowed[name] if size > kept[name])
        if macs({**kept, name: above}) > macs_target:
            waiting.discard(name)  # nor will it fit later: others only grow
            continue
        lost[name] -= above - kept[name]
        kept[name] = above
        if lost[name] <= 0:
            waiting.discard(name)


def _exchange(
    kept: "Counts", allowed: dict[str, list[int]], lost: dict[str, int], macs: "Macs", macs_target: int
) -> None:
    """Let a group below its count go up for one above it that goes down, in place: the pair that comes closest."""
    close = macs_target - _CLOSE * macs({name: sizes[-1] for name, sizes in allowed.items()})
    for _ in range(_MOST_EXCHANGES):
        used = macs(kept)
        if used >= close:
            return
        below = sorted((name for name in kept if lost[name] > 0), key=lambda name: -lost[name])[:_LOOKED_AT]
        above = sorted((name for name in kept if lost[name] < 0), key=lambda name: lost[name])[:_LOOKED_AT]
        # fewer channels than the least cannot stay: those who were lifted to it do not go down
        above = [name for name in above if kept[name] != allowed[name][0]]
        best, found = used, None
        for up, down in product(below, above):
            tried = {**kept, up: _next(allowed[up], kept[up], 1), down: _next(allowed[down], kept[down], -1)}
            if best < macs(tried) <= macs_target:
                best, found = macs(tried), tried
        if found is None:
            return
        for name in kept:
            lost[name] += kept[name] - found[name]
        kept.update(found)
        _grow(kept, allowed, lost, macs, macs_target)


def _next(sizes: list[int], size: int, step: int) -> int:
    return sizes[sizes.index(size) + step]
