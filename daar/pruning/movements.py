"""Operations that compute nothing of channels but move them: pass on, flatten, split, shuffle, pad.

Each rule says where a channel comes to lie, and under what condition the very same code does the right thing once
channels are gone: parts of equal number must stay equally wide, and what is written as a number must stay that many.
"""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from daar.pruning.identities import Identities, Layout
from daar.pruning.trace import ADDITIONS, POOLS, is_one_of, place

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


@dataclass(frozen=True)
class Move:
    """One operation as it ran.

    Attributes:
        node: in the graph.
        what: the layer, the function, or the name of the method.
        read: its first input.
        result: what it returned.
        layouts: of the nodes before it.
    """

    node: fx.Node
    what: Any
    read: Any
    result: Any
    layouts: dict[fx.Node, Any]

    def argument(self, position: int, name: str) -> Any:
        """An argument as written, by position or by name; None where it is not given."""
        return self.node.args[position] if len(self.node.args) > position else self.node.kwargs.get(name)

    def is_one_of(self, kinds: tuple[Any, ...]) -> bool:
        """Whether it is of one of the given layer types, or is one of the given functions or names."""
        return is_one_of(self.what, kinds)


def follow(ids: Identities, move: Move, inputs: list[Layout]) -> Any:  # noqa: PLR0911  # a table
    """The layout of what an operation returns, a tuple of them where it returns several; None where it is not known."""
    layout = inputs[0]
    if layout.ndim == 2:
        return _of_parts(ids, move, layout)
    if not isinstance(move.result, Tensor):
        return _split(ids, move, layout) if move.is_one_of((*_CHUNKS, *_SPLITS)) else None
    if move.is_one_of(_PASSES) or _is_stochastic_depth(move.what):
        return layout if len(inputs) == 1 else None
    if move.is_one_of(("expand_as",)):
        return layout if len(layout) == move.result.shape[1] else None
    if move.is_one_of(_MEANS):
        return layout if _is_over_space(move) else None
    if move.is_one_of(_SQUEEZES):
        return layout if _keeps_channels(move) else None
    if move.is_one_of(_SHUFFLES):
        groups = move.what.groups if isinstance(move.what, nn.ChannelShuffle) else move.argument(1, "groups")
        return _shuffle(ids, layout, groups)
    if move.is_one_of((F.pad,)):
        return _pad(ids, move, layout)
    if is_item(move.node):
        return _item(ids, move, layout)
    if move.is_one_of(_FLATTENS):
        return _reshape(ids, move, layout)
    return None


def is_item(node: fx.Node) -> bool:
    """Whether a node takes something out of a tuple, a size or a tensor by index."""
    return node.target is operator.getitem


def reads_shape(what: Any, result: Any) -> bool:
    """Whether an operation asks for a tensor's shape, and not for its values."""
    return is_one_of(what, _SHAPES) and not isinstance(result, Tensor)


def _is_stochastic_depth(what: Any) -> bool:
    # torchvision's, which fx takes as one operation: in eval mode it does nothing
    return getattr(what, "__module__", "") == "torchvision.ops.stochastic_depth"


def _is_over_space(move: Move) -> bool:
    dims = move.argument(1, "dim")
    dims = (dims,) if isinstance(dims, int) else dims
    return isinstance(dims, (list, tuple)) and all(isinstance(d, int) and d % move.read.dim() >= 2 for d in dims)


def _keeps_channels(move: Move) -> bool:
    dim = move.argument(1, "dim")
    return isinstance(dim, int) and dim % max(move.read.dim(), move.result.dim()) >= 2


def _split(ids: Identities, move: Move, layout: Layout) -> tuple[Layout, ...] | None:
    """Parts along the channels: equal ones stay equally wide, those of written sizes stay as they are."""
    if move.argument(2, "dim") != 1 or sum(part.shape[1] for part in move.result) != len(layout):
        return None
    widths = [part.shape[1] for part in move.result]
    by_number = move.is_one_of((*_CHUNKS, "tensor_split", torch.tensor_split))
    if by_number and len(set(widths)) == 1:
        ids.tie(layout, len(widths))
    else:
        ids.freeze(layout, f"split at written places: {place(move.node)}")
    return tuple(np.split(layout, np.cumsum(widths)[:-1]))


def _shuffle(ids: Identities, layout: Layout, groups: Any) -> Layout | None:
    if not isinstance(groups, int):
        return None
    ids.tie(layout, groups)
    return layout.reshape(groups, -1).T.ravel()


