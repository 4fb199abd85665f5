"""Follow channel identities through a traced network: one rule per kind of operation."""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from daar.models.shortcut import PaddedShortcut
from daar.modes import evaluating
from daar.pruning.trace import ACTIVATIONS, ADDITIONS, BATCH_NORMS, is_one_of, operation, place, trace

Layout = NDArray[np.int64]

_POOLS = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.max_pool2d),
)
_PASSES: tuple[Any, ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous", "clone", *ACTIVATIONS, *_POOLS),
    *("float", "detach"),
)
_JOINS = (*ADDITIONS, operator.sub, torch.sub)
_SCALINGS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_FLATTENS = (nn.Flatten, torch.flatten, "flatten", "view", "reshape")
_CONCATENATIONS = (torch.cat, torch.concat)
_MEANS = (torch.mean, "mean")
# what reads a tensor's shape and not its values
_SHAPES = ("size", "dim", getattr)


@dataclass
class Call:
    """A layer with parameters or an index map as it is met in the graph: layouts before unification."""

    name: str
    module: nn.Module
    inputs: Layout
    outputs: Layout
    area: int


class Layouts(fx.Interpreter):
    """Runs a network once on one image and records which channel lies where.

    Attributes:
        calls: by path, every layer to be cut.
        producers: paths of the convs that make new channels, in order.
        joined: channels that reach an addition or a concatenation.
        frozen: channel → why it must stay.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        graph = trace(model)
        super().__init__(graph)
        self.modules_by_name = dict(graph.named_modules())
        self.calls: dict[str, Call] = {}
        self.producers: list[str] = []
        self.joined: set[int] = set()
        self.frozen: dict[int, str] = {}
        self._parent: list[int] = []
        self._layouts: dict[fx.Node, Layout | None] = {}
        with evaluating(model):
            self.run(image)

    def roots(self) -> Layout:
        """(count,) for each identity the one that stands for all that were unified with it."""
        return np.array([self._find(channel) for channel in range(len(self._parent))], dtype=np.int64)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and find the layout of what it returns."""
        result = super().run_node(n)
        self._layouts[n] = self._layout(n, result)
        return result

    # identities

    def _fresh(self, count: int) -> Layout:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _find(self, channel: int) -> int:
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return channel

    def _unify(self, one: Layout, other: Layout) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            low, high = sorted((self._find(a), self._find(b)))
            self._parent[high] = low

    def _freeze(self, layout: Layout, reason: str) -> None:
        for channel in layout.tolist():
            self.frozen.setdefault(channel, reason)

    # one rule per kind of operation

    def _layout(self, node: fx.Node, result: Any) -> Layout | None:
        """The layout of a node's output; None for what is no tensor with channels."""
        inputs = [layout for argument in node.all_input_nodes if (layout := self._layouts[argument]) is not None]
        if node.op == "output":
            for layout in inputs:
                self._freeze(layout, "network output")
            return None
        if node.op == "placeholder":
            layout = self._fresh(result.shape[1])
            self._freeze(layout, "network input")
            return layout
        if isinstance(result, Tensor) and inputs:
            return self._known(node, result, inputs)
        reads_shape = is_one_of(operation(node, self.modules_by_name), _SHAPES) and not isinstance(result, Tensor)
        return None if reads_shape else self._unknown(node, result, inputs)

    def _known(self, node: fx.Node, result: Tensor, inputs: list[Layout]) -> Layout | None:  # noqa: PLR0911  # a table
        what = operation(node, self.modules_by_name)
        if isinstance(what, nn.Conv2d) and what.padding_mode == "zeros":
            return self._conv(str(node.target), what, inputs[0], result)
        if isinstance(what, BATCH_NORMS):
            return self._remember(str(node.target), what, inputs[0], inputs[0], result).outputs
        if isinstance(what, nn.Linear) and result.dim() == 2:
            return self._linear(str(node.target), what, inputs[0], result)
        if isinstance(what, PaddedShortcut):
            made = self.calls[str(node.target)].outputs if node.target in self.calls else self._fresh(result.shape[1])
            return self._remember(str(node.target), what, inputs[0], made, result).outputs
        if is_one_of(what, _PASSES) or self._is_spatial_mean(node, what):
            return inputs[0]
        if is_one_of(what, (*_JOINS, *_SCALINGS)):
            if is_one_of(what, _JOINS) and len(inputs) > 1:
                self.joined.update(channel for layout in inputs for channel in layout.tolist())
            return self._elementwise(node, result, inputs)
        if is_one_of(what, _CONCATENATIONS) and node.kwargs.get("dim", (*node.args, 0)[1]) == 1:
            self.joined.update(channel for layout in inputs for channel in layout.tolist())
            return (
                np.concatenate(inputs)
                if sum(map(len, inputs)) == result.shape[1]
                else self._unknown(node, result, inputs)
            )
        if is_one_of(what, _FLATTENS) and self._is_flatten(node, result, len(inputs[0])):
            return np.repeat(inputs[0], result.shape[1] // len(inputs[0]))
        return self._unknown(node, result, inputs)

    def _conv(self, name: str, conv: nn.Conv2d, read: Layout, result: Tensor) -> Layout:
        if conv.groups == conv.in_channels and conv.groups > 1:  # depthwise: filters belong to their input channel
            return self._remember(name, conv, read, np.repeat(read, conv.out_channels // conv.groups), result).outputs
        if name in self.calls:
            return self._remember(name, conv, read, self.calls[name].outputs, result).outputs
        made = self._fresh(conv.out_channels)
        self.producers.append(name)
        # every group of a grouped conv must keep the same width: tie the i-th channels of all of them
        for layout in (read, made):
            for part in np.split(layout, conv.groups)[1:]:
                self._unify(layout[: len(part)], part)
        return self._remember(name, conv, read, made, result).outputs

    def _linear(self, name: str, linear: nn.Linear, read: Layout, result: Tensor) -> Layout:
        # the units of a linear layer are no filters: nothing scores them, so they stay
        made = self.calls[name].outputs if name in self.calls else self._fresh(linear.out_features)
        return self._remember(name, linear, read, made, result).outputs

    def _remember(self, name: str, module: nn.Module, read: Layout, made: Layout, result: Tensor) -> Call:
        """Record a layer; where it is called again, both calls read and make the same channels."""
        area = int(np.prod(result.shape[2:], dtype=np.int64))
        if name not in self.calls:
            self.calls[name] = Call(name, module, read, made, area)
            return self.calls[name]
        call = self.calls[name]
        self._unify(call.inputs, read)
        self._unify(call.outputs, made)
        call.area += area
        return call

    def _elementwise(self, node: fx.Node, result: Tensor, inputs: list[Layout]) -> Layout | None:
        operands = [self.env[argument] for argument in node.all_input_nodes]
        if any(isinstance(x, Tensor) and x.dim() != result.dim() and x.numel() > 1 for x in operands):
            # aligned from the last dimension, so its channels lie where no layout says
            return self._unknown(node, result, inputs)
        full = [layout for layout in inputs if len(layout) == result.shape[1]]
        for layout in inputs:
            # an operand of one channel is broadcast over all: it must stay as it is
            if len(layout) == result.shape[1]:
                self._unify(full[0], layout)
            else:
                self._freeze(layout, "broadcast over channels")
        return full[0]

    def _is_spatial_mean(self, node: fx.Node, what: Any) -> bool:
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return (
            is_one_of(what, _MEANS)
            and isinstance(dims, (list, tuple))
            and set(dims) <= {2, 3, -1, -2}
            and self.env[node.all_input_nodes[0]].dim() == 4
        )

    def _is_flatten(self, node: fx.Node, result: Tensor, channels: int) -> bool:
        """Whether (N, C, H, W) becomes (N, C·H·W), by a size that is not written as a number."""
        read = self.env[node.all_input_nodes[0]]
        if result.shape != (len(read), read[0].numel()) or read.shape[1] != channels:
            return False
        written = [size for size in node.args[1:] if isinstance(size, int)]
        return node.op != "call_method" or node.target == "flatten" or written in ([-1], [1, -1])

    def _unknown(self, node: fx.Node, result: Any, inputs: list[Layout]) -> Layout | None:
        reason = f"{'read by' if inputs else 'tied to'} an unknown operation: {place(node)}"
        for layout in inputs:
            self._freeze(layout, reason)
        if not isinstance(result, Tensor) or result.dim() < 2:
            return None
        made = self._fresh(result.shape[1])
        self._freeze(made, reason)
        return made
