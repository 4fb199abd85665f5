"""From a method's scores per layer to one importance per channel group, and to an order of its channels.

Only the suite does this, the same for every method (docs/protocol.md).
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from daar.errors import InputError
from daar.pruning.groups import ChannelGraph, Group
from daar.storage import tensors
from daar.storage.files import atomic

Importance = dict[str, NDArray[np.float64]]


def save(path: Path, scores: dict[str, Tensor]) -> None:
    """Write importance.safetensors: one float32 vector (c_out,) per layer."""
    # a method may well give one tensor to several layers, which safetensors refuses
    copies = {name: vector.clone(memory_format=torch.contiguous_format) for name, vector in scores.items()}
    with atomic(path) as temporary:
        safetensors.torch.save_file(copies, temporary)


def load(path: Path) -> dict[str, Tensor]:
    """Read importance.safetensors.

    Raises:
        InputError: it is absent or damaged, or holds anything but finite float32 vectors.
    """
    return tensors.read_scores(path, "Run: daar score")


def widths(graph: ChannelGraph, scope: str = "all") -> dict[str, int]:
    """Layer → c_out, for every layer that is to be scored."""
    return {layer: len(graph.layers[layer].outputs) for layer in graph.scored_layers(scope)}


def check(scores: dict[str, Tensor], expected: dict[str, int], whose: str, remedy: str = "") -> None:
    """Check a method's scores: one finite float32 vector for each layer, no layer missing and none added.

    Args:
        scores: layer → (c_out,), as it came.
        expected: layer → c_out, for every layer that was to be scored.
        whose: the method, or the file, for the message.
        remedy: what the user can do, a sentence; what usually helps a method if empty.

    Raises:
        InputError: names the layer and what is wrong with it.
    """
    if wrong := _wrong(scores, expected):
        raise InputError(f"{whose} {wrong}. {remedy or _remedy(scores, expected)}")


def _wrong(scores: dict[str, Tensor], expected: dict[str, int]) -> str | None:
    if missing := sorted(set(expected) - set(scores)):
        return f"scores no layer {missing[0]!r}; it must score every layer it is given"
    if foreign := sorted(set(scores) - set(expected)):
        return f"scores {foreign[0]!r}, which it was not asked for"
    for layer, vector in scores.items():
        if tuple(vector.shape) != (expected[layer],) or vector.dtype != torch.float32 or vector.device.type != "cpu":
            return (
                f"scores {layer!r} by {vector.dtype} {tuple(vector.shape)} on {vector.device}; "
                f"it must be torch.float32 ({expected[layer]},) on cpu"
            )
        if not bool(torch.isfinite(vector).all()):
            index = int((~torch.isfinite(vector)).nonzero()[0])
            return f"scores filter {index} of {layer!r} as {float(vector[index])}; scores must be finite"
    return None


def _remedy(scores: dict[str, Tensor], expected: dict[str, int]) -> str:
    """What usually helps a method with scores that are wrong, by the first that are."""
    if set(scores) != set(expected):
        return "Loop over the argument `layers`."
    return next(filter(None, (_remedy_of(vector, expected[layer]) for layer, vector in scores.items())), "")


def _remedy_of(vector: Tensor, count: int) -> str:
    if vector.dim() > 1 and len(vector) == count:
        return f"Reduce over dim={tuple(range(1, vector.dim()))}, which leaves one score for each filter."
    if tuple(vector.shape) != (count,):
        return f"Return one score for each of its {count} filters."
    if vector.device.type == "meta":
        return "A tensor on meta has no values: compute it from the weights or the maps."
    if vector.dtype != torch.float32 or vector.device.type != "cpu":
        return "Return scores.float().cpu()."
    if not bool(torch.isfinite(vector).all()):
        return "Look for a division by zero or the log of zero, and add a small number such as 1e-12 there."
    return ""


def group_importance(groups: tuple[Group, ...], scores: dict[str, Tensor]) -> Importance:
    """One vector per group, ≥ 0, summing to 1: the mean of its members' shares.

    Each layer's vector is made a share first: a negative minimum is subtracted, then it is divided by its sum. Where
    all its scores are zero, every filter has the same share.

    Returns:
        group name → (size,) float64.
    """
    return {group.name: _mean_share(group, scores) for group in groups}


def _mean_share(group: Group, scores: dict[str, Tensor]) -> NDArray[np.float64]:
    total, count = np.zeros(group.size), np.zeros(group.size)
    for member in group.members:
        share = scores[member].double().numpy()
        share = share - min(0.0, share.min())
        share = share / share.sum() if share.sum() > 0 else np.full(len(share), 1 / len(share))
        np.add.at(total, group.positions[member], share)
        np.add.at(count, group.positions[member], 1)
    mean: NDArray[np.float64] = total / count
    mean /= mean.sum()
    return mean


def ranking(group: Group, importance: NDArray[np.float64]) -> list[int]:
    """Channel indices from the most to the least important; of equals the lower index is removed first.

    In front stand those that each member of the group must not fall below, the most important of its own.

    Args:
        group: the group.
        importance: (size,).
    """
    order = np.lexsort((-np.arange(len(importance)), -importance)).tolist()
    reserved: set[int] = set()
    for part, more in group.reserves:
        reserved.update([index for index in order if index in part and index not in reserved][:more])
    return sorted(order, key=lambda index: index not in reserved)
