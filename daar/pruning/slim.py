"""Build the really smaller network: every parameter is cut along each dimension that holds channels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daar.models.copying import copied
from daar.models.shortcut import PaddedShortcut
from daar.program.recording import held_as
from daar.pruning.attributes import change
from daar.pruning.groups import ChannelGraph

Removed = dict[str, list[int]]


def slim(model: nn.Module, graph: ChannelGraph, removed: Removed) -> nn.Module:
    """Cut channels out of all that holds them.

    Args:
        model: the dense network; left as it is.
        graph: its channel graph.
        removed: group name → indices of the channels that go.

    Returns:
        A new network of the same class with smaller layers, on the same device and in the same mode. Parameters that
        were one stay one.
    """
    alive = graph.alive(removed)
    cut: dict[str, Tensor] = {}
    for name, dims in graph.leaves.items():
        leaf = held_as(model, name)
        smaller = _cut(leaf, dims, alive)
        if smaller is not leaf:
            cut[name] = smaller
    # what is cut is never copied whole
    slimmed = copied(model, {id(held_as(model, name)): smaller for name, smaller in cut.items()})
    whole = {id(held): cut[name] for name in cut if (held := held_as(slimmed, name)) is not cut[name]}
    for module in slimmed.modules() if whole else ():  # of modules that copy themselves
        _replace(module, whole)
    for attribute in graph.attributes:
        left = int(alive[attribute.labels].sum())
        change(slimmed.get_submodule(attribute.module), attribute.name, len(attribute.labels), left)
    for name, channels in graph.values.items():
        shortcut = slimmed.get_submodule(name.rpartition(".")[0])
        assert isinstance(shortcut, PaddedShortcut)
        _renumber_source(shortcut, torch.from_numpy(alive[channels]))
    return slimmed


def _cut(leaf: Tensor, dims: tuple[NDArray[np.int64] | None, ...], alive: NDArray[np.bool_]) -> Tensor:
    """The leaf with what is left along each dimension; itself where all of it is."""
    smaller = leaf.detach()
    for dim, labels in enumerate(dims):
        if labels is not None and not (left := alive[labels]).all():
            smaller = smaller.index_select(dim, torch.from_numpy(np.flatnonzero(left)).to(leaf.device))
    if smaller.shape == leaf.shape:
        return leaf
    smaller = smaller.contiguous(memory_format=_format(leaf))
    return nn.Parameter(smaller, requires_grad=leaf.requires_grad) if isinstance(leaf, nn.Parameter) else smaller


def _format(leaf: Tensor) -> torch.memory_format:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(leaf.dim(), torch.contiguous_format)
    return last if not leaf.is_contiguous() and leaf.is_contiguous(memory_format=last) else torch.contiguous_format


def _replace(module: nn.Module, cut: dict[int, Tensor]) -> None:
    for held in (module._parameters, module._buffers, module.__dict__):
        for name, value in list(held.items()):
            if isinstance(value, Tensor) and id(value) in cut:
                held[name] = cut[id(value)]  # type: ignore[assignment]  # a Parameter for a Parameter


def _renumber_source(shortcut: PaddedShortcut, inputs: Tensor) -> None:
    """Renumber the inputs that are left; an output whose input is gone gets zeros."""
    renumbered = torch.where(inputs, inputs.cumsum(0) - 1, -1)
    source = shortcut.source.cpu()
    shortcut.set_source(torch.where(source >= 0, renumbered[source.clamp(min=0)], -1).to(shortcut.source.device))
