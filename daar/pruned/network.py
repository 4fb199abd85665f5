"""The network that was given: taken out of its wrappers, looked at, copied."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError, first_line, is_out_of_memory
from daar.models.copying import copied
from daar.models.weights import require_sound_module
from daar.program.dispatch import DispatchMode
from daar.program.outputs import tensors

# what holds a network for training or compilation, and the name that it has there
_WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
)


def unwrapped(model: Any) -> tuple[nn.Module, tuple[str, ...]]:
    """The network inside `DataParallel`, DDP and `torch.compile`, and a sentence for each that it was taken out of.

    Raises:
        InputError: it is no network, or a scripted one, whose layers torch does not let go.
    """
    notes = []
    while isinstance(model, nn.Module):
        name = next((name for kind, name in _WRAPPERS if isinstance(model, kind)), None)
        name = "_orig_mod" if name is None and isinstance(getattr(model, "_orig_mod", None), nn.Module) else name
        if name is None:
            break
        notes.append(f"taken out of {type(model).__name__}: the slim network is that of its .{name}, not wrapped.")
        model = getattr(model, name)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"model is a {type(model).__name__}, whose layers cannot be replaced. Prune the network that it was made "
            "of, then script or trace what comes out."
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    return model, tuple(notes)


def prepared(model: nn.Module) -> nn.Module:
    """A copy to work on; what is computed from weights, as torch.nn.utils.prune keeps it, is held as it is now.

    Raises:
        InputError: the network has no parameters, they are not sound, or it cannot be copied.
    """
    require_materialised(model)
    require_sound_module(model)
    try:
        return copied(model)
    except (RuntimeError, TypeError, AttributeError) as error:  # a lock, an open file
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"the model cannot be copied: {first_line(error)[:200]}. Take out of it what is no weight, such as locks "
            "and open files."
        ) from error


@contextmanager
def apart_from(model: nn.Module) -> Iterator[None]:
    """Refuse a copy that reads tensors of the model as it runs within, as code does that holds a layer past its parent.

    Raises:
        InputError: it does; names the layer. Statistics of the model stay as they are.
    """
    watch = _Reads({_memory(value): name for name, value in (*model.named_buffers(), *model.named_parameters())})
    with evaluating(model), watch:
        yield
    if watch.found:
        layer = watch.found.rpartition(".")[0] or watch.found
        raise InputError(
            f"{layer!r} is reached past the model, as by a closure, a patched forward, functools.partial or a weak "
            "reference, so a copy of the model would still run it. Reach it by self."
        )


class _Reads(DispatchMode):
    """Notes the first tensor of some memory that an operation reads."""

    def __init__(self, own: dict[tuple[int, torch.device], str]) -> None:
        super().__init__()
        self._own, self.found = own, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tensors([list(args), kwargs or {}]):
            if value.numel():
                self.found = self.found or self._own.get(_memory(value), "")
        return func(*args, **(kwargs or {}))


def _memory(value: Tensor) -> tuple[int, torch.device]:
    return value.data_ptr() if value.layout is torch.strided else id(value), value.device


def require_materialised(model: nn.Module) -> None:
    """InputError for a network without parameters, or one whose parameters have no values yet."""
    parameters = list(model.named_parameters())
    if not parameters:
        raise InputError("the model has no parameters, so there is nothing to prune.")
    for name, value in parameters:
        if nn.parameter.is_lazy(value):
            raise InputError(f"{name} has no shape yet, as of a lazy layer. Run the network once on an image first.")
        if value.is_meta:
            raise InputError(f"{name} is on the meta device and has no values. Load its weights first.")


def in_modes_of(slimmed: nn.Module, model: nn.Module) -> nn.Module:
    """The slim network, every part in the mode in which the model's is."""
    original = dict(model.named_modules())
    for path, part in slimmed.named_modules():
        if hasattr(original.get(path), "training"):  # a folded layer has other parts, a frozen one no mode
            part.training = original[path].training
    return slimmed
