"""The network as a graph of operations, and the places in it that the rest of pruning asks for."""

import operator
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from daar.errors import InputError
from daar.models.shortcut import PaddedShortcut
from daar.modes import evaluating, strict_float32

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS: tuple[Any, ...] = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.SiLU,
        nn.GELU,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.Hardtanh,
        nn.Sigmoid,
        nn.Tanh,
    ),
    *(F.relu, F.relu6, F.leaky_relu, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.hardtanh, F.sigmoid, F.tanh),
    *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, "relu", "relu_", "sigmoid", "tanh"),
)
ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


class _Tracer(fx.Tracer):
    """Traces into containers but not into torch's layers nor into our index-mapped shortcut."""

    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, PaddedShortcut) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a network symbolically, as it runs in eval mode; weights are shared with `model`.

    Raises:
        InputError: its forward pass depends on the data (names the error and what to do).
    """
    with evaluating(model):
        tracer = _Tracer()
        try:
            graph = tracer.trace(model)
        except Exception as error:  # fx raises whatever the model's own code raises on a proxy
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"{type(model).__name__} cannot be traced: {reason}. Its forward must not branch on tensors' values."
            ) from error
        return fx.GraphModule(tracer.root, graph)


def operation(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """What a node runs: the layer for a call of a module, else the function, or a method's name."""
    return modules[str(node.target)] if node.op == "call_module" else node.target


def is_one_of(what: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether an operation is of one of the given layer types, or is one of the given functions or names."""
    if isinstance(what, nn.Module):
        return isinstance(what, tuple(kind for kind in kinds if isinstance(kind, type)))
    return any(what is kind or what == kind for kind in kinds)


def place(node: fx.Node) -> str:
    """Where a node stands in the user's code: its name, with file and line where torch.fx knows them."""
    trail = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    # torch's own frames come last: fx's proxies, and layers
    own = [line for line in trail if str(Path(torch.__file__).parent) not in line]
    return f"{node.name} ({own[-1].split(', in ')[0]})" if own else str(node.name)


def map_node(conv: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """The node whose output is a conv's feature map: after BN and activation, and after the addition if there is one.

    That is the ReLU of the stem and of the first conv of a residual block, and for the last conv of a block the
    ReLU behind the addition, as HRank hooks them (docs/protocol.md).
    """
    passed = (*BATCH_NORMS, *ADDITIONS, nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout)
    node = conv
    while len(node.users) == 1:
        user = next(iter(node.users))
        what = operation(user, modules) if user.op.startswith("call") else None
        if is_one_of(what, ACTIVATIONS):
            return user
        if not is_one_of(what, passed):
            break
        node = user
    return node


def norm_node(conv: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The BN that alone reads a conv's output, with at most an Identity or a dropout between; None if none does."""
    node = conv
    while len(node.users) == 1:
        (user,) = node.users
        what = operation(user, modules) if user.op.startswith("call") else None
        if is_one_of(what, (nn.BatchNorm2d,)):
            return user
        if not is_one_of(what, (nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout)):
            break
        node = user
    return None


def stream(
    model: nn.Module, graph: fx.GraphModule, images: Tensor, wanted: dict[fx.Node, list[str]], batch_size: int
) -> Iterator[tuple[str, Tensor]]:
    """Run a network on batches and hand out the wanted nodes' outputs while it runs, freeing all others at once.

    Strict float32 and eval mode hold only while layers run: whoever uses what is handed out, or never asks for the
    rest, finds the model and torch's settings as they were.

    Args:
        model: the network.
        graph: its trace.
        images: (N, C, H, W), normalised.
        wanted: the names under which a node's output is handed out.
        batch_size: images per forward pass.
    """
    last_use = {argument: node for node in graph.graph.nodes for argument in node.all_input_nodes}
    for batch in images.split(batch_size):
        interpreter = fx.Interpreter(graph)
        interpreter.args_iter = iter([batch])
        left = iter(graph.graph.nodes)
        while True:
            with strict_float32(), evaluating(model):
                node = _run_until(wanted, interpreter, left, last_use)
            if node is None:
                break
            for name in wanted[node]:
                yield name, interpreter.env[node]


def _run_until(
    stops: Container[fx.Node], interpreter: fx.Interpreter, left: Iterator[fx.Node], last_use: dict[fx.Node, fx.Node]
) -> fx.Node | None:
    """Run nodes up to the next of `stops` and return that; None at the end."""
    for node in left:
        interpreter.env[node] = interpreter.run_node(node)
        for argument in node.all_input_nodes:
            if last_use[argument] is node:
                del interpreter.env[argument]
        if node in stops:
            return node
    return None
