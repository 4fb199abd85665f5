"""Prove that a slim network computes what the masked one computes, and find where they first differ."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from daar.device.precision import evaluating
from daar.errors import InputError, said
from daar.models.shortcut import PaddedShortcut
from daar.program.draws import seeded
from daar.program.inputs import Images, call, moved
from daar.program.outputs import tensors
from daar.program.program import Program, Span, refs
from daar.program.recording import decomposed, recorded
from daar.pruning.copying import copied, doubled, lent
from daar.pruning.groups import ChannelGraph, Channels
from daar.pruning.masked import Masked, written
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


def _is_measured(values: Tensor) -> bool:
    """Whether a tensor is of numbers that rounding may change; of no view that is only marked as a conjugate."""
    return (values.is_floating_point() or values.is_complex()) and not (values.is_conj() or values.is_neg())


@dataclass(frozen=True)
class Difference:
    """Where the slim network first does something else than the masked one.

    Attributes:
        index: of the operation.
        what: what it does, a phrase.
        place: where the operation stands in the network's code.
        trial: which of the removals that are tried shows it.
    """

    index: int
    what: str
    place: str = ""
    trial: int = 0

    def is_before(self, other: "Difference") -> bool:
        """Whether it shows earlier."""
        return (self.trial, self.index) < (other.trial, other.index)


def first_difference(
    model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images, tolerance: float
) -> Difference | None:
    """Where the slim network first differs from the masked one by more than rounding; None where it does not.

    Operation by operation: another one, another shape, or other values where channels are left.
    """
    seen: dict[int, Any] = {}
    masked = Masked(model, graph, removed)
    with seeded():
        masked(images, see=lambda index, result: seen.__setitem__(index, _copied(result)))
    watch = _Compared(masked.graph, masked.alive, seen, tolerance)
    try:
        with seeded(), evaluating(slimmed), decomposed(), watch.over_shortcuts(slimmed), _drawn_by(masked), watch:
            call(slimmed, images)
    except _DiffersError as found:
        difference = found.difference
    except Exception as error:  # whatever the network's own code raises
        difference = Difference(min(watch.index, len(seen) - 1), said(error))
    else:
        return None
    return replace(difference, place=masked.graph.program.operations[difference.index].place())


def _drawn_by(masked: Masked) -> AbstractContextManager[None]:
    """With the random numbers that the masked network drew on the CPU, those of the channels that are left."""
    draws, graph, alive = masked.draws, masked.graph, masked.alive  # not the network, which may go
    return draws.again(torch.device("cpu"), lambda kept, number: _left(kept, graph.tensors[number], alive))


def _left(whole: Tensor, dims: tuple[Channels | None, ...], alive: NDArray[np.bool_]) -> Tensor:
    """What is left of a tensor of the masked network in the slim one."""
    for dim, labels in enumerate(dims):
        if labels is not None and not (left := alive[labels]).all():
            whole = whole.index_select(dim, torch.from_numpy(np.flatnonzero(left)))
    return whole


class _DiffersError(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.what)
        self.difference = difference


class _Compared(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    def __init__(self, graph: ChannelGraph, alive: NDArray[np.bool_], seen: dict[int, Any], tolerance: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations, self._tensors, self._alive, self._seen = graph.program.operations, graph.tensors, alive, seen
        self.index, self._tolerance = 0, tolerance
        self._spans = sorted(graph.program.spans, key=lambda span: span.first)
        self._within = False

    @contextmanager
    def over_shortcuts(self, slimmed: nn.Module) -> Iterator[None]:
        """Compare only what a padded shortcut returns: which way it takes depends on what is left of its channels."""
        paths = {module: path for path, module in slimmed.named_modules() if isinstance(module, PaddedShortcut)}
        spans = iter([span for span in self._spans if span.module in paths.values()])
        hooks = [module.register_forward_pre_hook(self._enter) for module in paths]
        hooks += [module.register_forward_hook(lambda *call: self._leave(next(spans), call[2])) for module in paths]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, _module: nn.Module, _args: Any) -> None:
        self._within = True

    def _leave(self, span: Span, result: Any) -> None:
        self._compare(span.last - 1, result, 0.0)
        self._within, self.index = False, span.last

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._within:
            return func(*args, **(kwargs or {}))
        index = self.index
        if index >= len(self._operations) or self._operations[index].function is not func:
            raise _DiffersError(Difference(min(index, len(self._operations) - 1), "the code takes another way"))
        # rounding is relative to what an operation reads: the mean of a normalised map is next to nothing
        read = max((_largest(value) for value in tensors(list(args))), default=0.0)
        result = written(func(*args, **(kwargs or {})), func)
        self._compare(index, result, read)
        self.index += 1
        return result

    def _compare(self, index: int, result: Any, read: float) -> None:
        operation = self._operations[index]
        expected = list(tensors(self._seen[index]))
        for ref, one, whole in zip(refs(operation.result), tensors(result), expected, strict=True):
            dims = self._tensors[ref.number]
            other = _left(whole, dims, self._alive)
            if one.shape != other.shape:
                if any(labels is not None and (labels == -1).any() for labels in dims):
                    continue  # constants of the code, whose size follows from something else
                what = f"its shape is {tuple(one.shape)}, where {tuple(other.shape)} is left"
                raise _DiffersError(Difference(index, what))
            if _is_measured(one) and not self._equal(one, other, read):
                raise _DiffersError(Difference(index, "its values differ"))

    def _equal(self, one: Tensor, other: Tensor, read: float) -> bool:
        if torch.equal(one, other):
            return True
        apart = torch.where(one == other, 0, one - other)  # padding with -inf, as masks and pools do, is equal
        return bool(apart.isfinite().all()) and _largest(apart) <= self._tolerance * max(_largest(other), read)


def _largest(values: Tensor) -> float:
    """The largest finite absolute value; 0 where there is none."""
    if not _is_measured(values) or not values.numel():
        return 0.0
    return float(values.abs().nan_to_num(0.0, 0.0).max())


def _copied(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.detach().clone()
    return [_copied(part) for part in result] if isinstance(result, (list, tuple)) else result


@dataclass(frozen=True)
class Proof:
    """That a slim network computes what the masked one computes.

    Attributes:
        error: max |slim − masked| / max |masked| over all outputs; of several, the worst.
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
    wrong network's would be equal too, what every operation returns is compared instead.

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

    def place() -> str:
        found = first_difference(precision.of(model), precision.of(made), graph, removed, batch, precision.tolerance)
        return "" if found is None else f" From {found.place} on {found.what}."

    if not any(bool(output.any()) for output in tensors(expected)):
        if not (differs := place()):
            return Proof(0.0, precision)
        raise InexactError(f"the slim network should compute what the masked one does, but does not.{differs} {REMEDY}")
    try:
        with precision.lent(made) as thin, seeded(), evaluating(thin), drawn:
            got = call(thin, batch)
    except Exception as error:  # whatever the network's own code raises
        raise InexactError(f"the slim network does not run: {said(error)}.{place()} {REMEDY}") from error
    pairs = zip(tensors(got), tensors(expected), strict=True)
    # of numpy's maximum, unlike Python's, NaN is the result wherever there is one
    worst = float(np.max([_relative(one, other) for one, other in pairs]))
    if not worst <= precision.tolerance:
        raise InexactError(
            f"the slim network differs from the masked one by {worst:.1e} of the largest output; rounding explains "
            f"{precision.tolerance:.0e}.{place()} {REMEDY}"
        )
    return Proof(worst, precision)


