"""How many calibration images an importance needs: how much it depends on which images it was given."""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch, calibration_indices
from daar.errors import InputError
from daar.methods.discovery import Method
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.importance import Importance, group_importance
from daar.pruning.planning import uniform_plan
from daar.pruning.scoring import Batch, score

Kept = dict[str, tuple[int, ...]]


def stability(
    *,
    base: Path,
    method: Method,
    options: dict[str, Any],
    packs: Path,
    images: Sequence[int],
    seeds: Sequence[int],
    scope: str,
    target: float,
    device: torch.device,
) -> dict[str, Any]:
    """Score with every (count, seed) and compare: seeds with each other, and each with its own largest count.

    Args:
        base: folder of the dense checkpoint.
        method: whose score().
        options: keyword options of the variant.
        packs: folder of the packed dataset; only its train part is read.
        images: counts of calibration images; of a seed, fewer are the beginning of more.
        seeds: each fixes one permutation of the train part.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, at uniform widths, for the kept sets.
        device: where the network runs.

    Returns:
        As in workflow/schemas/stability.schema.yaml.

    Raises:
        InputError: fewer than 2 seeds or no count, one twice, or more images than the train part has.
    """
    _check(images, seeds, packs)
    model, about = checkpoint.load(base)
    graph = graph_of(model, about.input_shape)
    pack = loading.load(Path(packs) / "train.safetensors")
    model.to(device)
    shares: dict[tuple[int, int], Importance] = {}
    kept: dict[tuple[int, int], Kept] = {}
    for count, seed in itertools.product(sorted(images), seeds):
        batch = Batch(*calibration_batch(pack, seed, count, about.mean, about.std))
        scores = score(model, batch, graph, method, options, seed)
        shares[count, seed] = group_importance(graph.in_scope(scope), scores)
        plan = uniform_plan(graph, scores, scope, target)
        kept[count, seed] = {group.name: group.kept for group in plan.groups}
    return {
        **{"format": 1, "network": about.network, "dataset": about.dataset, "method": method.name},
        **{"options": options, "scope": scope, "target": target, "seeds": list(seeds)},
        "groups": len(graph.in_scope(scope)),
        "random_overlap": _random_overlap(graph, kept[max(images), seeds[0]]),
        "counts": [_row(count, max(images), seeds, shares, kept) for count in sorted(images)],
    }


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's. Where it is undefined, as a constant ranks nothing: 1 if both are constant, 0 if one is."""
    constant = np.ptp(one) == 0, np.ptp(other) == 0
    if any(constant):
        return float(all(constant))
    with warnings.catch_warnings():
        # shares that differ in the last bits alone; spearmanr ranks them all the same
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        return float(scipy.stats.spearmanr(one, other).statistic)


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """|A ∩ B| / |A ∪ B| of two sets of indices, not both empty."""
    return len(set(one) & set(other)) / len(set(one) | set(other))


def random_overlap(size: int, kept: int) -> float:
    """What `overlap` is on average for two independent random sets of `kept` out of `size` indices.

    Their intersection is hypergeometric: Σ_i i / (2k − i) · C(k, i) · C(n − k, k − i) / C(n, k).
    """
    common = range(max(0, 2 * kept - size), kept + 1)
    ways = ((i / (2 * kept - i), math.comb(kept, i) * math.comb(size - kept, kept - i)) for i in common)
    return sum(value * (count / math.comb(size, kept)) for value, count in ways)


def to_text(result: dict[str, Any]) -> str:
    """A table for reading, of what `stability` returns."""
    names = ("correlation", "overlap", "correlation_to_largest", "overlap_to_largest")
    heads = ["images", "rank correlation", "overlap", "correlation to largest", "overlap to largest"]
    rows = [[f"{row['images']:,}", *(_spread(row[name]) for name in names)] for row in result["counts"]]
    text = tabulate(rows, heads, disable_numparse=True, colalign=("right",) * len(heads))
    return (
        f"{text}\nmean ± sample standard deviation over {result['counts'][0]['correlation']['n']} pairs of seeds, or "
        f"over {len(result['seeds'])} seeds to the largest; random sets overlap by {result['random_overlap']:.3f}"
    )


def _check(images: Sequence[int], seeds: Sequence[int], packs: Path) -> None:
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {list(seeds)}; pairs are compared. Give at least 2, all different.")
    if not images or len(set(images)) < len(images):
        raise InputError(f"images are {list(images)}; give at least one count, all different.")
    pack = loading.load(Path(packs) / "train.safetensors")
    for count in (min(images), max(images)):  # before anything is scored
        calibration_indices(pack.dataset, seeds[0], count, len(pack.labels))


def _random_overlap(graph: ChannelGraph, kept: Kept) -> float:
    sizes = {group.name: group.size for group in graph.groups}
    return float(np.mean([random_overlap(sizes[name], len(indices)) for name, indices in kept.items()]))


def _row(
    count: int,
    largest: int,
    seeds: Sequence[int],
    shares: dict[tuple[int, int], Importance],
    kept: dict[tuple[int, int], Kept],
) -> dict[str, Any]:
    pairs = [((count, one), (count, other)) for one, other in itertools.combinations(seeds, 2)]
    own = [((count, seed), (largest, seed)) for seed in seeds]
    row: dict[str, Any] = {"images": count}
    for ending, compared in (("", pairs), ("_to_largest", own)):
        row[f"correlation{ending}"] = _summary([_mean(rank_correlation, shares[a], shares[b]) for a, b in compared])
        row[f"overlap{ending}"] = _summary([_mean(overlap, kept[a], kept[b]) for a, b in compared])
    return row


def _mean(measure: Any, one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(np.mean([measure(one[name], other[name]) for name in one]))


def _summary(values: list[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (null of one value) and how many."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "n": len(values)}


def _spread(summary: dict[str, Any]) -> str:
    return f"{summary['mean']:.3f}" + ("" if summary["std"] is None else f" ± {summary['std']:.3f}")
