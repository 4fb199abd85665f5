"""Operations on one position at a time: they pass channels on, and tie those of several operands."""

import functools

import numpy as np
import torch

from daar.program.program import Operation, Ref, refs
from daar.pruning.identities import BLANK, Labels
from daar.pruning.rules.run import WRITTEN, Dims, Rule, Run

# torch's tag is missing on these
_UNTAGGED = (
    *("hardswish", "mish", "gelu", "silu", "_prelu_kernel", "copy", "masked_fill", "fill", "alias", "detach"),
    *("lift_fresh", "_to_copy", "clone", "zero", "native_dropout", "where"),
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("bernoulli", "normal", "uniform", "exponential", "log_normal", "cauchy", "geometric", "random"),
    *("rand_like", "randn_like", "randint_like", "rrelu_with_noise", "rsub", "floor_divide", "log_sigmoid_forward"),
    *("complex", "polar", "_conj", "_neg_view"),
)
# of what they read they take the type and the device, no values
MADE_BY_CODE = (
    "zeros",
    "ones",
    "empty",
    "full",
    "arange",
    "rand",
    "randn",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
)
_JOINS = ("add", "sub", "rsub", "maximum", "minimum")


def is_pointwise(operation: Operation) -> bool:
    """Whether torch tags an operation as pointwise; forms in place have the tag of the others."""
    return torch.Tag.pointwise in operation.function.tags or (
        operation.name.endswith("_") and _is_tagged(operation.name[:-1])
    )


@functools.cache
def _is_tagged(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and torch.Tag.pointwise in getattr(packet, packet.overloads()[0]).tags


def pointwise(run: Run, op: Operation) -> list[Dims]:
    """Operands are aligned from the last dimension on; one of size 1 is broadcast."""
    operands = list(refs((op.args, op.kwargs)))
    made: list[Dims] = []
    for result in refs(op.result):
        shape = run.shape(result)
        made.append([_met(run, op, operands, len(shape) - d, size) for d, size in enumerate(shape)])
    if op.name == "_prelu_kernel" and made[0][1] is not None:
        run.attribute(op, "num_parameters", made[0][1])
    if op.name.endswith("_") and operands:
        fill_blanks(run.of(operands[0]), made[0])
    return made


def _met(run: Run, op: Operation, operands: list[Ref], from_end: int, size: int) -> Labels | None:
    """The labels along one dimension of the result."""
    if size == 1:
        return None
    met = []
    for ref in operands:
        shape = run.shape(ref)
        if len(shape) >= from_end and shape[-from_end] == size:
            met.append((run.of(ref)[-from_end], ref.number in run.activations))
    known = [labels for labels, _ in met if labels is not None]
    if not known:
        return None
    if len(known) < len(met):
        for labels in known:
            run.keep(labels, op, "channels meet what has none")
        return None
    first = known[0].copy()
    for other in known[1:]:
        run.ids.unify(first, other)
        first = np.where(first == BLANK, other, first)
    if op.name.rstrip("_") in _JOINS and sum(active for _, active in met) > 1:
        run.joined.append(first)
    return first


def fill_blanks(changed: Dims, made: Dims) -> None:
    """What is written into a constant gives it its channels; slices share the memory of their labels."""
    for labels, result in zip(changed, made, strict=True):
        if labels is not None and result is not None:
            blank = labels == BLANK
            labels[blank] = result[blank]


def of_first(run: Run, op: Operation) -> list[Dims]:
    """One position at a time, by what stands in other tensors, whatever their shapes."""
    source, *others = refs(op.args)
    for ref in others:
        for labels in run.of(ref):
            run.keep(labels, op, "channels are looked up")
    return [run.of(source)]


def complex_parts(run: Run, op: Operation) -> list[Dims]:
    """Complex numbers as pairs of real ones, in a dimension behind all others, and back."""
    labels = run.of(op.args[0])
    if op.name == "view_as_real":
        return [[*labels, None]]
    run.keep(labels[-1], op, "channels are parts of a complex number")
    return [labels[:-1]]


def made_by_code(run: Run, op: Operation) -> list[Dims]:
    """A tensor of constants: it takes whatever channels it meets, or is as wide as the code says."""
    if all(size <= 1 for ref in refs(op.result) for size in run.shape(ref)) or run.reading(op, 1) == 0:
        return [[None if size == 1 else np.full(size, BLANK) for size in run.shape(ref)] for ref in refs(op.result)]
    (ref,) = refs(op.result)
    made: Dims = [None if size == 1 else run.ids.fresh(size) for size in run.shape(ref)]
    for labels in made:
        run.keep(labels, op, WRITTEN)
    return [made]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNTAGGED, pointwise),
    **dict.fromkeys(MADE_BY_CODE, made_by_code),
    **{"bucketize": of_first, "isin": of_first, "view_as_real": complex_parts, "view_as_complex": complex_parts},
}
