"""Operations that take positions by their numbers: along that dimension all stay, along the others they go on."""

import math
from collections.abc import Iterable

import torch

from daar.program.program import Operation, Ref, refs
from daar.pruning.identities import Labels
from daar.pruning.rules.pointwise import fill_blanks, pointwise
from daar.pruning.rules.run import Dims, Rule, Run

_BY_NUMBER = "channels are taken by their numbers"


def select(run: Run, op: Operation) -> list[Dims]:
    """One position of a dimension, by a number: all of them stay."""
    labels = list(run.of(op.args[0]))
    dim = op.argument(1, "dim", 0) % len(labels)
    run.keep(labels.pop(dim), op, "a channel is taken by its number")
    return [labels]


def unbind(run: Run, op: Operation) -> list[Dims]:
    """Every position of a dimension on its own: all of them stay."""
    labels = list(run.of(op.args[0]))
    dim = op.argument(1, "dim", 0) % len(labels)
    run.keep(labels.pop(dim), op, "channels are taken one by one")
    return [list(labels) for _ in refs(op.result)]


def index(run: Run, op: Operation) -> list[Dims]:
    """Positions by tensors of numbers, or by masks, each of which stands for as many dimensions as it has."""
    labels = run.of(op.args[0])
    taken, made = _taken(run, op.args[1], len(labels))
    for d in taken:
        run.keep(labels[d], op, _BY_NUMBER)
    return [[labels[d] if d is not None else None for d in made]]


def _taken(run: Run, indices: Iterable[Ref | None], rank: int) -> tuple[set[int], list[int | None]]:
    """Which dimensions are taken by numbers; and for each one of what is made the one that it is, if any."""
    taken: list[int] = []
    new, at, runs = 0, 0, 0
    before: Ref | None = None
    for one in indices:
        if one is None:
            at += 1
        else:
            masks = run.program.dtypes[one.number] in (torch.bool, torch.uint8)
            depth = len(run.shape(one)) if masks else 1
            taken.extend(range(at, at + depth))
            new = max(new, 1 if masks else len(run.shape(one)))
            at, runs = at + depth, runs + (before is None)
        before = one
    left: list[int | None] = [d for d in range(rank) if d not in taken]
    # next to each other, they are replaced where they stand; else what they make comes first
    place = taken[0] if taken and runs == 1 else 0
    left[place:place] = [None] * new
    return set(taken), left


def index_put(run: Run, op: Operation) -> list[Dims]:
    """Values written to positions: a number wherever a mask of the same shape says, or as `index` reads them."""
    source, indices, values = op.args[:3]
    masks = [one for one in indices if one is not None]
    if math.prod(run.shape(values)) == 1 and len(masks) == 1 and run.shape(masks[0]) == run.shape(source):
        return pointwise(run, op)
    labels = list(run.of(source))
    taken, written = _taken(run, indices, len(labels))
    for d in taken:
        run.keep(labels[d], op, _BY_NUMBER)
        labels[d] = None
    shape, given = run.shape(values), run.of(values)
    for from_end in range(1, min(len(shape), len(written)) + 1):
        at = written[-from_end]
        if shape[-from_end] > 1:
            here = run.agree(None if at is None else labels[at], given[-from_end], op)
            if at is not None:
                labels[at] = here
    return _in_place(run, op, labels)


def _in_place(run: Run, op: Operation, labels: Dims) -> list[Dims]:
    if op.name.endswith("_"):
        fill_blanks(run.of(op.args[0]), labels)
    return [labels]


def along_one(run: Run, op: Operation) -> list[Dims]:
    """Numbers say where along one dimension is read or written; along the others, position meets position."""
    source, dim = op.args[0], op.args[1] % max(len(run.shape(op.args[0])), 1)
    operands = [ref for ref in refs(op.args) if len(run.shape(ref)) == len(run.shape(source))]
    made: Dims = []
    for d, size in enumerate(run.shape(op.result)):
        along = [(run.of(ref)[d], run.shape(ref)[d]) for ref in operands]
        if d == dim or any(wide != size for _, wide in along):
            for labels, _ in along:
                run.keep(labels, op, _BY_NUMBER)
            made.append(None)
        else:
            made.append(_met(run, op, [labels for labels, _ in along]))
    return _in_place(run, op, made)


def _met(run: Run, op: Operation, several: list[Labels | None]) -> Labels | None:
    met = several[0]
    for labels in several[1:]:
        met = run.agree(met, labels, op)
    return met


def embedding(run: Run, op: Operation) -> list[Dims]:
    """Rows of a table by their numbers: the table's columns are channels."""
    rows, channels = run.of(op.args[0])
    run.keep(rows, op, _BY_NUMBER)
    if channels is not None:
        run.attribute(op, "embedding_dim", channels)
    return [[*[None] * len(run.shape(op.args[1])), channels]]


def embedding_bag(run: Run, op: Operation) -> list[Dims]:
    """Sums, means or the largest of rows of a table."""
    rows, channels = run.of(op.args[0])
    run.keep(rows, op, _BY_NUMBER)
    if channels is not None:
        run.attribute(op, "embedding_dim", channels)
    return [[None, channels] if len(run.shape(ref)) == 2 else [None] for ref in refs(op.result)]


_ALONG_ONE = ("gather", "scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill")

RULES: dict[str, Rule] = {
    **dict.fromkeys((*_ALONG_ONE, "index_select"), along_one),
    **{"select": select, "unbind": unbind, "index": index, "index_put": index_put},
    **{"embedding": embedding, "_embedding_bag": embedding_bag, "_embedding_bag_forward_only": embedding_bag},
}
