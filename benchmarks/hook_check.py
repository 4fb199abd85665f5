"""Whether a slim network computes what pruning means, by an account that knows nothing of daar's labels.

The weights themselves say what went: a slim weight is the dense one without some rows and columns. The dense network
runs untraced, with the inputs of each conv and linear module zeroed in the columns that went, by hooks. Any tool's slim
network can be judged so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.models.copying import doubled
from daar.program.inputs import Images, call, moved
from daar.program.outputs import tensors

_CONVS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
# the largest error that rounding in float64 explains
EXACT = 1e-10
_DOUBLE = torch.empty(0, dtype=torch.float64)


@dataclass(frozen=True)
class Verdict:
    """What the check found.

    Attributes:
        error: max |slim − masked dense| / max |masked dense| over the outputs, float64.
        skipped: weights whose inputs no hook can zero: read by functions, or no part of the dense weight.
    """

    error: float
    skipped: list[str] = field(default_factory=list)


def checked(model: nn.Module, slimmed: nn.Module, images: Images) -> Verdict:
    """Compare a slim network with the masked dense one.

    Args:
        model: the dense network; left as it is. Its weights are random, so that values tell rows and columns apart.
        slimmed: with the same modules by name.
        images: of the run.
    """
    dense, thin = doubled(model), doubled(slimmed)
    images = moved(images, _DOUBLE)
    skipped, zeroed = [], []
    for path, module in dense.named_modules():
        if not isinstance(module, (_CONVS, nn.Linear)):
            continue
        try:
            gone = _gone(module, thin.get_submodule(path))
        except _NoPartError:
            skipped.append(path)
            continue
        if gone.any():
            zeroed.append(path)
            zero = _zero(1 if isinstance(module, _CONVS) else -1, torch.from_numpy(gone))
            module.register_forward_pre_hook(zero, with_kwargs=True)
    seen: set[str] = set()
    for path in zeroed:
        dense.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.add(path))
    with evaluating(dense), evaluating(thin):
        masked = list(tensors(call(dense, images)))
        pairs = list(zip(tensors(call(thin, images)), masked, strict=True))
    error = max(_relative(one, other) for one, other in pairs)
    if not error <= EXACT:  # a module that is not called only trains, or functions read its weight
        skipped += [path for path in zeroed if path not in seen]
    return Verdict(error, [*skipped, *_functional(dense, thin)])


class _NoPartError(Exception):
    pass


def _zero(dim: int, gone: Tensor) -> Any:
    def hook(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Tensor]) -> Any:
        source = args[0] if args else options["input"]
        shape = [1] * source.dim()
        shape[dim] = len(gone)
        masked = source * (~gone).to(source).view(shape)
        return ((masked, *args[1:]), options) if args else (args, {**options, "input": masked})

    return hook


def _gone(module: nn.Module, thin: nn.Module) -> NDArray[np.bool_]:
    """Which input channels of a layer went, (c_in,)."""
    big, small = _matrix(module), _matrix(thin)
    rows, columns = _parts(big, small)
    if not np.array_equal(big[rows][:, columns], small):
        raise _NoPartError
    groups = getattr(module, "groups", 1)
    if groups == 1:
        gone = np.ones(big.shape[1], dtype=bool)
        gone[columns] = False
        return gone
    if big.shape[1] == 1:  # depthwise: its channels are zeroed in front of what reads them next
        return np.zeros(groups, dtype=bool)
    within = np.ones(big.shape[1], dtype=bool)
    within[columns] = False
    left = np.zeros(groups, dtype=bool)
    left[rows // (len(big) // groups)] = True
    return (~left[:, None] | within[None]).ravel()


def _matrix(module: Any) -> NDArray[np.float32]:
    """(c_out, c_in / groups, kernel) of a layer."""
    weight: Tensor = module.weight.detach()
    if isinstance(module, _TRANSPOSED):
        weight = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    # float32, as computed weights differ by rounding
    return weight.reshape(*weight.shape[:2], -1).float().numpy()


def _parts(big: NDArray[np.float32], small: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the dense weight that the slim one holds, found by their values."""
    if big.shape == small.shape:
        return np.arange(big.shape[0]), np.arange(big.shape[1])
    for row in np.flatnonzero((big == small[0, 0]).all(2).any(1)):
        columns = _subsequence(big[row], small[0])
        if columns is not None:
            rows = _subsequence(big[:, columns].reshape(len(big), -1), small.reshape(len(small), -1))
            if rows is not None:
                return rows, columns
    raise _NoPartError


def _subsequence(long: NDArray[np.float32], short: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """Where the vectors of `short` lie in `long`, in their order."""
    places: list[int] = []
    for vector in short:
        start = places[-1] + 1 if places else 0
        found = np.flatnonzero((long[start:] == vector).all(1))
        if not len(found):
            return None
        places.append(start + int(found[0]))
    return np.array(places, dtype=np.int64)


def _functional(dense: nn.Module, thin: nn.Module) -> Iterator[str]:
    """Parameters of other modules that sum over what was cut: cut ones with two dimensions or more."""
    small = dict(thin.named_parameters())
    for path, module in dense.named_modules():
        if isinstance(module, (_CONVS, nn.Linear)):
            continue
        for name, parameter in module.named_parameters(path, recurse=False):
            if sum(size > 1 for size in parameter.shape) > 1 and parameter.shape != small[name].shape:
                yield name


def _relative(one: Tensor, other: Tensor) -> float:
    if not one.is_floating_point() or not one.numel():
        return 0.0 if torch.equal(one, other) else float("inf")
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
