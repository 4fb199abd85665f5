"""Find channel groups that are proven: propose, prove, repair.

Rules follow operations and cannot see where a number in the code came from. So removal of random channels is proposed
and proven; where the slim network raises or differs, an integer that is a number of channels gets its new value, or an
ambiguous operation its other reading, or the channels that the operation reads stay. Each is tried under the same proof
and holds only if the first difference moves on.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.draws import seeded
from daar.program.inputs import Images, call
from daar.program.outputs import tensors
from daar.program.program import Operation
from daar.program.recording import recorded
from daar.pruning.attributes import integers
from daar.pruning.groups import ChannelGraph, Group, graph_from
from daar.pruning.lockstep import Difference, first_difference
from daar.pruning.proof import REMEDY, Precision, precision_of, same_outputs
from daar.pruning.repairs import Repairs, Where
from daar.pruning.slim import Removed, slim
from daar.pruning.training_mode import asks_for_mode, failure, in_training, unread

_MOST_REPAIRS = 60
# removals that groups are proven by where something is meant that code alone says: one may agree by chance, as where it
# takes the last channels by their number
_TRIALS = 2
# attributes of one class that are tried one by one, for one operation
_MOST_SINGLES = 24
# modules of one line whose channels stay before those of all do
_OFTEN = 2
# multiples of it are spread evenly in [0, 1)
_GOLDEN = 0.618034


def proven_graph(model: nn.Module, images: Images, exclude: Iterable[str] = ()) -> ChannelGraph:
    """The channel groups of any network, on the CPU, with what a proof had to repair.

    Args:
        model: the dense network; left as it is.
        images: finite, few: two where the network runs on two; their values matter.
        exclude: paths of modules whose convs keep all their filters.

    Raises:
        InputError: the network fails on the images, or differs however much is kept.
    """
    precision = precision_of(model, images)
    with precision.lent(model) as dense:
        return _searched(dense, precision.images(images), tuple(exclude), precision)


def _searched(dense: nn.Module, batch: Images, names: tuple[str, ...], precision: Precision) -> ChannelGraph:
    program = recorded(dense, batch)
    training = in_training(dense, batch) if unread(dense, program) else None
    graph = graph_from(program, dense, names, training=training)
    difference = None if _agrees(dense, graph, batch, precision) else _try(dense, graph, batch, precision)
    for _ in range(_MOST_REPAIRS):
        if difference is None:
            break
        for candidate in _candidates(dense, graph, difference):
            tried = graph_from(program, dense, names, candidate, training)
            later = _try(dense, tried, batch, precision)
            if later is None or difference.is_before(later):
                graph, difference = tried, later
                break
        else:
            break
    if difference is None:
        return _that_trains(dense, graph, batch, precision)
    _require_repeatable(dense, batch)
    raise InputError(
        f"the slim network differs from the masked one at {program.operations[difference.index].place()}: "
        f"{difference.what}. {REMEDY}"
    )


def _require_repeatable(model: nn.Module, images: Images) -> None:
    outputs = []
    for _ in range(2):
        with seeded(), evaluating(model):
            outputs.append([value.nan_to_num() for value in tensors(call(model, images))])
    if not all(torch.equal(one, other) for one, other in zip(*outputs, strict=True)):
        raise InputError(
            "the model returns other values each time it runs on the same images with the same seeds, so no slim one "
            "can be compared with it. Draw random numbers by torch, random or numpy.random itself, not by a generator "
            "of the model's own, and change no tensors in eval mode."
        )


def _agrees(model: nn.Module, graph: ChannelGraph, images: Images, precision: Precision) -> bool:
    """Whether the outputs agree in all trials: most networks need no more, which would keep all that they compute."""
    for trial in range(_trials(graph)):
        removed = some_removed(graph, trial)
        if not same_outputs(model, slim(model, graph, removed), graph, removed, images, precision.tolerance):
            return False
    return True


def _trials(graph: ChannelGraph) -> int:
    repairs = graph.repairs
    return _TRIALS if graph.ambiguous or repairs.readings or repairs.kept or repairs.attributes else 1


def _try(model: nn.Module, graph: ChannelGraph, images: Images, precision: Precision) -> Difference | None:
    for trial in range(_trials(graph)):
        removed = some_removed(graph, trial)
        found = first_difference(model, slim(model, graph, removed), graph, removed, images, precision.tolerance)
        if found is not None:
            return replace(found, trial=trial)
    return None


def _that_trains(model: nn.Module, graph: ChannelGraph, images: Images, precision: Precision) -> ChannelGraph:
    """The groups with which the slim network runs in training mode too; the same groups where none are such.

    What runs in training mode is followed where it reads more parameters, or where the slim network fails in it.
    """
    kept = graph
    if graph.training is None:
        if not asks_for_mode(model) or failure(slim(model, graph, some_removed(graph)), images) is None:
            return graph
        if (training := in_training(model, images)) is None:
            return graph
        repairs = replace(graph.repairs, training=True)
        kept = graph_from(graph.program, model, graph.exclude, repairs, training)
    assert kept.training is not None
    while (failed := failure(slim(model, kept, some_removed(kept)), images)) is not None:
        operations = kept.training.operations
        at = operations[min(len(failed.program.operations), len(operations) - 1)]
        repairs = next(_keeping(kept.repairs, at, "relies on a number of channels in training mode"), kept.repairs)
        if repairs is kept.repairs:
            return graph
        kept = graph_from(kept.program, model, kept.exclude, repairs, kept.training)
    return kept if kept is graph or _try(model, kept, images, precision) is None else graph


def some_removed(graph: ChannelGraph, seed: int = 0) -> Removed:
    """Random channels of every group that may be pruned: a fifth to half, or as many as may go.

    Each group loses another share than those near it, so that none is as wide as another by chance. Where it can be, of
    even seeds the first channel goes and the last stays, of odd seeds the other way round: code that takes
    a fixed number of channels from either end is then seen.
    """
    dice = random.Random(seed)
    removed = {}
    for index, group in enumerate(graph.in_scope("units")):
        ends = [0, group.size - 1][:: 1 - 2 * (seed % 2)]
        order = dice.sample(range(group.size), group.size)
        order.sort(key=lambda channel: (channel == ends[0]) - (channel == ends[1]))  # used at once
        share = 0.5 - 0.3 * ((index + seed) * _GOLDEN % 1)
        removed[group.name] = sorted(_spared(group, order[::-1], max(1, int(share * group.size))))
    return removed


def _spared(group: Group, order: list[int], most: int) -> list[int]:
    """At most `most` channels that can go, in this order, so that every member keeps its least, every part one.

    Not by `reserves`, which of members that overlap may leave none to go: a proof has to see every group cut.
    """
    parts = [set(positions.tolist()) for positions in group.positions.values()]
    spare = [len(part) - min(len(part), max(2, -(-len(part) // 20))) for part in parts]
    parts, spare = [*parts, *map(set, group.parts)], [*spare, *(len(part) - 1 for part in group.parts)]
    gone: list[int] = []
    for channel in order:
        of = [index for index, part in enumerate(parts) if channel in part]
        if len(gone) < most and channel not in group.fixed and all(spare[index] for index in of):
            gone.append(channel)
            for index in of:
                spare[index] -= 1
    return gone


def _candidates(model: nn.Module, graph: ChannelGraph, difference: Difference) -> Iterator[Repairs]:
    """What may be meant, the likeliest first."""
    operation, repairs = graph.program.operations[difference.index], graph.repairs
    for some in _together(_attributes(model, graph, operation)):
        more = {key: (*repairs.attributes.get(key, ()), where) for key, where in some.items()}
        yield replace(repairs, attributes={**repairs.attributes, **more})
    for index in _ambiguous_before(graph, operation):
        source = graph.program.operations[index].source
        for reading in range(repairs.readings.get(source, 0) + 1, graph.ambiguous[index] + 1):
            yield replace(repairs, readings={**repairs.readings, source: reading})
    yield from _keeping(repairs, operation, f"relies on a number of channels ({difference.what})")
    # where all that it reads stays already, what comes before it is meant
    upstream = [graph.program.operations[index] for index in range(operation.index - 1, -1, -1)]
    for other in upstream[:8]:
        yield from _keeping(repairs, other, f"leads to {operation.place()}, which differs")
    # or what a module reads that was running, as where its code takes a size of its input for one of its output
    for first in _entrances(graph, operation):
        yield from _keeping(
            repairs, first, f"enters a module that relies on a number of channels at {operation.place()}"
        )


def _entrances(graph: ChannelGraph, operation: Operation) -> list[Operation]:
    """The first operation of each module that was running when this one ran, of the innermost first."""
    spans = [span for span in graph.program.spans if span.first < operation.index < span.last and span.module]
    return [graph.program.operations[span.first] for span in sorted(spans, key=lambda span: span.last - span.first)]


def _keeping(repairs: Repairs, operation: Operation, why: str) -> Iterator[Repairs]:
    """What the operation reads stays: here, then wherever its line runs; the other way round if that was met often."""
    met = sum(source.startswith(f"{operation.source} in ") for source in repairs.kept)
    sources = [operation.source, operation.here] if met >= _OFTEN else [operation.here, operation.source]
    for source in sources:
        if source not in repairs.kept:
            yield replace(repairs, kept={**repairs.kept, source: why})


# class of a module and name of an integer of it → the places where it may be the number of channels
_Found = dict[tuple[str, str], list[Where]]


def _together(found: _Found) -> Iterator[dict[tuple[str, str], Where]]:
    """Attributes that one class alone holds first, each by itself, then those that one list holds, then all of it."""
    kinds = dict.fromkeys(kind for kind, _ in found)
    for kind in kinds:
        own = {key: places for key, places in found.items() if key[0] == kind}
        singles = ({key: where} for key, places in own.items() for where in reversed(places))
        yield from itertools.islice(singles, _MOST_SINGLES)
        lists = dict.fromkeys(name.rpartition(".")[0] for _, name in own if "." in name)
        for one in lists:
            entries = {key: places for key, places in own.items() if key[1].rpartition(".")[0] == one}
            if 1 < len(entries) < len(own):
                yield _in_order(entries)
        if len(own) > 1:
            yield _in_order(own)
    if len(kinds) > 1:
        yield _in_order(found)


def _in_order(found: _Found) -> dict[tuple[str, str], Where]:
    """Of several integers that are equal the first is meant at the first place, as the widths of one split are."""
    alike: dict[tuple[Where, ...], list[tuple[str, str]]] = {}
    for key, places in found.items():
        alike.setdefault(tuple(places), []).append(key)
    return {
        key: places[min(index, len(places) - 1) if len(keys) > 1 else -1]
        for places, keys in alike.items()
        for index, key in enumerate(keys)
    }


def _attributes(model: nn.Module, graph: ChannelGraph, operation: Operation) -> _Found:
    """Integers of the modules that were running that equal a number of channels of the operation's tensors.

    Those of the innermost module first. Places of the same channels are one, the last of them.
    """
    places: dict[int, dict[bytes, Where]] = {}
    for position, number in enumerate([*operation.reads(), *operation.makes()]):
        for dim, labels in enumerate(graph.tensors[number]):
            if labels is not None:
                places.setdefault(len(labels), {})[labels.tobytes()] = (operation.source, position, dim)
    found: _Found = {}
    for path in _upwards(operation.module):
        module = model.get_submodule(path)
        for name, value in integers(module):
            key = type(module).__qualname__, name
            already = graph.repairs.attributes.get(key, ())
            if value in places and (new := [where for where in places[value].values() if where not in already]):
                found.setdefault(key, new)
    return found


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _ambiguous_before(graph: ChannelGraph, operation: Operation) -> list[int]:
    """Operations that may be read in several ways and lead to this one, the nearest first."""
    makers = {number: op.index for op in graph.program.operations for number in op.makes()}
    waiting, found = [operation.index], list[int]()
    seen: set[int] = set()
    while waiting and len(seen) < 400:
        index = waiting.pop(0)
        if index in seen:
            continue
        seen.add(index)
        if index in graph.ambiguous:
            found.append(index)
        waiting.extend(makers[number] for number in graph.program.operations[index].reads() if number in makers)
    return found[:4]
