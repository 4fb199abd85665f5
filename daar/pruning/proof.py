"""Prove that a slim network computes what the masked one computes, and find where they first differ."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError, said
from daar.models.copying import copied, doubled, lent
from daar.program.draws import seeded
from daar.program.inputs import Images, call, moved
from daar.program.outputs import tensors
from daar.program.program import Program
from daar.program.recording import decomposed, recorded
from daar.pruning.groups import ChannelGraph
from daar.pruning.lockstep import Comparison, compared, drawn_by, is_measured
from daar.pruning.masked import Masked
from daar.pruning.slim import Removed

# images on which slim and masked network are compared
CHECKED_IMAGES = 16


@dataclass(frozen=True)
class Precision:
    """What networks are compared in.

    Attributes:
        dtype: of weights and images.
        tolerance: the largest |slim − masked| / largest |output| that rounding explains.
    """

    dtype: torch.dtype
    tolerance: float

    def __str__(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def of(self, model: nn.Module) -> nn.Module:
        """A copy of a network on the CPU in this type."""
        return doubled(model) if self.dtype is torch.float64 else copied(model).cpu().float()

    def lent(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """The same without room for both, for as long as the network itself is not used."""
        return lent(model) if self.dtype is torch.float64 else nullcontext(self.of(model))

    def images(self, images: Images) -> Images:
        """Images on the CPU in this type."""
        return moved(images, torch.empty(0, dtype=self.dtype))


DOUBLE = Precision(torch.float64, 1e-10)
# for a network whose code fixes float32 inside
SINGLE = Precision(torch.float32, 1e-4)


def precision_of(model: nn.Module, images: Images) -> Precision:
    """Float64, unless the network's code fixes another type inside.

    Raises:
        InputError: the network fails on the images in both.
    """
    try:
        with DOUBLE.lent(model) as dense:
            program = recorded(dense, DOUBLE.images(images))
    except InputError:
        recorded(SINGLE.of(model), SINGLE.images(images))
        return SINGLE
    return DOUBLE if _is_double(program) else SINGLE


def _is_double(program: Program) -> bool:
    made = [number for operation in program.operations for number in operation.makes()]
    return not any(_is_single(program.dtypes[number]) for number in made)


def _is_single(dtype: torch.dtype) -> bool:
    """Whether numbers of a type, real or complex, have fewer digits than those of float64."""
    return (dtype.is_floating_point and dtype is not torch.float64) or (
        dtype.is_complex and dtype is not torch.complex128
    )


@dataclass(frozen=True)
class Proof:
    """That a slim network computes what the masked one computes.

    Attributes:
        error: max |slim − masked| / max |masked| over all outputs; of several, the worst. 0 where every operation was
            compared instead, and each returned the same but for rounding.
        precision: what they were compared in.
    """

    error: float
    precision: Precision


# of a proof that fails
REMEDY = "Exclude the modules there, and report this network: its channels are coupled in a way that the groups miss."


class InexactError(InputError):
    """The slim network does not compute what the masked one does."""


def prove(
    model: nn.Module,
    slimmed: nn.Module | Callable[[], nn.Module],
    graph: ChannelGraph,
    removed: Removed,
    images: Images,
) -> Proof:
    """Compare the slim network with the masked one on images.

    In float64 on the CPU; in float32 where the network's code fixes that inside. Where all outputs are zero, of which a
    wrong network's would be equal too, or rounding turns what is decided by values, what every operation returns is
    compared instead.

    Args:
        model: the dense network; left as it is.
        slimmed: the slim one, or what makes it once there is room for it: when the masked network has run.
        graph: the dense network's channel graph.
        removed: group name → indices of the channels that go.
        images: to compare them on.

    Raises:
        InexactError: they differ by more than rounding explains, so the slim network is not the pruned one.
        InputError: the masked network does not run on the images.
    """
    precision, drawn, expected = _masked_output(model, graph, removed, images)
    made = slimmed if isinstance(slimmed, nn.Module) else slimmed()
    batch = precision.images(images)

    def by_operations() -> Comparison:
        return compared(precision.of(model), precision.of(made), graph, removed, batch, precision.tolerance)

    if not any(bool(output.any()) for output in tensors(expected)):
        found = by_operations()
        if found.difference is None:
            return Proof(0.0, precision)
        raise _inexact("should compute what the masked one does, but does not", found)
    try:
        with precision.lent(made) as thin, seeded(), evaluating(thin), drawn:
            worst = _worst(call(thin, batch), expected)
    except Exception as error:  # whatever the network's own code raises
        raise _inexact(f"does not run: {said(error)}", by_operations()) from error
    if worst <= precision.tolerance:
        return Proof(worst, precision)
    found = by_operations()
    if found.is_decided and found.difference is None:
        return Proof(0.0, precision)
    raise _inexact(
        f"differs from the masked one by {worst:.1e} of the largest output; rounding explains "
        f"{precision.tolerance:.0e}",
        found,
    )


def same_outputs(
    model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images, tolerance: float
) -> bool:
    """Whether a slim network returns what the masked one does, as they are, and not zeros alone."""
    masked = Masked(model, graph, removed)
    with seeded():
        expected = masked(images)
    if not any(bool(output.any()) for output in tensors(expected)):
        return False
    try:
        with seeded(), evaluating(slimmed), decomposed(), drawn_by(masked):
            return _worst(call(slimmed, images), expected) <= tolerance
    except Exception:  # whatever the network's own code raises
        return False


def _inexact(fault: str, found: Comparison) -> InexactError:
    place = "" if found.difference is None else f" From {found.difference.place} on {found.difference.what}."
    return InexactError(f"the slim network {fault}.{place} {REMEDY}")


def _masked_output(
    model: nn.Module, graph: ChannelGraph, removed: Removed, images: Images
) -> tuple[Precision, AbstractContextManager[None], Any]:
    """The precision to compare in, the masked network's random numbers and its output; nothing of the network."""
    types = set[torch.dtype]()
    with contextlib.suppress(Exception):  # float64 met what its code makes, or asks to be, float32
        drawn, expected = _run(DOUBLE, model, graph, removed, images, types)
        if not any(map(_is_single, types)):
            return DOUBLE, drawn, expected
    try:
        return SINGLE, *_run(SINGLE, model, graph, removed, images, types)
    except InputError:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise InputError(
            "the model should run on the CPU in float64 or in float32, where a slim one is compared with it, but "
            f"fails: {said(error)}. Give it in float32, with no part in another type."
        ) from error


