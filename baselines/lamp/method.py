"""LAMP: one threshold on layer-adaptive magnitudes. Lee et al., "Layer-adaptive Sparsity for the …", ICLR 2021."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from daar.api import Batch, InputError, MethodInfo, filters, ranking, refill_by_importance_per_mac, smallest_ratio

INFO = MethodInfo(
    name="lamp",
    title="LAMP (Lee et al. 2021)",
    citation="lee2021layer",
    uses=("weights",),
    policy="lamp",
    deviations=(
        "of filters by their norms; the paper prunes single weights by their magnitudes",
        "to a target of MACs, what is left of it filled up by importance per MAC; the paper's is a number of weights",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """||F_j||_2, the magnitude that the policy squares and adapts to the layer.

    Args:
        model: the dense network.
        batch: not used.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: filters(model, layer).flatten(1).norm(dim=1) for layer in layers}


def plan(
    groups: Sequence[Any], importance: Mapping[str, Any], macs_target: int | None, *, macs: Any, loss: Any
) -> dict[str, int]:
    """LAMP: score(u) = W[u]² / Σ_{v ≥ u} W[v]², v no smaller than u in its layer; one threshold for all layers.

    The sum is over what is left once all smaller ones are gone, so the largest of a layer scores 1 and stays. Shares
    serve as magnitudes: a factor common to a group cancels. Arguments and result as in daar/pruning/policy.py.

    Raises:
        InputError: no target, or one that cannot be reached.
    """
    if macs_target is None:
        raise InputError("policy 'lamp' has no rate of its own. Give a target: a macs_reduction between 0 and 1.")
    worth = {g.name: _adapted(importance[g.name][ranking(g, importance[g.name])]) for g in groups}
    everything = np.sort(np.concatenate(list(worth.values())))

    def counts(ratio: float) -> dict[str, int]:
        threshold = everything[min(int(ratio * len(everything)), len(everything) - 1)]
        return {g.name: max(g.min_kept, int((worth[g.name] >= threshold).sum())) for g in groups}

    smallest = smallest_ratio(counts, macs, macs_target)
    ordered = {name: values.tolist() for name, values in worth.items()}
    return refill_by_importance_per_mac(counts(smallest), ordered, macs, macs_target)


def _adapted(ordered: Any) -> Any:
    """(size,) magnitudes, the largest first, to their scores."""
    squares = np.square(ordered)
    return squares / np.maximum(np.cumsum(squares), np.finfo(np.float64).tiny)
