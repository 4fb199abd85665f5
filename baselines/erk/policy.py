"""ERK: small layers keep more. Evci et al., "Rigging the Lottery", ICML 2020, after Mocanu et al. 2018."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from daar.api import InputError, PolicyInfo, ranking, refill_by_importance_per_mac, smallest_ratio

INFO = PolicyInfo(
    name="erk",
    title="Erdős–Rényi kernel (Evci et al. 2020)",
    citation="evci2020rigging",
    deviations=(
        "of channels; the paper zeroes single weights, at random, and trains which",
        "a group keeps the square root of its density: a conv's is what stays of its outputs times what stays of its "
        "inputs",
        "layers whose channels go together have one density, by which they keep as many weights as by their own",
        "to a target of MACs, what is left of it filled up by importance per MAC; the paper's is a number of weights",
    ),
)


def plan(
    groups: Sequence[Any],
    importance: Mapping[str, Any],
    macs_target: int | None,
    *,
    macs: Any,
    loss: Any,
    shapes: Mapping[str, tuple[int, ...]],
    power: float = 1.0,
) -> dict[str, int]:
    """ERK: a layer's density is ε (n_in + n_out + w + h) / (n_in n_out w h), up to 1.

    As in the authors' code; the paper writes 1 − (…) / (…), with which the sparsity scales. ε, one for all layers, is
    the largest within the target: ε → ∞ keeps all, since densities end at 1.

    Args:
        groups: the groups in scope.
        importance: group → (size,) shares; says which channels stay, and fills up.
        macs_target: the most MACs allowed.
        macs: MACs of one image for given counts.
        loss: not used.
        shapes: layer → shape of its weight, (c_out, c_in/groups, k, k).
        power: of the scaling, 1 in the paper; in the authors' code an option. 0 gives all layers the same density.

    Raises:
        InputError: no target, or one that cannot be reached; or `power` below 0.
    """
    if macs_target is None:
        raise InputError("policy 'erk' has no rate of its own. Give a target: a macs_reduction between 0 and 1.")
    if not 0 <= power <= 10:
        raise InputError(f"option 'power' of policy 'erk' is {power}; it must lie in [0, 10].")
    raw = {group.name: _density(group, shapes) ** power for group in groups}
    # ε from where the smallest is 1, all channels, down by its logarithm; a density below 1e-12 of that keeps none
    start = math.log(1 / min(raw.values()))

    def counts(ratio: float) -> dict[str, int]:
        scale = math.exp(start - ratio * 60)
        kept = {g.name: math.floor(math.sqrt(min(1.0, scale * raw[g.name])) * g.size + 1e-9) for g in groups}
        return {g.name: max(g.min_kept, kept[g.name]) for g in groups}

    ordered = {g.name: importance[g.name][ranking(g, importance[g.name])].tolist() for g in groups}
    return refill_by_importance_per_mac(counts(smallest_ratio(counts, macs, macs_target)), ordered, macs, macs_target)


def _density(group: Any, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Σ (c_in + c_out + k + k) / Σ c_in c_out k k over the layers that make the group's channels."""
    members = [shapes[layer] for layer in group.members]
    return sum(map(sum, members)) / sum(map(math.prod, members))
