"""Operations that compute nothing of channels but move them: pass on, flatten, split, shuffle, pad.

Each rule says where a channel comes to lie, and under what condition the very same code does the right thing once
channels are gone: parts of equal number must stay equally wide, and what is written as a number must stay that many.
"""

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from daar.pruning.trace import ADDITIONS, POOLS, is_one_of, place

if TYPE_CHECKING:
    from daar.pruning.layouts import Layout, Layouts

JOINS: tuple[Any, ...] = (*ADDITIONS, operator.sub, operator.isub, torch.sub, "sub", torch.maximum, torch.minimum)
# of two tensors, channel by channel
ELEMENTWISE_PAIRS: tuple[Any, ...] = (
    *JOINS,
    *(operator.mul, operator.imul, torch.mul, "mul", "mul_", operator.truediv, operator.itruediv, torch.div, "div"),
)
_PASSES: tuple[Any, ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d, *POOLS),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, F.interpolate),
    *(nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d),
    *(operator.neg, operator.pow, torch.abs, torch.exp, torch.sqrt, torch.clamp, torch.pow, torch.square),
    *("contiguous", "clone", "float", "double", "half", "detach", "abs", "exp", "sqrt", "clamp", "pow", "neg"),
)
_FLATTENS = (nn.Flatten, torch.flatten, torch.reshape, "flatten", "view", "reshape")
_MEANS = (torch.mean, torch.sum, torch.amax, "mean", "sum", "amax")
_CHUNKS = (torch.chunk, "chunk")
_SPLITS = (torch.split, "split", torch.tensor_split, "tensor_split")
_SHUFFLES = (nn.ChannelShuffle, F.channel_shuffle)
_SQUEEZES = (torch.squeeze, torch.unsqueeze, "squeeze", "unsqueeze")
_SWAPS = (torch.transpose, "transpose", torch.swapaxes, "swapaxes")
# what reads a tensor's shape and not its values
_SHAPES = ("size", "dim", "ndimension", "numel", "nelement", getattr)


def follow(into: "Layouts", node: fx.Node, what: Any, result: Any, inputs: "list[Layout]") -> Any:  # noqa: PLR0911  # a table
    """The layout of what an operation returns, a tuple of them where it returns several; None where it is not known."""
    layout = inputs[0]
    read = into.env[node.all_input_nodes[0]]
    if layout.ndim == 2:
        return _of_parts(into, node, what, result, layout)
    if not isinstance(result, Tensor):
        return _split(into, node, what, result, layout) if is_one_of(what, (*_CHUNKS, *_SPLITS)) else None
    if is_one_of(what, _PASSES) or _is_stochastic_depth(what):
        return layout if len(inputs) == 1 else None
    if is_one_of(what, ("expand_as",)):
        return layout if len(layout) == result.shape[1] else None
    if is_one_of(what, _MEANS):
        return layout if _is_over_space(node, read) else None
    if is_one_of(what, _SQUEEZES):
        return layout if _keeps_channels(node, read, result) else None
    if is_one_of(what, _SHUFFLES):
        return _shuffle(
            into, layout, what.groups if isinstance(what, nn.ChannelShuffle) else _argument(node, 1, "groups")
        )
    if is_one_of(what, (F.pad,)):
        return _pad(into, node, layout)
    if is_item(node):
        return _item(into, node, layout)
    if is_one_of(what, _FLATTENS):
        return _reshape(into, node, result, read, layout)
    return None


def is_item(node: fx.Node) -> bool:
    """Whether a node takes something out of a tuple, a size or a tensor by index."""
    return node.target is operator.getitem


def reads_shape(what: Any, result: Any) -> bool:
    """Whether an operation asks for a tensor's shape, and not for its values."""
    return is_one_of(what, _SHAPES) and not isinstance(result, Tensor)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _is_stochastic_depth(what: Any) -> bool:
    # torchvision's, which fx takes as one operation: in eval mode it does nothing
    return getattr(what, "__module__", "") == "torchvision.ops.stochastic_depth"


def _is_over_space(node: fx.Node, read: Tensor) -> bool:
    dims = _argument(node, 1, "dim")
    dims = (dims,) if isinstance(dims, int) else dims
    return isinstance(dims, (list, tuple)) and all(isinstance(d, int) and d % read.dim() >= 2 for d in dims)


def _keeps_channels(node: fx.Node, read: Tensor, result: Tensor) -> bool:
    dim = _argument(node, 1, "dim")
    return isinstance(dim, int) and dim % max(read.dim(), result.dim()) >= 2


def _split(into: "Layouts", node: fx.Node, what: Any, result: Any, layout: "Layout") -> "tuple[Layout, ...] | None":
    """Parts along the channels: equal ones stay equally wide, those of written sizes stay as they are."""
    if _argument(node, 2, "dim") != 1 or sum(part.shape[1] for part in result) != len(layout):
        return None
    widths = [part.shape[1] for part in result]
    by_number = is_one_of(what, _CHUNKS) or (is_one_of(what, ("tensor_split", torch.tensor_split)))
    if by_number and len(set(widths)) == 1:
        into.tie(layout, len(widths))
    else:
        into.freeze(layout, f"split at written places: {place(node)}")
    return tuple(np.split(layout, np.cumsum(widths)[:-1]))