def _pad(ids: Identities, move: Move, layout: Layout) -> Layout | None:
    """Padding in space passes channels on; along the channels it adds a written number of them, which stay."""
    amounts = move.argument(1, "pad")
    if not isinstance(amounts, (list, tuple)) or move.read.dim() != 4:
        return None
    if len(amounts) <= 4:
        return layout
    front, back = amounts[4:6]
    if len(amounts) != 6 or not all(isinstance(n, int) and n >= 0 for n in (front, back)):
        return None
    added = ids.fresh(front + back)
    ids.freeze(added, f"padded by a written number of channels: {place(move.node)}")
    return np.concatenate([added[:front], layout, added[front:]])


def _item(ids: Identities, move: Move, layout: Layout) -> Layout | None:
    """x[:, :, ::2, ::2] leaves channels alone; where x[:, :16] takes a written number of them, all stay."""
    written = move.node.args[1]
    index = written if isinstance(written, tuple) else (written,)
    if Ellipsis in index and index.index(Ellipsis) == 0 and all(isinstance(i, slice) for i in index[1:]):
        # what follows the ellipsis are the last dimensions, none of which may be that of the channels
        return layout if len(index) - 1 <= move.read.dim() - 2 else None
    if index[0] != slice(None) or not all(isinstance(i, slice) or (i is None and k > 1) for k, i in enumerate(index)):
        return None
    chosen = index[1] if len(index) > 1 else slice(None)
    assert isinstance(chosen, slice)
    if chosen == slice(None):
        return layout
    if not all(isinstance(bound, (int, type(None))) for bound in (chosen.start, chosen.stop, chosen.step)):
        return None
    ids.freeze(layout, f"taken by written places: {place(move.node)}")
    return layout[chosen]


def _reshape(ids: Identities, move: Move, layout: Layout) -> Layout | None:
    """Flatten (N, C, H, W) to (N, C·H·W), add dimensions of 1, or split the channels into parts (N, g, C/g, H, W)."""
    shape, before = tuple(move.result.shape), tuple(move.read.shape)
    if len(layout) != before[1] or shape[:1] != before[:1]:
        return None
    if shape == (before[0], move.read[0].numel()):  # also of a (N, C) that stays as it is
        _require_unwritten(ids, move, layout, 1)
        return np.repeat(layout, shape[1] // len(layout))
    if shape[:2] == before[:2]:  # only positions in space are rearranged
        _require_unwritten(ids, move, layout, 1)
        return layout
    if len(shape) == len(before) + 1 and shape[3:] == before[2:] and shape[1] * shape[2] == before[1]:
        _require_unwritten(ids, move, layout, 2)
        ids.tie(layout, shape[1])
        return layout.reshape(shape[1], shape[2])
    return None


def _written(move: Move) -> tuple[Any, ...] | None:
    """The sizes as written in a view or reshape, numbers or nodes; None for a flatten, which has none."""
    node, result = move.node, move.result
    if node.op == "call_module" or node.target in (torch.flatten, "flatten"):
        return None
    sizes = node.args[1:] or (node.kwargs.get("shape", ()),)
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else tuple(sizes)
    return sizes if len(sizes) == result.dim() else (result.shape[0], *([0] * (result.dim() - 1)))


def _require_unwritten(ids: Identities, move: Move, layout: Layout, position: int) -> None:
    """Freeze channels whose number stands in the code, or is that of other channels."""
    sizes = _written(move)
    size = -1 if sizes is None else sizes[position]
    if isinstance(size, fx.Node):
        for source in _sources(move, size):
            ids.assume_same(layout, source, f"their number is taken from other channels: {place(move.node)}")
    elif size != -1:
        ids.freeze(layout, f"their number is written in the code, say -1 instead: {place(move.node)}")


def _sources(move: Move, size: fx.Node) -> list[Layout]:
    """The layouts of the tensors whose shapes a size is computed from."""
    sources: list[Layout] = []
    waiting, seen = [size], set()
    while waiting:
        node = waiting.pop()
        if move.layouts[node] is not None:
            sources.append(move.layouts[node])
            continue
        seen.add(node)
        waiting.extend(argument for argument in node.all_input_nodes if argument not in seen)
    return sources


def _of_parts(ids: Identities, move: Move, layout: Layout) -> Layout | None:
    """Of channels split into (parts, channels of a part): swap the two, and put them together again."""
    if not isinstance(move.result, Tensor):
        return None
    args = move.node.args
    if move.is_one_of(("contiguous",)):
        return layout
    if move.is_one_of(_SWAPS) and args[1:] in ((1, 2), (2, 1)):
        return layout.T
    if move.is_one_of((torch.permute, "permute")) and move.result.dim() == 5:
        order = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
        return layout.T if tuple(order) == (0, 2, 1, 3, 4) else None
    if not move.is_one_of(_FLATTENS) or move.result.dim() != 4 or move.result.shape[1] != layout.size:
        return None
    _require_unwritten(ids, move, layout.ravel(), 1)
    return layout.ravel()
