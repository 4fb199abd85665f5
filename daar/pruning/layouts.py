"""Follow channel identities through a traced network: one rule per kind of layer; operations are in movements.py."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.models.shortcut import PaddedShortcut
from daar.pruning import movements
from daar.pruning.identities import Identities, Layout
from daar.pruning.trace import ACTIVATIONS, ADDITIONS, CONCATENATIONS, PER_CHANNEL, is_one_of, operation, place, trace


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
        ids: what is known of the channels.
        has_unknown: whether there are operations that no rule follows.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        graph = trace(model)
        super().__init__(graph)
        self.modules_by_name = dict(graph.named_modules())
        self.calls: dict[str, Call] = {}
        self.producers: list[str] = []
        self.joined: set[int] = set()
        self.ids = Identities()
        self.has_unknown = False
        self._layouts: dict[fx.Node, Any] = {}
        with evaluating(model):
            self.run(image)
        self.ids.settle()

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and find the layout of what it returns."""
        result = super().run_node(n)
        self._layouts[n] = self._layout(n, result)
        return result

    def exclude(self, name: str) -> None:
        """Have all convs at or below a path keep their filters; InputError where there is no such module."""
        if not any(path == name or path.startswith(f"{name}.") for path in self.modules_by_name):
            top = ", ".join(child for child, _ in self.module.named_children())
            raise InputError(f"exclude names {name!r}, but the network has no such module; at its top are: {top}.")
        for conv in self.producers:
            if conv == name or conv.startswith(f"{name}."):
                self.ids.freeze(self.calls[conv].outputs, f"excluded by {name!r}")

    # one rule per kind of operation

    def _layout(self, node: fx.Node, result: Any) -> Any:
        """The layout of a node's output; a tuple of them for a tuple; None for what is no tensor with channels."""
        read = [self._layouts[argument] for argument in node.all_input_nodes]
        if len(read) == 1 and isinstance(read[0], tuple) and node.op == "call_function":
            return self._of_tuple(node, result, read[0])
        inputs = [layout for entry in read for layout in (entry if isinstance(entry, tuple) else (entry,))]
        inputs = [layout for layout in inputs if layout is not None]
        if node.op == "output":
            for layout in inputs:
                self.ids.freeze(layout, "network output")
            return None
        if node.op == "placeholder":
            return self._input(result)
        what = operation(node, self.modules_by_name)
        if inputs and not self._is_changed(what) and isinstance(result, (Tensor, tuple, list)):
            made = self._layer(node, what, result, inputs) if isinstance(result, Tensor) else None
            if made is None:
                moved = movements.Move(node, what, self.env[node.all_input_nodes[0]], result, self._layouts)
                made = movements.follow(self.ids, moved, inputs)
            if made is not None:
                return made
        if movements.reads_shape(what, result):
            return None
        return self._unknown(node, result, inputs)

    def _input(self, image: Any) -> Layout:
        layout = self.ids.fresh(image.shape[1])
        self.ids.freeze(layout, "network input")
        return layout

    def _of_tuple(self, node: fx.Node, result: Any, parts: tuple[Layout | None, ...]) -> Any:
        if movements.is_item(node) and isinstance(node.args[1], int):
            return parts[node.args[1]]
        known = [part for part in parts if part is not None]
        what = operation(node, self.modules_by_name)
        joined = self._join(node, what, result, known) if isinstance(result, Tensor) else None
        return self._unknown(node, result, known) if joined is None else joined

    @staticmethod
    def _is_changed(what: Any) -> bool:
        """Whether a layer computes its weight from others, so that cutting what is there is not enough."""
        return isinstance(what, nn.Module) and (parametrize.is_parametrized(what) or bool(what._forward_pre_hooks))

    def _layer(self, node: fx.Node, what: Any, result: Tensor, inputs: list[Layout]) -> Layout | None:
        """The rules of layers that are cut, and of joins; None for all else."""
        name, read = str(node.target), inputs[0]
        if read.ndim == 1:
            if isinstance(what, nn.Conv2d):
                return self._conv(name, what, read, result)
            if isinstance(what, PER_CHANNEL):
                return self._remember(name, what, read, read, result).outputs
            if isinstance(what, nn.Linear) and result.dim() == 2:
                return self._linear(name, what, read, result)
            if isinstance(what, PaddedShortcut):
                made = self.calls[name].outputs if name in self.calls else self.ids.fresh(result.shape[1])
                return self._remember(name, what, read, made, result).outputs
        return self._join(node, what, result, inputs)

    def _join(self, node: fx.Node, what: Any, result: Tensor, inputs: list[Layout]) -> Layout | None:
        if any(layout.ndim > 1 for layout in inputs):
            return None
        if is_one_of(what, (*ADDITIONS, *movements.ELEMENTWISE_PAIRS)):
            if is_one_of(what, movements.JOINS) and len(inputs) > 1:
                self.joined.update(channel for layout in inputs for channel in layout.tolist())
            return self._elementwise(node, result, inputs)
        if is_one_of(what, CONCATENATIONS) and node.kwargs.get("dim", (*node.args, 0)[1]) in (1, 1 - result.dim()):
            self.joined.update(channel for layout in inputs for channel in layout.tolist())
            return np.concatenate(inputs) if sum(map(len, inputs)) == result.shape[1] else None
        return inputs[0] if is_one_of(what, ACTIVATIONS) else None

    def _conv(self, name: str, conv: nn.Conv2d, read: Layout, result: Tensor) -> Layout:
        if conv.groups == conv.in_channels and conv.groups > 1:  # depthwise: filters belong to their input channel
            return self._remember(name, conv, read, np.repeat(read, conv.out_channels // conv.groups), result).outputs
        if name in self.calls:
            return self._remember(name, conv, read, self.calls[name].outputs, result).outputs
        made = self.ids.fresh(conv.out_channels)
        self.producers.append(name)
        # every group of a grouped conv must keep the same width: tie the i-th channels of all of them
        for layout in (read, made):
            self.ids.tie(layout, conv.groups)
        return self._remember(name, conv, read, made, result).outputs

    def _linear(self, name: str, linear: nn.Linear, read: Layout, result: Tensor) -> Layout:
        # the units of a linear layer are no filters: nothing scores them, so they stay
        made = self.calls[name].outputs if name in self.calls else self.ids.fresh(linear.out_features)
        return self._remember(name, linear, read, made, result).outputs

    def _remember(self, name: str, module: nn.Module, read: Layout, made: Layout, result: Tensor) -> Call:
        """Record a layer; where it is called again, both calls read and make the same channels."""
        area = int(np.prod(result.shape[2:], dtype=np.int64))
        if name not in self.calls:
            self.calls[name] = Call(name, module, read, made, area)
            return self.calls[name]
        call = self.calls[name]
        self.ids.unify(call.inputs, read)
        self.ids.unify(call.outputs, made)
        call.area += area
        return call

    def _elementwise(self, node: fx.Node, result: Tensor, inputs: list[Layout]) -> Layout | None:
        operands = [self.env[argument] for argument in node.all_input_nodes]
        if any(isinstance(x, Tensor) and x.dim() != result.dim() and x.numel() > 1 for x in operands):
            return None  # aligned from the last dimension, so its channels lie where no layout says
        full = [layout for layout in inputs if len(layout) == result.shape[1]]
        for layout in inputs:
            # an operand of one channel is broadcast over all: it must stay as it is
            if len(layout) == result.shape[1]:
                self.ids.unify(full[0], layout)
            else:
                self.ids.freeze(layout, "broadcast over channels")
        return full[0]

    def _unknown(self, node: fx.Node, result: Any, inputs: list[Layout]) -> Any:
        self.has_unknown = True
        reason = f"{'read by' if inputs else 'tied to'} an unknown operation: {place(node)}"
        for layout in inputs:
            self.ids.freeze(layout, reason)
        if isinstance(result, (tuple, list)):
            return tuple(self._frozen(part, reason) for part in result)
        return self._frozen(result, reason)

    def _frozen(self, result: Any, reason: str) -> Layout | None:
        if not isinstance(result, Tensor) or result.dim() < 2:
            return None
        made = self.ids.fresh(result.shape[1])
        self.ids.freeze(made, reason)
        return made
