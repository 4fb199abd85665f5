"""My policy: what decides the widths, in a few words. Author et al., "Title of the Paper", VENUE 2026."""

from collections.abc import Mapping, Sequence
from typing import Any

# All that may be imported of daar: the names in `daar.api.__all__`. Also torch, numpy, and the standard library.
from daar.api import InputError, PolicyInfo, ranking, refill_by_importance_per_mac, smallest_ratio

# Literals only, no calls and no names: `daar list policies` reads INFO without importing this file.
INFO = PolicyInfo(
    name="my_policy",  # rename 1 of 2: the folder's name
    title="My policy (Author et al. 2026)",  # as `daar list policies` prints it
    citation="author2026title",  # a key of references.bib in this folder
    # Wherever a result may differ from the paper's, one phrase each; a single one needs its comma.
    deviations=("what is done here and not in the paper; what the paper does instead",),
)


# Options come behind `loss`, with the paper's value as default; a variant's `policy_options` set them. A policy that
# reads the layers' shapes takes `shapes` there: layer → (c_out, c_in/groups, k, k), as erk does.
def plan(
    groups: Sequence[Any],
    importance: Mapping[str, Any],
    macs_target: int | None,
    *,
    macs: Any,
    loss: Any,
    least: float = 0.0,
) -> dict[str, int]:
    """Eq. 1: a group of n channels keeps n^(1 − r) of them; r, one for all, is the smallest within the target.

    Args:
        groups: the groups in scope: name, size, min_kept, members (the paths of the convs that make its channels).
        importance: group → (size,) shares, ≥ 0, summing to 1.
        macs_target: the most MACs allowed, or None for a rate of the policy's own.
        macs: MACs of one image for given counts.
        loss: calibration loss of the masked network, given group → removed indices; not used.
        least: fraction of its channels that each group keeps at least.

    Raises:
        InputError: no target, or one that cannot be reached.
    """
    if macs_target is None:
        raise InputError("policy 'my_policy' has no rate of its own. Give a target, a macs_reduction.")  # rename 2 of 2

    def counts(ratio: float) -> dict[str, int]:
        return {g.name: max(g.min_kept, int(least * g.size), int(g.size ** (1 - ratio))) for g in groups}

    within = counts(smallest_ratio(counts, macs, macs_target))
    # what is left of the target is filled up, the most important channels of each group first
    ordered = {g.name: importance[g.name][ranking(g, importance[g.name])].tolist() for g in groups}
    return refill_by_importance_per_mac(within, ordered, macs, macs_target)
