"""MACs and parameters of a network as functions of how many channels each group keeps, without building anything."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from daar.pruning.groups import ChannelGraph
from daar.pruning.layer import Channels, Layer


@dataclass(frozen=True)
class _Width:
    """How wide one side of a layer is: fixed positions, and per group a table from kept count to positions."""

    fixed: int
    tables: tuple[tuple[str, tuple[int, ...]], ...]

    def at(self, counts: dict[str, int]) -> int:
        return self.fixed + sum(table[counts[name]] if name in counts else table[-1] for name, table in self.tables)


class ClosedForm:
    """Multiply-accumulates of conv and linear layers for one image: Σ k² · c_in/groups · c_out · H · W.

    What else torch counts (matrix products, layers inside an unknown operation) touches only channels that stay, so it
    is added as it is.

    Args:
        graph: the channel graph of the dense network.
        orders: group → its channel indices, most important first. It matters only where a layer reads a part of a
            group (an addition onto a concatenation); a group that is not given has its channels in their order.
    """

    def __init__(self, graph: ChannelGraph, orders: dict[str, list[int]] | None = None) -> None:
        owner, sizes = _owners(graph, orders), _sizes(graph)
        self._terms = [
            (layer.unit_macs, _width(layer.outputs, owner, sizes), _width(_read(layer), owner, sizes), layer.parts)
            for layer in graph.layers.values()
        ]

    def __call__(self, counts: dict[str, int]) -> int:
        """MACs of one image, given group → kept count; a group that is not named keeps all its channels."""
        terms = (unit * out.at(counts) * (read.at(counts) // groups) for unit, out, read, groups in self._terms)
        return sum(terms)


class ParamsForm:
    """Learnable parameters of a network: Σ over parameters of the product of their dimensions; tied ones count once.

    Args:
        graph: the channel graph of the dense network.
        parameters: names of its parameters, each of those that are tied by its first; other leaves are buffers.
        orders: as of `ClosedForm`.
    """

    def __init__(
        self, graph: ChannelGraph, parameters: Iterable[str], orders: dict[str, list[int]] | None = None
    ) -> None:
        owner, sizes = _owners(graph, orders), _sizes(graph)
        names = set(parameters)
        self._terms = [
            tuple(
                _Width(length, ()) if labels is None or not length else _width(labels, owner, sizes)
                for labels, length in zip(graph.leaves[name], graph.program.shapes[number], strict=True)
            )
            for number, name in graph.program.leaves.items()
            if name in names
        ]

    def __call__(self, counts: dict[str, int]) -> int:
        """Parameters, given group → kept count; a group that is not named keeps all its channels."""
        return sum(math.prod(width.at(counts) for width in term) for term in self._terms)


def _owners(graph: ChannelGraph, orders: dict[str, list[int]] | None) -> dict[int, tuple[str, int]]:
    """Channel → its group and its place in the group's order."""
    owner = {}
    for group in (*graph.groups, *graph.units):
        order = (orders or {}).get(group.name, list(range(group.size)))
        owner.update({int(group.channels[index]): (group.name, rank) for rank, index in enumerate(order)})
    return owner


def _sizes(graph: ChannelGraph) -> dict[str, int]:
    return {group.name: group.size for group in (*graph.groups, *graph.units)}


def _read(layer: Layer) -> Channels:
    """The positions that one filter reads: a depthwise filter reads one, whatever the width."""
    return layer.inputs[:0] if layer.is_depthwise else layer.inputs


def _width(layout: Channels, owner: dict[int, tuple[str, int]], sizes: dict[str, int]) -> _Width:
    if not len(layout):
        return _Width(1, ())
    ranks: dict[str, list[int]] = {}
    fixed = 0
    for channel in layout.tolist():
        if channel in owner:
            name, rank = owner[channel]
            ranks.setdefault(name, []).append(rank)
        else:
            fixed += 1
    tables = (
        (name, (0, *np.cumsum(np.bincount(positions, minlength=sizes[name])).tolist()))
        for name, positions in ranks.items()
    )
    return _Width(fixed, tuple(tables))
