"""`max_ratio`: the largest fraction of its filters that a layer may lose, for all layers or by glob patterns.

0.8, or {"layer4.*": 0.5}. In the graph that plans are made on, groups that know their layers' limits take the place of
the others, so that every policy keeps to them.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from daar.errors import InputError, in_one_line
from daar.pruning.groups import ChannelGraph, Group
from daar.pruning.patterns import matches, nothing_matches, specificity

# a fraction for all layers, or pattern → fraction
Spec = float | Fraction | Mapping[str, float | Fraction]


@dataclass(frozen=True, eq=False)
class LimitedGroup(Group):
    """A group with layers that keep more filters than `least` asks for.

    Attributes:
        limits: for each such layer how many of its filters go with each index, and how many filters it keeps at least.
    """

    limits: tuple[tuple[Mapping[int, int], int], ...] = ()

    @functools.cached_property
    def reserves(self) -> tuple[tuple[frozenset[int], int], ...]:
        """As of `Group`; of each layer as many channels as its limit needs, whichever of them stay."""
        parts = {*(frozenset(positions.tolist()) for positions in self.positions.values()), *self.parts}
        kept = {part: max(self.least, -(-len(part) // 20)) for part in parts}
        for filters, least in self.limits:
            # those that stay may be the ones with the fewest filters
            channels = int(np.searchsorted(np.cumsum(sorted(filters.values())), least)) + 1 if least else 0
            kept[frozenset(filters)] = max(kept.get(frozenset(filters), 0), channels)
        sets = [(frozenset([index]), 1) for index in sorted(self.fixed)]
        for part in sorted(kept, key=lambda s: (len(s), sorted(s))):
            already = sum(more for smaller, more in sets if smaller <= part)
            sets.append((part, max(0, min(len(part), kept[part]) - already)))
        return tuple(sets)

    @property
    def free(self) -> Group:
        """The same group without the limits."""
        return Group(**{one.name: getattr(self, one.name) for one in fields(Group)})


def check(spec: Any, where: str = "max_ratio") -> Spec:
    """Return limits that can be; `where` begins the message.

    Raises:
        InputError: it is neither a number in [0, 1] nor a mapping of patterns to such numbers.
    """
    if not isinstance(spec, Mapping):
        return _fraction(spec, where)
    if not spec:
        raise InputError(f"{where} is empty; it must be a number in [0, 1], or map glob patterns to such numbers.")
    for pattern, ratio in spec.items():
        if not isinstance(pattern, str) or not pattern:
            raise InputError(f"{where} has the pattern {pattern!r}; it must be the name of a module. Correct it.")
        _fraction(ratio, f"{where}[{pattern!r}]")
    return spec


def _fraction(ratio: Any, where: str) -> Fraction:
    try:
        value = Fraction(str(ratio))  # as written: 1 - 0.7 of a width is a whole number only in decimals
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if isinstance(ratio, (bool, str)) or not 0 <= value <= 1:
        raise InputError(
            f"{where} is {in_one_line(repr(ratio), 40)}; it must be a number in [0, 1], the largest fraction of its "
            "filters that a layer may lose, or map glob patterns to such numbers."
        )
    return value


def kept_at_least(spec: Spec, widths: Mapping[str, int]) -> dict[str, int]:
    """How many filters each layer that is limited keeps at least.

    Args:
        spec: the limits.
        widths: layer → its filters.

    Raises:
        InputError: a pattern names no layer.
    """
    return {layer: math.ceil(widths[layer] * (1 - ratio)) for layer, ratio in _ratios(spec, widths).items()}


def _ratios(spec: Spec, layers: Iterable[str]) -> dict[str, Fraction]:
    """The limit of each layer that has one.

    Of several patterns that match a layer, the one with the most characters that are no wildcards counts; of equals
    the lowest limit.
    """
    names = list(layers)
    if not isinstance(spec, Mapping):
        return dict.fromkeys(names, _fraction(spec, "max_ratio"))
    for pattern in spec:
        if not any(matches(pattern, name) for name in names):
            raise nothing_matches("max_ratio", pattern, _with_parents(names), "conv or linear layer")
    named = {name: [pattern for pattern in spec if matches(pattern, name)] for name in names}
    return {name: _of_most_specific(patterns, spec) for name, patterns in named.items() if patterns}


def _of_most_specific(patterns: list[str], spec: Mapping[str, float | Fraction]) -> Fraction:
    most = max(map(specificity, patterns))
    return min(_fraction(spec[pattern], "max_ratio") for pattern in patterns if specificity(pattern) == most)


def _with_parents(layers: Iterable[str]) -> list[str]:
    parts = [layer.split(".") for layer in layers]
    return list(dict.fromkeys(".".join(names[:size]) for names in parts for size in range(len(names), 0, -1)))


def limited(graph: ChannelGraph, spec: Spec | None) -> ChannelGraph:
    """The graph with groups that keep to the limits; itself without any.

    Raises:
        InputError: a pattern names no layer.
    """
    if spec is None:
        return graph
    ratios = _ratios(spec, [name for name, layer in graph.layers.items() if layer.kind != "product"])
    place = {
        channel: (group.name, index)
        for group in (*graph.groups, *graph.units)
        for index, channel in enumerate(group.channels.tolist())
    }
    found: dict[str, list[tuple[Mapping[int, int], int]]] = {}
    for name, ratio in ratios.items():
        filters: dict[str, Counter[int]] = {}
        for group, index in (place[channel] for channel in graph.layers[name].outputs.tolist() if channel in place):
            filters.setdefault(group, Counter())[index] += 1
        for group, of in filters.items():  # of several groups, as after a concatenation, each by itself
            found.setdefault(group, []).append((of, math.ceil((1 - ratio) * of.total())))
    return replace(graph, groups=_limited(graph.groups, found), units=_limited(graph.units, found))


def _limited(groups: tuple[Group, ...], found: Mapping[str, Any]) -> tuple[Group, ...]:
    return tuple(
        LimitedGroup(**{one.name: getattr(group, one.name) for one in fields(Group)}, limits=tuple(found[group.name]))
        if group.name in found and group.frozen is None
        else group
        for group in groups
    )


def free(graph: ChannelGraph) -> ChannelGraph:
    """The graph without limits; itself where it has none."""
    if not any(isinstance(group, LimitedGroup) for group in graph.groups + graph.units):
        return graph
    groups, units = (
        tuple(group.free if isinstance(group, LimitedGroup) else group for group in several)
        for several in (graph.groups, graph.units)
    )
    return replace(graph, groups=groups, units=units)


def holds(group: Group) -> bool:
    """Whether a group would lose more without its limits."""
    return isinstance(group, LimitedGroup) and group.free.min_kept < group.min_kept
