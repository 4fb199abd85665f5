"""How much of a network can be pruned at all, and what keeps the rest."""

from dataclasses import replace

from daar.pruning import limits
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import MIN_CHANNELS, ChannelGraph, Group
from daar.pruning.layer import Layer
from daar.pruning.policy import Macs
from daar.pruning.rounding import least

# how many reasons a refusal names
_NAMED = 3
# the least share of the MACs that is one
_TOLD = 0.01


def fewest(graph: ChannelGraph, scope: str, cost: Macs, min_channels: int = MIN_CHANNELS, round_to: int = 1) -> int:
    """MACs or parameters with every group of the scope at the least that stays.

    Args:
        graph: the dense network's groups.
        scope: of which groups channels go.
        cost: for given counts.
        min_channels: the fewest filters that a layer keeps.
        round_to: multiples of channels that stay, or all.
    """
    return cost(least([replace(group, least=min_channels) for group in graph.in_scope(scope)], round_to))


def reachable(graph: ChannelGraph, scope: str, min_channels: int = MIN_CHANNELS) -> float:
    """The largest fraction of the dense MACs that can go; arguments as of `fewest`."""
    macs = ClosedForm(graph)
    return 1 - fewest(graph, scope, macs, min_channels) / macs({}) if macs({}) else 0.0


def whole(graph: ChannelGraph, scope: str) -> dict[str, str]:
    """Conv or linear layer → why all of its filters stay in a scope; several reasons only where its parts have them."""
    free = {group.name for group in graph.in_scope(scope)}
    return {
        member: whole_because(group, graph)
        for group in (*graph.groups, *graph.units)
        if group.name not in free
        for member in group.members
    }


def reasons(graph: ChannelGraph, scope: str) -> list[str]:
    """Why the rest stays, the most MACs first: a share of the dense MACs, the groups, and why they are kept.

    The MACs of a layer count for a reason where the reason keeps what the layer makes; of what is left, where it keeps
    what the layer reads.
    """
    free = {int(c) for group in graph.in_scope(scope) for c in group.channels}
    why = {int(c): whole_because(group, graph) for group in (*graph.groups, *graph.units) for c in group.channels}
    total = sum(_dense(layer) for layer in graph.layers.values())
    held: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    for layer in graph.layers.values():
        reason = _reason(layer, free, why)
        held[reason] = held.get(reason, 0) + _dense(layer)
        named.setdefault(reason, []).append(layer.name)
    # a head of a few units, which is never pruned, tells nothing
    kept = sorted((why for why in held if why and held[why] >= _TOLD * total), key=lambda why: -held[why])
    return [f"{held[reason] / total:.0%} {_few(named[reason])}: {reason}" for reason in kept[:_NAMED]]


def whole_because(group: Group, graph: ChannelGraph) -> str:
    """Why a group of a graph stays whole: always, or in a scope that leaves it out."""
    if group.frozen is not None:
        return group.frozen
    if group in graph.units:  # whether or not they reach an addition
        return "is a linear layer, whose hidden units only scope 'units' prunes"
    return "reaches an addition or a concatenation, which scope 'inner' leaves out"


def must_stay(group: Group) -> str:
    """What keeps channels of a group that may be pruned, a phrase; empty where nothing but its least does."""
    if group.fixed:
        return f"{len(group.fixed)} of {group.size} channels must stay: {next(iter(group.fixed.values()))}"
    if limits.holds(group) and group.min_kept == group.size:
        return "max_ratio keeps all of its filters"
    if group.min_kept == group.size:
        filters = len(group.positions[group.name])
        return (
            f"its {filters} filters go only {'one by one' if filters == group.size else 'together'}, and the least stay"
        )
    return ""


def _reason(layer: Layer, free: set[int], why: dict[int, str]) -> str:
    if layer.kind == "product":
        return "products of activations, whose channels stay"
    for side in (layer.outputs, layer.inputs):
        kept = [int(c) for c in side if int(c) not in free]
        if kept:
            return why.get(kept[0], "" if side is layer.inputs else "made by no conv")
    return ""


def _dense(layer: Layer) -> int:
    return layer.unit_macs * len(layer.outputs) * (1 if layer.is_depthwise else len(layer.inputs) // layer.parts)


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
