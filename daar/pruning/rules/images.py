"""Operations that rearrange the pixels of images, among themselves or with channels."""

import math

import numpy as np

from daar.program.program import Operation
from daar.pruning.rules.run import Dims, Rule, Run


def flip(run: Run, op: Operation) -> list[Dims]:
    """Positions in reverse order."""
    labels = list(run.of(op.args[0]))
    for d in op.args[1]:
        here = labels[d]
        labels[d] = None if here is None else here[::-1]
    return [labels]


def pixel_shuffle(run: Run, op: Operation) -> list[Dims]:
    """r² channels become one of r × r the size: they go together."""
    labels, square = list(run.of(op.args[0])), op.args[1] ** 2
    here = labels[-3]
    labels[-3] = None if here is None else run.ids.tie(here.reshape(-1, square).T, square)
    return [[*labels[:-2], None, None]]


def pixel_unshuffle(run: Run, op: Operation) -> list[Dims]:
    """One channel becomes r² of its pixels."""
    labels = list(run.of(op.args[0]))
    here = labels[-3]
    labels[-3] = None if here is None else np.repeat(here, op.args[1] ** 2)
    return [[*labels[:-2], None, None]]


def channel_shuffle(run: Run, op: Operation) -> list[Dims]:
    """Groups of channels are interleaved, so all stay equally wide."""
    labels, groups = list(run.of(op.args[0])), op.args[1]
    here = labels[1]
    if here is not None:
        run.ids.tie(here, groups)
        labels[1] = here.reshape(groups, -1).T.ravel()
    return [labels]


def im2col(run: Run, op: Operation) -> list[Dims]:
    """Every channel repeats for each place of the kernel (unfold)."""
    labels = run.of(op.args[0])
    here = labels[-3]
    return [[*labels[:-3], None if here is None else np.repeat(here, math.prod(op.args[1])), None]]


def col2im(run: Run, op: Operation) -> list[Dims]:
    """The places of the kernel are added up to one channel each (fold): they go together."""
    labels, kernel = run.of(op.args[0]), math.prod(op.args[2])
    run.keep(labels[-1], op, "channels are positions of a map")
    here = labels[-2]
    made = None if here is None else run.ids.tie(here.reshape(-1, kernel).T, kernel)
    return [[*labels[:-2], made, None, None]]


def windows(run: Run, op: Operation) -> list[Dims]:
    """Ranges along a dimension, each a position of it with a dimension of its own behind all others."""
    labels = list(run.of(op.args[0]))
    run.keep(labels[op.args[1]], op, "channels are taken by ranges")
    labels[op.args[1]] = None
    return [[*labels, None]]


def rot90(run: Run, op: Operation) -> list[Dims]:
    """Two dimensions by quarter turns."""
    labels, (first, second) = list(run.of(op.args[0])), op.argument(2, "dims", [0, 1])
    turns = op.argument(1, "k", 1) % 4
    flipped = {0: [], 1: [second], 2: [first, second], 3: [first]}[turns]
    for d in flipped:
        here = labels[d]
        labels[d] = None if here is None else here[::-1]
    if turns % 2:
        labels[first], labels[second] = labels[second], labels[first]
    return [labels]


def max_unpool(run: Run, op: Operation) -> list[Dims]:
    """Every channel by itself: its maxima back at the places that were kept, its positions together."""
    values, places = run.of(op.args[0]), run.of(op.args[1])
    leading = len(values) - len(op.args[2])
    for labels in (*values[leading:], *places[leading:]):
        run.keep(labels, op, "channels are positions of a map")
    met = [run.agree(one, other, op) for one, other in zip(values[:leading], places[:leading], strict=True)]
    return [[*met, *[None] * len(op.args[2])]]


def triangle(run: Run, op: Operation) -> list[Dims]:
    """Of matrices, what is above or below the diagonal: their rows and columns stay."""
    labels = list(run.of(op.args[0]))
    for other in labels[-2:]:
        run.keep(other, op, "channels are positions of a matrix")
    return [[*labels[:-2], None, None]]


def diagonal(run: Run, op: Operation) -> list[Dims]:
    """Of matrices, the diagonals, behind all other dimensions: their rows and columns stay."""
    labels = run.of(op.args[0])
    dims = {op.argument(2, "dim1", 0) % len(labels), op.argument(3, "dim2", 1) % len(labels)}
    for d in dims:
        run.keep(labels[d], op, "channels are positions of a matrix")
    return [[*(part for d, part in enumerate(labels) if d not in dims), None]]


RULES: dict[str, Rule] = {
    **{"pixel_shuffle": pixel_shuffle, "pixel_unshuffle": pixel_unshuffle, "flip": flip, "rot90": rot90},
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), channel_shuffle),
    **{"im2col": im2col, "col2im": col2im, "unfold": windows},
    **{
        "max_unpool2d": max_unpool,
        "max_unpool3d": max_unpool,
        "tril": triangle,
        "triu": triangle,
        "diagonal": diagonal,
    },
}