def _masked_output(
    model: nn.Module, graph: ChannelGraph, removed: Removed, images: Images
) -> tuple[Precision, AbstractContextManager[None], Any]:
    """The precision to compare in, the masked network's random numbers and its output; nothing of the network."""
    types = set[torch.dtype]()
    with contextlib.suppress(
        InputError, RuntimeError, TypeError, ValueError
    ):  # float64 met what its code makes float32
        drawn, expected = _run(DOUBLE, model, graph, removed, images, types)
        if not any(map(_is_single, types)):
            return DOUBLE, drawn, expected
    try:
        return SINGLE, *_run(SINGLE, model, graph, removed, images, types)
    except (RuntimeError, TypeError, ValueError) as error:
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
        return _drawn_by(masked), made


def slim_error(
    model: nn.Module,
    slimmed: nn.Module | Callable[[], nn.Module],
    graph: ChannelGraph,
    removed: Removed,
    images: Images,
) -> float:
    """The error of `prove`."""
    return prove(model, slimmed, graph, removed, images).error


def _relative(one: Tensor, other: Tensor) -> float:
    """Max |difference| / max |other|; 0 where they are equal, infinite where counts or classes differ."""
    one, other = (value.resolve_conj().resolve_neg() for value in (one, other))
    if not _is_measured(one) or not one.numel():
        return 0.0 if torch.equal(one, other) else float("inf")
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
