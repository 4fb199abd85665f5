"""Operations that compute nothing but move positions: reshape, permute, cut, join, repeat."""

import math
from collections.abc import Iterator

import numpy as np

from daar.program.program import Operation, Ref, refs
from daar.pruning.identities import BLANK, Labels
from daar.pruning.rules.pointwise import is_pointwise
from daar.pruning.rules.reductions import ALONG, along
from daar.pruning.rules.run import WRITTEN, Dims, Rule, Run

# pointwise operations between a view and what it is for
_FOLLOWED = 4


def view(run: Run, op: Operation) -> list[Dims]:
    """Dimensions are merged and split: channels repeat where they are merged with positions, and are tied by a split.

    Where a split may be read in two ways, parts × channels or channels × parts, the one that is taken together next, as
    by a norm of groups, does not vary; a -1 in the code says which does; else the largest is taken first.
    """
    source, result = op.args[0], op.result
    old, new = run.shape(source), run.shape(result)
    written = op.args[1] if len(op.args) > 1 and isinstance(op.args[1], (list, tuple)) else new
    labels: Dims = [None] * len(new)
    for olds, news in _matched(old, new):
        flat = _merged(run, op, source, olds)
        if flat is None:
            continue
        wide = [d for d in news if new[d] > 1]
        if len(wide) == 1:
            labels[wide[0]] = flat
        elif wide:
            sizes = [new[d] for d in wide]
            free = [index for index, d in enumerate(wide) if len(written) == len(new) and written[d] == -1]
            last = [index for index, d in enumerate(wide) if d in _taken_together(run, op)]
            axis, part = _split(run, op, flat.reshape(sizes), free, last)
            if axis is not None:
                labels[wide[axis]] = part
    return [labels]


