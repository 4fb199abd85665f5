"""Channel groups: which channels of which layers can only be removed together.

Every dimension of every tensor is labelled with the identity of the channel at each position (labelling.py). Channels
that share an identity, directly or through others, go together: they are cut wherever a parameter holds them.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daar.program.inputs import Images
from daar.program.program import Program
from daar.program.recording import held_as, recorded
from daar.pruning.labelling import label
from daar.pruning.layer import Channels, Layer
from daar.pruning.patterns import matches, nothing_matches
from daar.pruning.per_image import per_image
from daar.pruning.repairs import Repairs
from daar.pruning.rules.run import Attribute, Call, Dims, Read, Run
from daar.pruning.training_mode import in_training, unread

# the fewest filters that a layer keeps where nothing else is asked for
MIN_CHANNELS = 2


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
        least: how many filters each member keeps at least, and 5 % of them.
        parts: sets of indices that are all that a layer reads or a parameter holds, where that is not the whole group.
    """

    name: str
    channels: Channels
    members: tuple[str, ...]
    positions: dict[str, Channels]
    joins: bool
    frozen: str | None
    fixed: dict[int, str] = field(default_factory=dict)
    least: int = MIN_CHANNELS
    parts: tuple[frozenset[int], ...] = ()

    @property
    def size(self) -> int:
        """Number of channels that can go one by one."""
        return len(self.channels)

    @functools.cached_property
    def reserves(self) -> tuple[tuple[frozenset[int], int], ...]:
        """Sets of indices, smaller ones first, and how many of each must stay, those of earlier sets not counted.

        So that each member keeps at least max(`least`, 5 %) of its filters, rounded up, and each part as many. Members
        of a stream make all of its channels and there is one set; those of a concatenation that something is added to
        make a part each. Channels that are fixed come first, each a set of its own.
        """
        made = {frozenset(positions.tolist()) for positions in self.positions.values()}
        parts = sorted({*made, *self.parts}, key=lambda s: (len(s), sorted(s)))
        sets = [(frozenset([index]), 1) for index in sorted(self.fixed)]
        for part in parts:
            already = sum(more for smaller, more in sets if smaller <= part)
            sets.append((part, max(0, min(len(part), max(self.least, -(-len(part) // 20))) - already)))
        return tuple(sets)

    @property
    def min_kept(self) -> int:
        """The fewest channels that may stay, so that every member keeps max(`least`, 5 %)."""
        return min(self.size, sum(more for _, more in self.reserves))  # parts may overlap


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The groups of one network and all that is cut when channels go.

    Attributes:
        groups: those that convs make, in the order of execution.
        units: those that linear layers alone make.
        layers: by name, in the order of execution.
        leaves: name of a parameter or buffer → for each of its dimensions the channel at each position, or None.
        values: name of an index map → (c_in,) the channels that it gives the numbers of.
        attributes: what a module holds the number of channels as.
        reads: where channels are summed over, so that zeros in their place are what pruning means.
        program: what the network ran.
        training: what it ran in training mode, where more of its parameters are read; else None.
        calls: name of a layer → indices of the operations that run it.
        exclude: paths of modules whose convs keep all their filters.
        repairs: what a proof found that no rule can see.
        tensors: number of a tensor of the program → for each dimension the channel at each position, or None.
        ambiguous: index of an operation that may be read in several ways → how many.
        count: number of channel identities; all arrays hold numbers below it, or -1 for what is no channel.
    """

    groups: tuple[Group, ...]
    units: tuple[Group, ...]
    layers: dict[str, Layer]
    leaves: dict[str, tuple[Channels | None, ...]]
    values: dict[str, Channels]
    attributes: tuple[Attribute, ...]
    reads: tuple[Read, ...]
    program: Program
    training: Program | None
    tensors: dict[int, tuple[Channels | None, ...]]
    ambiguous: dict[int, int]
    calls: dict[str, tuple[int, ...]]
    exclude: tuple[str, ...]
    repairs: Repairs
    count: int

    def in_scope(self, scope: str) -> tuple[Group, ...]:
        """The groups that may be pruned.

        Args:
            scope: `all`, those that convs make; `inner`, of these only such as reach no join; `units`, as `all`, and
                the hidden units of linear layers.
        """
        free = [group for group in self.groups if group.frozen is None]
        if scope == "units":
            order = {name: index for index, name in enumerate(self.layers)}
            free += [group for group in self.units if group.frozen is None]
            return tuple(sorted(free, key=lambda group: order[group.name]))
        return tuple(group for group in free if scope == "all" or not group.joins)

    def scored_layers(self, scope: str = "all") -> list[str]:
        """The layers whose filters are scored: every member of a group of the scope."""
        return [member for group in self.in_scope(scope) for member in group.members]

    def alive(self, removed: dict[str, list[int]]) -> NDArray[np.bool_]:
        """Which channels are left, (count + 1,), when the given channels of the named groups are gone.

        The last, which -1 finds, is that of all that is no channel and stays.
        """
        left = np.ones(self.count + 1, dtype=bool)
        for group in (*self.groups, *self.units):
            left[group.channels[removed.get(group.name, [])]] = False
        return left


def graph_of(
    model: nn.Module, input_shape: Sequence[int], exclude: Iterable[str] = (), repairs: Repairs | None = None
) -> ChannelGraph:
    """The channel groups of a network on the CPU, by black images; further arguments and errors as `channel_graph`.

    Args:
        model: any network; left as it is.
        input_shape: (C, H, W) of the images that it is used with.
        exclude: paths of modules, or glob patterns of them, whose convs keep all their filters.
        repairs: what a proof found that no rule can see.
    """
    return channel_graph(model, torch.zeros(2, *input_shape), exclude, repairs)


def channel_graph(
    model: nn.Module, images: Images, exclude: Iterable[str] = (), repairs: Repairs | None = None
) -> ChannelGraph:
    """Find the channel groups of a network.

    Args:
        model: any network; left as it is.
        images: N at least 2, of the size it is used with, on its device; the values do not matter.
        exclude: paths of modules, or glob patterns of them, whose convs keep all their filters.
        repairs: what a proof found that no rule can see.

    Raises:
        InputError: the network fails on the images, or has no module of a pattern in `exclude`.
    """
    program = recorded(model, images)
    wanted = unread(model, program) or (repairs is not None and repairs.training)
    return graph_from(program, model, exclude, repairs, in_training(model, images) if wanted else None)


def graph_from(
    program: Program,
    model: nn.Module,
    exclude: Iterable[str] = (),
    repairs: Repairs | None = None,
    training: Program | None = None,
) -> ChannelGraph:
    """The channel groups of what a network ran; other arguments and errors as of `channel_graph`.

    Args:
        program: what it ran in eval mode.
        model: the network.
        exclude: paths of modules whose convs keep all their filters.
        repairs: what a proof found that no rule can see.
        training: what it ran in training mode, if that is more.
    """
    exclude, repairs = tuple(exclude), repairs or Repairs()
    run = label(program, model, repairs, training)
    calls = _named(run, model)
    _exclude(run, calls, exclude, model)
    roots, frozen = run.ids.settled()
    roots = np.append(roots, -1)  # a blank is no channel
    layers = {name: _layer(name, several, program, roots) for name, several in calls.items()}
    joined = {channel for labels in run.joined for channel in roots[labels].tolist()}
    frozen |= _selected(run, layers, roots, frozen)
    leaves = {name: _rooted(run.labels[number], roots) for number, name in program.leaves.items()}
    groups, others = (
        [_group([layers[name] for name in names], joined, frozen) for names in _families(layers, producers)]
        for producers in _producers(layers)
    )
    parts = _parts([*groups, *others], layers, leaves)
    return ChannelGraph(
        groups=tuple(replace(group, parts=parts[group.name]) for group in groups),
        units=tuple(replace(group, parts=parts[group.name]) for group in others),
        layers=layers,
        leaves=leaves,
        values={program.leaves[number]: roots[labels] for number, labels in run.values.items()},
        attributes=tuple(Attribute(a.module, a.name, roots[a.labels]) for a in run.attributes),
        reads=tuple(Read(r.operation, r.tensor, r.dim, roots[r.labels]) for r in run.reads),
        program=program,
        training=training,
        tensors={number: _rooted(dims, roots) for number, dims in run.labels.items()},
        ambiguous=run.ambiguous,
        calls={name: tuple(call.operation.index for call in several) for name, several in calls.items()},
        exclude=exclude,
        repairs=repairs,
        count=len(roots) - 1,
    )


def _parts(
    groups: list[Group], layers: dict[str, Layer], leaves: dict[str, tuple[Channels | None, ...]]
) -> dict[str, tuple[frozenset[int], ...]]:
    """Of each group: what of it a layer reads or a parameter holds, where that is neither all nor what a member makes.

    Such as the part of a split that a depthwise conv reads, of which something must stay.
    """
    place = {channel: (group, at) for group in groups for at, channel in enumerate(group.channels.tolist())}
    found: dict[str, set[frozenset[int]]] = {group.name: set() for group in groups}
    held = {labels.tobytes(): labels for dims in leaves.values() for labels in dims if labels is not None}
    held |= {layer.inputs.tobytes(): layer.inputs for layer in layers.values()}
    for labels in held.values():
        of: dict[str, set[int]] = {}
        for group, at in (place[channel] for channel in np.unique(labels).tolist() if channel in place):
            of.setdefault(group.name, set()).add(at)
        for name, indices in of.items():
            found[name].add(frozenset(indices))
    return {
        group.name: tuple(
            sorted(
                {part for part in found[group.name] if len(part) < group.size}
                - {frozenset(positions.tolist()) for positions in group.positions.values()},
                key=lambda part: (len(part), sorted(part)),
            )
        )
        for group in groups
    }


def _producers(layers: dict[str, Layer]) -> tuple[list[str], list[str]]:
    """The convs that make channels of their own, and the linear layers whose units no conv makes too."""
    made = [name for name, layer in layers.items() if layer.kind == "conv" and not layer.is_depthwise]
    taken = {channel for name in made for channel in layers[name].outputs.tolist()}
    units = [
        name
        for name, layer in layers.items()
        if layer.kind == "linear" and taken.isdisjoint(layer.outputs.tolist()) and (layer.outputs >= 0).all()
    ]
    return made, units


def _selected(run: Run, layers: dict[str, Layer], roots: Channels, frozen: dict[int, str]) -> dict[int, str]:
    """Units that choose among whole weights, as those of a mixture of experts, are no channels: they stay."""
    weights = {layer.weight for layer in layers.values()}
    found: dict[int, str] = {}
    for number, leaf in run.program.leaves.items():
        dims = run.labels[number]
        if len([labels for labels in dims if labels is not None]) > 1 and leaf not in weights:
            for labels in dims:
                for channel in [] if labels is None else np.unique(roots[labels]).tolist():
                    found.setdefault(channel, f"chooses among the weights of {leaf}")
    units = {c for layer in layers.values() if layer.kind == "linear" for c in layer.outputs.tolist()}
    convs = {c for layer in layers.values() if layer.kind == "conv" for c in layer.outputs.tolist()}
    return {c: why for c, why in found.items() if c in units and c not in convs and c not in frozen}


def _rooted(dims: Dims, roots: Channels) -> tuple[Channels | None, ...]:
    return tuple(None if labels is None else roots[labels] for labels in dims)


def _named(run: Run, model: nn.Module) -> dict[str, list[Call]]:
    """The calls of each layer, by its name, in the order of execution."""
    named: dict[str, list[Call]] = {}
    modules = dict(model.named_modules())
    for call in run.calls:
        module, leaf = call.operation.module, run.program.leaves.get(call.weight)
        if call.kind == "product":
            named[f"{module}:{call.operation.name}#{call.operation.index}"] = [call]
            continue
        owner = leaf.rpartition(".")[0] if leaf else module
        own = getattr(modules.get(module), "weight", None)
        # a parameter that two modules hold is the weight of both
        if leaf is None or (isinstance(own, Tensor) and own is held_as(model, leaf)):
            name = module
        else:
            name = owner if leaf.endswith(".weight") else leaf
        named.setdefault(name, []).append(call)
    return named


def _layer(name: str, calls: list[Call], program: Program, roots: Channels) -> Layer:
    """One layer of all calls; where there are several, they read and make the same channels."""
    each = [per_image(call, program, roots) for call in calls]
    macs, first = sum(call.unit_macs for call in each), each[0]
    weight = program.leaves.get(first.weight, "")
    return Layer(name, first.kind, weight, first.inputs, first.outputs, macs, first.groups)


def _exclude(run: Run, calls: dict[str, list[Call]], exclude: Iterable[str], model: nn.Module) -> None:
    paths = dict(model.named_modules())
    for pattern in exclude:
        if not any(matches(pattern, name) for name in (*paths, *calls)):
            raise nothing_matches("exclude", pattern, [name for name in (*paths, *calls) if name])
        for layer, several in calls.items():
            if matches(pattern, layer):
                for call in several:
                    run.ids.freeze(call.outputs, f"excluded by {pattern!r}")


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
