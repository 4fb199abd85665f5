"""The channel groups of a network for people: what is cut together, what goes with it, what stays and why."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, Group
from daar.pruning.plan import SCOPES
from daar.pruning.reach import must_stay, reachable, whole_because


@dataclass(frozen=True)
class GroupReport:
    """Layers whose channels can only be removed together.

    Attributes:
        name: path of the first layer that makes the channels, as plans and reports call the group.
        size: channels that can go one by one; of a grouped conv, one of each of its groups together.
        min_kept: how many of them stay at least.
        members: layers whose filters are these channels, in the order of execution; then linear layers that multiply
            channels of convs, as gates do.
        readers: layers that read them, whose inputs are cut too. Depthwise convs, which lose filters with them, too.
        macs: multiply-accumulates of one image that go when only `min_kept` stay, and all other groups are whole; that
            would go, where it stays whole.
        share: the same as a fraction of the network's.
        scopes: those of `daar.prune` in which channels of it go; none where it stays whole.
        why: what keeps it, or some of its channels, with operation, module and line; or which scope leaves it out.
    """

    name: str
    size: int
    min_kept: int
    members: tuple[str, ...]
    readers: tuple[str, ...]
    macs: int
    share: float
    scopes: tuple[str, ...]
    why: str | None

    @property
    def macs_per_channel(self) -> float:
        """The mean of MACs that go with each channel; 0 where none can."""
        return self.macs / (self.size - self.min_kept) if self.size > self.min_kept else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `macs_per_channel`."""
        return {**asdict(self), "macs_per_channel": self.macs_per_channel}


@dataclass(frozen=True)
class Groups:
    """All groups of a network; `print` them, go through them, or take `to_json()`.

    Attributes:
        groups: those that convs make, and those of linear layers' units, in the order of execution.
        macs: multiply-accumulates of one image; conv, linear and matrix products.
        reachable: scope → the largest fraction of them that can go, rounded down.
        repairs: where the network's code holds a number of channels, or is not read as it seems; phrases.
        notes: what else a person should know, sentences.
    """

    groups: tuple[GroupReport, ...]
    macs: int
    reachable: dict[str, float]
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[GroupReport]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> GroupReport:
        """The group of this name, or that a layer of this name is a member of.

        Raises:
            KeyError: there is none.
        """
        return next((g for g in self.groups if name in g.members), None) or {g.name: g for g in self.groups}[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "groups": [group.to_json() for group in self.groups]}

    def __str__(self) -> str:
        reached = ", ".join(f"{scope} {most:.3f}" for scope, most in self.reachable.items())
        free = sum(bool(group.scopes) for group in self.groups)
        head = (
            f"{len(self.groups)} groups, {free} of which can be pruned; {self.macs:,} MACs; largest macs_reduction by "
            f"scope: {reached}"
        )
        stays = [
            f"{group.name}{'' if group.scopes else ' stays whole'}: {group.why}" for group in self.groups if group.why
        ]
        lines = [*stays, *(f"the code: {said}" for said in self.repairs), *self.notes]
        return "\n".join([head, "", tabulate(list(map(_row, self.groups)), headers="keys"), *lines])


def _row(group: GroupReport) -> dict[str, str]:
    return {
        "group": group.name,
        "channels": f"{group.size:,}",
        "keeps at least": f"{group.min_kept:,}",
        "MACs a channel": f"{group.macs_per_channel:,.0f}",
        "share of MACs": f"{group.share:.1%}",
        "scopes": ", ".join(group.scopes) or "stays whole",
        "made by": short(group.members),
        "read by": short(group.readers),
    }


def short(names: Sequence[str]) -> str:
    """Some of these names, and how many there are if not all."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)})"


def groups_of(graph: ChannelGraph, notes: tuple[str, ...] = ()) -> Groups:
    """All channel groups of a network.

    Args:
        graph: its own, proven.
        notes: what a person should know beyond them, sentences.
    """
    order = {name: index for index, name in enumerate(graph.layers)}
    groups = sorted((*graph.groups, *graph.units), key=lambda group: order[group.name])
    scopes = {scope: {group.name for group in graph.in_scope(scope)} for scope in SCOPES}
    macs = ClosedForm(graph)
    return Groups(
        groups=tuple(
            _report(group, graph, macs, [scope for scope in scopes if group.name in scopes[scope]]) for group in groups
        ),
        macs=macs({}),
        reachable={scope: math.floor(1000 * reachable(graph, scope)) / 1000 for scope in SCOPES},
        repairs=(*graph.repairs.numbers(), *graph.repairs.choices()),
        notes=notes,
    )


def _report(group: Group, graph: ChannelGraph, macs: ClosedForm, scopes: Sequence[str]) -> GroupReport:
    channels = set(group.channels.tolist())
    readers = [layer.name for layer in graph.layers.values() if layer.reads(channels)]
    # a shortcut that pads copies channels by their numbers
    readers += [
        name.rpartition(".")[0] for name, read in graph.values.items() if not channels.isdisjoint(read.tolist())
    ]
    gone = macs({}) - macs({group.name: group.min_kept})
    why = must_stay(group) or None if scopes else whole_because(group, graph)
    share = gone / macs({}) if macs({}) else 0.0
    free = tuple(scopes) if group.min_kept < group.size else ()
    return GroupReport(
        group.name, group.size, group.min_kept, _makers(group, graph), tuple(readers), gone, share, free, why
    )


def _makers(group: Group, graph: ChannelGraph) -> tuple[str, ...]:
    channels = set(group.channels.tolist())
    linear = (layer for layer in graph.layers.values() if layer.kind == "linear" and layer.name not in group.members)
    return (*group.members, *(layer.name for layer in linear if not channels.isdisjoint(layer.outputs.tolist())))