def _shuffle(into: "Layouts", layout: "Layout", groups: Any) -> "Layout | None":
    if not isinstance(groups, int):
        return None
    into.tie(layout, groups)
    return layout.reshape(groups, -1).T.ravel()


def _pad(into: "Layouts", node: fx.Node, layout: "Layout") -> "Layout | None":
    """Padding in space passes channels on; along them it adds so many, as written, that stay."""
    amounts = _argument(node, 1, "pad")
    if not isinstance(amounts, (list, tuple)) or into.env[node.all_input_nodes[0]].dim() != 4:
        return None
    if len(amounts) <= 4:
        return layout
    front, back = amounts[4:6]
    if len(amounts) != 6 or not all(isinstance(n, int) and n >= 0 for n in (front, back)):
        return None
    added = into.fresh(front + back)
    into.freeze(added, f"padded by a written number of channels: {place(node)}")
    return np.concatenate([added[:front], layout, added[front:]])


def _item(into: "Layouts", node: fx.Node, layout: "Layout") -> "Layout | None":
    """x[:, :, ::2, ::2] leaves channels alone; where x[:, :16] takes so many as written, all stay."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if Ellipsis in index and index.index(Ellipsis) == 0 and all(isinstance(i, slice) for i in index[1:]):
        return layout if len(index) <= 3 else None
    if index[0] != slice(None) or not all(isinstance(i, slice) or (i is None and k > 1) for k, i in enumerate(index)):
        return None
    chosen = index[1] if len(index) > 1 else slice(None)
    assert isinstance(chosen, slice)
    if chosen == slice(None):
        return layout
    if not all(isinstance(bound, (int, type(None))) for bound in (chosen.start, chosen.stop, chosen.step)):
        return None
    into.freeze(layout, f"taken by written places: {place(node)}")
    return layout[chosen]


def _reshape(into: "Layouts", node: fx.Node, result: Tensor, read: Tensor, layout: "Layout") -> "Layout | None":
    """Flatten (N, C, H, W) to (N, C·H·W), add dimensions of 1, or split the channels into parts (N, g, C/g, H, W)."""
    shape, before = tuple(result.shape), tuple(read.shape)
    if len(layout) != before[1] or shape[:1] != before[:1]:
        return None
    sizes = _written(node, result)
    if shape == (before[0], read[0].numel()):  # also of a (N, C) that stays as it is
        _require_unwritten(into, node, layout, sizes, 1)
        return np.repeat(layout, shape[1] // len(layout))
    if shape[:2] == before[:2]:  # only positions in space are arranged anew
        _require_unwritten(into, node, layout, sizes, 1)
        return layout
    if len(shape) == len(before) + 1 and shape[3:] == before[2:] and shape[1] * shape[2] == before[1]:
        _require_unwritten(into, node, layout, sizes, 2)
        into.tie(layout, shape[1])
        return layout.reshape(shape[1], shape[2])
    return None


def _written(node: fx.Node, result: Tensor) -> tuple[Any, ...] | None:
    """The sizes as written in a view or reshape, numbers or nodes; None for a flatten, which has none."""
    if node.op == "call_module" or node.target in (torch.flatten, "flatten"):
        return None
    sizes = node.args[1:] or (node.kwargs.get("shape", ()),)
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else tuple(sizes)
    return sizes if len(sizes) == result.dim() else (result.shape[0], *([0] * (result.dim() - 1)))


def _require_unwritten(into: "Layouts", node: fx.Node, layout: "Layout", sizes: Any, position: int) -> None:
    """Freeze channels whose number stands in the code, or is that of other channels."""
    size = -1 if sizes is None else sizes[position]
    if isinstance(size, fx.Node):
        into.assume_same(layout, size, f"their number is taken from other channels: {place(node)}")
    elif size != -1:
        into.freeze(layout, f"their number is written in the code, say -1 instead: {place(node)}")


def _of_parts(into: "Layouts", node: fx.Node, what: Any, result: Any, layout: "Layout") -> "Layout | None":
    """Of channels split into (parts, channels of a part): swap the two, and put them together again."""
    if not isinstance(result, Tensor):
        return None
    if is_one_of(what, ("contiguous",)):
        return layout
    if is_one_of(what, _SWAPS) and node.args[1:] in ((1, 2), (2, 1)):
        return layout.T
    if is_one_of(what, (torch.permute, "permute")) and result.dim() == 5:
        order = node.args[1] if isinstance(node.args[1], (list, tuple)) else node.args[1:]
        return layout.T if tuple(order) == (0, 2, 1, 3, 4) else None
    if not is_one_of(what, _FLATTENS) or result.dim() != 4 or result.shape[1] != layout.size:
        return None
    _require_unwritten(into, node, layout.ravel(), _written(node, result), 1)
    return layout.ravel()
