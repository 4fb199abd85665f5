"""Channel groups: which channels of which layers can only be removed together.

Every tensor of the traced network is given a *layout*: for each position along its channel dimension the identity of
the channel that lies there. Identities are followed from layer to layer: a conv reads one layout and makes a new one,
BN and ReLU pass it on, an addition unifies its two operands position by position, a concatenation puts them side by
side, a flatten repeats each H·W times. Two channels unified by anything can only go together.

An option-A shortcut (`PaddedShortcut`) reads one layout and makes a new one, like a conv whose weights are fixed. So
the streams before and after it stay separate groups, each pruned freely, and only its index map follows.

Channels that an unknown operation reads are frozen: they stay, and the operation is named. Nothing is guessed.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daar.measure.macs import count_macs
from daar.pruning.layouts import Call, Layouts

Channels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that is cut when channels go.

    Attributes:
        name: path of the module.
        module: the layer itself.
        inputs: (c_in,) channel at each input position; for BN the very array `outputs`.
        outputs: (c_out,) channel at each output position.
        area: positions H·W of its output, as many times as it is called: MACs per weight.
    """

    name: str
    module: nn.Module
    inputs: Channels
    outputs: Channels
    area: int

    @property
    def is_depthwise(self) -> bool:
        """Whether each filter reads one channel, its own."""
        return isinstance(self.module, nn.Conv2d) and self.module.groups == self.module.in_channels > 1

    @property
    def parts(self) -> int:
        """Groups of a grouped conv that is not depthwise; else 1."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) and not self.is_depthwise else 1

    @property
    def unit_macs(self) -> int:
        """MACs for one pair of an input and an output channel, for one image; of a conv or a linear layer."""
        return self.area * (math.prod(self.module.kernel_size) if isinstance(self.module, nn.Conv2d) else 1)

    def macs(self, alive: NDArray[np.bool_]) -> int:
        """MACs for one image of a conv or a linear layer, given which of the network's channels are left, (count,)."""
        read = 1 if self.is_depthwise else int(alive[self.inputs].sum()) // self.parts
        return self.unit_macs * int(alive[self.outputs].sum()) * read

    def reads(self, channels: set[int]) -> bool:
        """Whether it takes any of these channels as input and makes new ones of them; BN only passes them on."""
        return self.inputs is not self.outputs and not channels.isdisjoint(self.inputs.tolist())


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that share one ratio: all output channels of a conv, and whatever must go with them.

    Attributes:
        name: path of the first conv that makes them.
        channels: (size,) the identities, in that conv's order.
        members: paths of all convs that make them, in the order of execution.
        positions: member → (c_out,) index into `channels` of each of its filters.
        joins: whether they reach an addition or a concatenation.
        frozen: why they must stay whole, or None.
        fixed: index → why that one channel must stay, where others may go.
    """

    name: str
    channels: Channels
    members: tuple[str, ...]
    positions: dict[str, Channels]
    joins: bool
    frozen: str | None
    fixed: dict[int, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of channels that can go one by one."""
        return len(self.channels)

    @functools.cached_property
    def reserves(self) -> tuple[tuple[frozenset[int], int], ...]:
        """Sets of indices, smaller ones first, and how many of each must stay, those of earlier sets not counted.

        So that each member keeps at least max(2, 5 %) of its filters, rounded up. Members of a stream make all of its
        channels and there is one set; those of a concatenation that something is added to make a part each. Channels
        that are fixed come first, each a set of its own.
        """
        parts = sorted({frozenset(p.tolist()) for p in self.positions.values()}, key=lambda s: (len(s), sorted(s)))
        sets = [(frozenset([index]), 1) for index in sorted(self.fixed)]
        for part in parts:
            already = sum(more for smaller, more in sets if smaller <= part)
            sets.append((part, max(0, min(len(part), max(2, -(-len(part) // 20))) - already)))
        return tuple(sets)

    @property
    def min_kept(self) -> int:
        """The fewest channels that may stay, so that every member keeps max(2, 5 %)."""
        return sum(more for _, more in self.reserves)


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The groups of one network and the layers they run through.

    Attributes:
        groups: in the order of execution.
        layers: by path, in the order of execution.
        count: number of channel identities; `Layer` and `Group` hold numbers below it.
        other_macs: MACs of what is not in `layers`: matrix products, and layers inside an operation taken as unknown.
    """

    groups: tuple[Group, ...]
    layers: dict[str, Layer]
    count: int
    other_macs: int = 0

    def in_scope(self, scope: str) -> tuple[Group, ...]:
        """The groups that may be pruned: `all`, or only those of scope `inner`, which reach no join."""
        return tuple(g for g in self.groups if g.frozen is None and (scope == "all" or not g.joins))

    def scored_layers(self) -> list[str]:
        """The convs whose filters are scored: every member of a group that may be pruned in some scope."""
        return [member for group in self.in_scope("all") for member in group.members]

    def alive(self, removed: dict[str, list[int]]) -> NDArray[np.bool_]:
        """Which channels are left, (count,), when the given channels of the named groups are gone."""
        left = np.ones(self.count, dtype=bool)
        for group in self.groups:
            left[group.channels[removed.get(group.name, [])]] = False
        return left


def graph_of(model: nn.Module, input_shape: Sequence[int]) -> ChannelGraph:
    """The channel groups of a network on the CPU, by one black image; errors as of `channel_graph`.

    Args:
        model: any network that torch.fx can trace; left as it is.
        input_shape: (C, H, W) of the images that it is used with.
    """
    return channel_graph(model, torch.zeros(1, *input_shape))


def channel_graph(model: nn.Module, image: Tensor, exclude: Iterable[str] = ()) -> ChannelGraph:
    """Find the channel groups of a network.

    Args:
        model: any network that torch.fx can trace; left as it is.
        image: (1, C, H, W) of the size it is used with, on its device; the values do not matter.
        exclude: paths of modules whose convs keep all their filters.

    Raises:
        InputError: the network cannot be traced, or has no module of a path in `exclude`.
    """
    layouts = Layouts(model, image)
    for name in exclude:
        layouts.exclude(name)
    roots = layouts.ids.roots()
    layers = {call.name: _layer(call, roots) for call in layouts.calls.values()}
    joined = {int(roots[channel]) for channel in layouts.joined}
    frozen = {int(roots[channel]): reason for channel, reason in layouts.ids.frozen.items()}
    groups = [
        _group([layers[name] for name in names], joined, frozen) for names in _families(layers, layouts.producers)
    ]
    # where all is followed there is nothing else to count; torch's counter costs the import of its compiler
    other = _other_macs(model, image, layers, len(roots)) if layouts.has_unknown else 0
    return ChannelGraph(tuple(groups), layers, len(roots), other)


def _other_macs(model: nn.Module, image: Tensor, layers: dict[str, Layer], count: int) -> int:
    whole = np.ones(count, dtype=bool)
    known = [layer for layer in layers.values() if isinstance(layer.module, nn.Conv2d | nn.Linear)]
    return count_macs(model, image) - sum(layer.macs(whole) for layer in known)


def _layer(call: Call, roots: Channels) -> Layer:
    inputs = roots[call.inputs]
    outputs = inputs if call.inputs is call.outputs else roots[call.outputs]
    return Layer(call.name, call.module, inputs, outputs, call.area)


def _families(layers: dict[str, Layer], producers: list[str]) -> list[list[str]]:
    """The convs that share channels, directly or through others; families and members in order of execution."""
    families: list[tuple[set[int], list[str]]] = []
    for name in producers:
        channels = set(layers[name].outputs.tolist())
        sharing = [family for family in families if family[0] & channels]
        for family in sharing[1:]:
            families.remove(family)
        if sharing:
            merged = sharing[0]
            for family in sharing[1:]:
                merged[0].update(family[0])
                merged[1].extend(family[1])
            merged[0].update(channels)
            merged[1].append(name)
        else:
            families.append((channels, [name]))
    order = {name: index for index, name in enumerate(producers)}
    return [sorted(names, key=order.__getitem__) for _, names in families]


def _group(convs: list[Layer], joined: set[int], frozen: dict[int, str]) -> Group:
    """Make one group of the convs of a family, its channels in the order in which the convs make them."""
    index: dict[int, int] = {}
    for conv in convs:
        for channel in conv.outputs.tolist():
            index.setdefault(channel, len(index))
    fixed = {position: frozen[channel] for channel, position in index.items() if channel in frozen}
    whole = next(iter(fixed.values())) if len(fixed) == len(index) else None
    return Group(
        name=convs[0].name,
        channels=np.array(list(index), dtype=np.int64),
        members=tuple(conv.name for conv in convs),
        positions={conv.name: np.array([index[c] for c in conv.outputs.tolist()]) for conv in convs},
        joins=any(channel in joined for channel in index),
        frozen=whole,
        fixed={} if whole else fixed,
    )