def _matched(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Which dimensions of the old shape hold the same elements as which of the new one."""
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        while (a := math.prod(old[d] for d in olds)) != (b := math.prod(new[d] for d in news)):
            if a < b:
                olds.append(olds[-1] + 1 if olds else i)
            else:
                news.append(news[-1] + 1 if news else j)
        yield olds, news
        i, j = i + len(olds), j + len(news)


def _merged(run: Run, op: Operation, source: Ref, dims: list[int]) -> Labels | None:
    """The labels of several dimensions as one."""
    shape, labels = run.shape(source), run.of(source)
    known = [d for d in dims if labels[d] is not None]
    if not known:
        return None
    channels = [d for d in known if not _is_blank(labels[d])]
    known = channels or known[:1]  # what was expanded holds the same value everywhere
    if len([d for d in dims if shape[d] > 1]) == 1:
        return labels[known[0]]
    if len(known) > 1:
        for d in known:
            run.keep(labels[d], op, "two dimensions of channels become one")
        return None
    here = labels[known[0]]
    assert here is not None
    ones = [shape[d] if d == known[0] else 1 for d in dims]
    return np.ascontiguousarray(np.broadcast_to(here.reshape(ones), [shape[d] for d in dims])).ravel()


def _taken_together(run: Run, op: Operation) -> set[int]:
    """Dimensions of what an operation makes over which something is computed next."""
    found, waiting = set[int](), [(op.result.number, 0)]
    while waiting:
        number, steps = waiting.pop()
        for reader in run.readers.get(number, ()):
            if reader.name in ALONG and next(refs(reader.args)).number == number:
                found.update(along(run, reader))
            elif (steps < _FOLLOWED and is_pointwise(reader)) or reader.name == "_to_copy":
                rank = len(run.program.shapes[number])
                waiting.extend((n, steps + 1) for n in reader.makes() if len(run.program.shapes[n]) == rank)
    return found


def _is_blank(labels: Labels | None) -> bool:
    return labels is None or bool((labels == BLANK).all())


def _split(run: Run, op: Operation, grid: Labels, free: list[int], last: list[int]) -> tuple[int | None, Labels | None]:
    """Along which axis of a grid the channels lie, and their labels; parts along others are tied."""
    varying = [axis for axis in range(grid.ndim) if (grid != grid.take([0], axis)).any()]
    if not varying:
        run.keep(grid.ravel(), op, "one channel becomes several dimensions")
        return None, None
    if len(varying) == 1:
        return varying[0], np.moveaxis(grid, varying[0], -1).reshape(-1, grid.shape[varying[0]])[0]
    order = sorted(varying, key=lambda axis: (axis in last, axis not in free, -grid.shape[axis]))
    chosen = run.reading(op, len(order))
    if chosen == len(order):
        run.keep(grid.ravel(), op, WRITTEN)
        return None, None
    axis = order[chosen]
    rows = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
    return axis, run.ids.tie(rows, len(rows))


def as_strided(run: Run, op: Operation) -> list[Dims] | None:
    """Followed only where it changes no size, as some layers write it."""
    return [run.of(op.args[0])] if tuple(op.args[1]) == run.shape(op.args[0]) else None


def transpose(run: Run, op: Operation) -> list[Dims]:
    """Two dimensions change places."""
    labels = list(run.of(op.args[0]))
    if op.args[0].number in run.program.leaves:
        run.transposed[op.result.number] = op.args[0].number
    if len(labels) > 1:
        one, other = op.args[1:3] if len(op.args) > 2 else (0, 1)
        labels[one], labels[other] = labels[other], labels[one]
    return [labels]


def permute(run: Run, op: Operation) -> list[Dims]:
    """All dimensions change places."""
    labels = run.of(op.args[0])
    return [[labels[d] for d in op.args[1]]]


def expand(run: Run, op: Operation) -> list[Dims]:
    """What was one position becomes many of the same value: a constant, however many they are.

    Where the code says how many channels there are already, it may mean those of another tensor, as `expand_as` does.
    """
    labels, old, new = run.of(op.args[0]), run.shape(op.args[0]), run.shape(op.result)
    added, given = len(new) - len(old), op.args[1]
    made: Dims = []
    for d, size in enumerate(new):
        if d >= added and old[d - added] == size:
            made.append(labels[d - added])
            if labels[d - added] is not None and given[d] != -1:
                _expand_as(run, op, d)
        else:
            made.append(None if size == 1 else np.full(size, BLANK))
    return [made]


def _expand_as(run: Run, op: Operation, dim: int) -> None:
    """Tie channels to those of the last tensor of this shape, or keep them, where the proof says that it means them."""
    shape = run.shape(op.result)
    here = run.of(op.args[0])[dim - len(shape)]
    alike = (n for n in reversed(run.labels) if run.program.shapes[n] == shape and n in run.activations)
    other = next((labels for n in alike if (labels := run.labels[n][dim]) is not None), None)
    chosen = run.reading(op, 1 if other is None else 2)
    if chosen == 1 and other is not None and here is not None:
        run.ids.unify(here, other)
    elif chosen:
        run.keep(here, op, WRITTEN)


def repeat(run: Run, op: Operation) -> list[Dims]:
    """Channels one copy behind another; copies of one position are a constant, however many they are."""
    labels, times, shape = run.of(op.args[0]), op.args[1], run.shape(op.args[0])
    added = len(times) - len(labels)
    made: Dims = []
    for d, count in enumerate(times):
        known = labels[d - added] if d >= added else None
        single = d < added or shape[d - added] == 1
        made.append(np.tile(known, count) if known is not None else np.full(count, BLANK) if single else None)
    return [made]


def unsqueeze(run: Run, op: Operation) -> list[Dims]:
    """A dimension of size 1 is added."""
    labels = list(run.of(op.args[0]))
    labels.insert(op.args[1] % (len(labels) + 1), None)
    return [labels]


def squeeze(run: Run, op: Operation) -> list[Dims]:
    """Dimensions of size 1 are taken away."""
    shape, labels = run.shape(op.args[0]), run.of(op.args[0])
    given = op.args[1] if len(op.args) > 1 else list(range(len(shape)))
    dims = {d % max(len(shape), 1) for d in ([given] if isinstance(given, int) else given)}
    return [[part for d, part in enumerate(labels) if d not in dims or shape[d] != 1]]


def cat(run: Run, op: Operation) -> list[Dims]:
    """Channels next to each other; those of other dimensions are met position by position."""
    parts = [ref for ref in op.args[0] if run.shape(ref) != (0,)] or list(op.args[0])
    dim = op.argument(1, "dim", 0) % len(run.shape(parts[0]))
    made = _alike(run, op, parts, dim)
    if any(run.of(ref)[dim] is not None for ref in parts):
        made[dim] = np.concatenate([_some(run, op, ref, dim) for ref in parts])
        run.joined.append(made[dim])
    return [made]


def _some(run: Run, op: Operation, ref: Ref, dim: int) -> Labels:
    """Labels along a dimension; such that stay, where there are none."""
    labels = run.of(ref)[dim]
    if labels is None:
        labels = run.ids.fresh(run.shape(ref)[dim])
        run.keep(labels, op, "is concatenated, but has no channels of its own")
    return labels


def stack(run: Run, op: Operation) -> list[Dims]:
    """Tensors along a new dimension, met position by position."""
    dim = op.argument(1, "dim", 0) % len(run.shape(op.result))
    made = _alike(run, op, list(op.args[0]), None)
    return [[*made[:dim], None, *made[dim:]]]


def _alike(run: Run, op: Operation, parts: list[Ref], but: int | None) -> Dims:
    """The labels of several tensors that are met position by position, but for one dimension."""
    made = list(run.of(parts[0]))
    for ref in parts[1:]:
        for d, labels in enumerate(run.of(ref)):
            if d != but:
                made[d] = run.agree(made[d], labels, op) if made[d] is not labels else labels
    return made


def split(run: Run, op: Operation) -> list[Dims]:
    """Equal parts stay equally wide, as `chunk` cuts them; unequal ones are cut where the code says."""
    labels = run.of(op.args[0])
    dim = op.argument(2, "dim", 0) % len(labels)
    here, results = labels[dim], list(refs(op.result))
    if here is None:
        return [labels for _ in results]
    sizes = [run.shape(ref)[dim] for ref in results]
    if len(set(sizes)) == 1:
        if run.reading(op, 1) == 0:
            run.ids.tie(here, len(sizes))
        else:
            run.keep(here, op, WRITTEN)
    return [
        [*labels[:dim], here[end - size : end], *labels[dim + 1 :]]
        for size, end in zip(sizes, np.cumsum(sizes), strict=True)
    ]


def slice_(run: Run, op: Operation) -> list[Dims]:
    """A range of positions; one of several equal parts stays as wide as the others."""
    labels = list(run.of(op.args[0]))
    dim = op.argument(1, "dim", 0) % len(labels)
    here, size = labels[dim], run.shape(op.args[0])[dim]
    if here is None:
        return [labels]
    start, end, step = (op.argument(2 + at, name) for at, name in enumerate(("start", "end", "step")))
    taken = here[slice(start, end, step)]
    if len(taken) < size and run.activations.intersection(op.reads()):
        _cut(run, op, here, taken, start or 0)
    labels[dim] = taken if len(taken) > 1 else None
    return [labels]


def _cut(run: Run, op: Operation, here: Labels, taken: Labels, start: int) -> None:
    start += len(here) if start < 0 else 0
    parts = len(here) // len(taken)
    even = len(here) == parts * len(taken) and start % len(taken) == 0 and parts <= len(taken)
    chosen = run.reading(op, 1 + even)
    if even and chosen == 0:
        run.ids.tie(here, parts)
    elif chosen == 1 + even:
        run.keep(here, op, WRITTEN)


def constant_pad(run: Run, op: Operation) -> list[Dims]:
    """Constants before and after, from the last dimension on; negative widths cut.

    How many there are may follow from the channels that they meet, or stand in the code: then they stay.
    """
    labels, pads = list(run.of(op.args[0])), list(op.args[1])
    for at in range(len(pads) // 2):
        d, (before, after) = len(labels) - 1 - at, pads[2 * at : 2 * at + 2]
        here = labels[d]
        if here is not None and (before or after):
            here = here[max(0, -before) : len(here) - max(0, -after)]
            labels[d] = np.concatenate([_padding(run, op, before), here, _padding(run, op, after)])
            run.joined.append(here)
    return [labels]


def _padding(run: Run, op: Operation, count: int) -> Labels:
    if count <= 0 or run.reading(op, 1) == 0:
        return np.full(max(0, count), BLANK)
    written = run.ids.fresh(count)
    run.keep(written, op, "padded by a written number of channels")
    return written


RULES: dict[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias"), view),
    **dict.fromkeys(("transpose", "t"), transpose),
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), split),
    **{"as_strided": as_strided, "permute": permute, "expand": expand, "repeat": repeat, "unsqueeze": unsqueeze},
    **{"squeeze": squeeze, "cat": cat, "stack": stack, "slice": slice_, "constant_pad_nd": constant_pad},
}