def _run(
    precision: Precision,
    model: nn.Module,
    graph: ChannelGraph,
    removed: Removed,
    images: Images,
    types: set[torch.dtype],
) -> tuple[AbstractContextManager[None], Any]:
    """Random numbers and output of the masked network; `types` gets those of all that it computes."""
    with precision.lent(model) as dense, seeded():
        masked = Masked(dense, graph, removed)
        made = masked(precision.images(images), see=lambda _, made: types.update(v.dtype for v in tensors(made)))
        return drawn_by(masked), made


def slim_error(
    model: nn.Module,
    slimmed: nn.Module | Callable[[], nn.Module],
    graph: ChannelGraph,
    removed: Removed,
    images: Images,
) -> float:
    """The error of `prove`."""
    return prove(model, slimmed, graph, removed, images).error


def _worst(got: Any, expected: Any) -> float:
    """The largest error of all outputs; infinite where they are others, as where other boxes were chosen."""
    ones, others = list(tensors(got)), list(tensors(expected))
    if [one.shape for one in ones] != [other.shape for other in others]:
        return float("inf")
    # of numpy's maximum, unlike Python's, NaN is the result wherever there is one
    return float(np.max([_relative(one, other) for one, other in zip(ones, others, strict=True)]))


def _relative(one: Tensor, other: Tensor) -> float:
    """Max |difference| / max |other|; 0 where they are equal, infinite where counts or classes differ."""
    one, other = (value.resolve_conj().resolve_neg() for value in (one, other))
    if not is_measured(one) or not one.numel():
        return 0.0 if torch.equal(one, other) else float("inf")
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
