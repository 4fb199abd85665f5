"""The network as a graph of operations, and the places in it that the rest of pruning asks for."""

import functools
import operator
import sys
import traceback
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from daar.device.precision import evaluating, strict_float32
from daar.errors import InputError
from daar.models.shortcut import PaddedShortcut

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# layers with parameters of shape (c,) that treat every channel by itself
PER_CHANNEL = (*BATCH_NORMS, nn.InstanceNorm2d, nn.PReLU)
ACTIVATIONS: tuple[Any, ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Softplus),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.PReLU),
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.silu, F.gelu, F.mish, F.softplus),
    *(F.hardswish, F.hardsigmoid, F.hardtanh, F.sigmoid, F.tanh),
    *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_"),
)
ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat, torch.concatenate)
POOLS: tuple[Any, ...] = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(F.max_pool2d, F.avg_pool2d, F.lp_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.max_pool2d),
)
# what leaves a feature map as it is in eval mode
_NOTHING: tuple[Any, ...] = (nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d)
# set on a module, it says: take this as one operation that nothing is known of
OPAQUE = "_daar_opaque"


class _Tracer(fx.Tracer):
    """Traces into containers but not into torch's layers, our index-mapped shortcut, nor what is marked opaque."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """As fx does, and note the line of the network's own code; fx's own record of it imports torch's compiler."""
        node = super().create_node(kind, target, *args, **kwargs)
        frame = sys._getframe(1)
        while frame.f_back is not None and _is_machinery(frame.f_code.co_filename):
            frame = frame.f_back
        if not _is_machinery(frame.f_code.co_filename):
            node.stack_trace = f'File "{frame.f_code.co_filename}", line {frame.f_lineno}'
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a subclass that runs torch's own forward is torch's layer, wherever it is defined
        method = getattr(type(m), "_conv_forward", type(m).forward)
        torchs = all(f.__module__.startswith("torch.nn.modules") for f in (type(m).forward, method))
        return (
            isinstance(m, PaddedShortcut)
            or hasattr(m, OPAQUE)
            or super().is_leaf_module(m, module_qualified_name)
            or (torchs and not isinstance(m, nn.Sequential))
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """As fx does, and leave on record in which module a failure happened."""
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a network symbolically, as it runs in eval mode; weights are shared with `model`.

    Raises:
        InputError: its forward pass depends on the data; names the module, the line and the way out.
    """
    with evaluating(model):
        tracer = _Tracer()
        try:
            graph = tracer.trace(model)
        except Exception as error:  # fx raises whatever the model's own code raises on a proxy
            raise InputError(_untraceable(model, tracer.inside, error)) from error
        return fx.GraphModule(tracer.root, graph)


def _untraceable(model: nn.Module, inside: list[str], error: Exception) -> str:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if not inside:
        return (
            f"{type(model).__name__} cannot be traced{where}: {reason}. Its own forward must not branch on values; "
            "move what does so into a submodule and name that in `opaque`."
        )
    part = model.get_submodule(inside[-1])
    return (
        f"{type(model).__name__} cannot be traced: {inside[-1]!r} ({type(part).__name__}) fails{where}: {reason}. "
        f"Name it in `opaque` (opaque=[{inside[-1]!r}]) to keep whole what it reads and makes, or write it without "
        "branching on values."
    )


@functools.cache
def _is_machinery(filename: str) -> bool:
    """Whether a frame is torch's or ours, and not of the network's own code."""
    return Path(torch.__file__).parent in Path(filename).parents or filename == __file__


def operation(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """What a node runs: the layer for a call of a module, else the function, or a method's name."""
    return modules[str(node.target)] if node.op == "call_module" else node.target


def is_one_of(what: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether an operation is of one of the given layer types, or is one of the given functions or names."""
    if isinstance(what, nn.Module):
        return isinstance(what, tuple(kind for kind in kinds if isinstance(kind, type)))
    return any(what is kind or what == kind for kind in kinds)


def place(node: fx.Node) -> str:
    """Where a node stands in the user's code: its name, its module, and file and line where torch.fx knows them."""
    modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
    inside = f" in {modules[-1]}" if modules and node.op != "call_module" else ""
    name = str(node.target) if node.op == "call_module" else str(node.name)
    return f"{name}{inside} ({node.stack_trace})" if node.stack_trace else f"{name}{inside}"


def map_node(conv: fx.Node, modules: dict[str, nn.Module]) -> tuple[fx.Node, fx.Node | None]:
    """The node whose output holds a conv's feature map: after BN and activation, and after an addition if there is one.

    That is the ReLU of the stem and of the first conv of a residual block, and for the last conv of a block the
    ReLU behind the addition, as HRank hooks them (docs/protocol.md). Where BN and activation come before the convs
    (DenseNet), it is the next layer's activation, which may also hold the channels of others.

    Returns:
        The node, and the BN in front of it where that is the next layer's: it knows where the conv's channels lie.
    """
    node = conv
    while len(node.users) == 1:
        user = next(iter(node.users))
        what = operation(user, modules) if user.op.startswith("call") else None
        if is_one_of(what, ACTIVATIONS):
            return user, None
        if not is_one_of(what, (*BATCH_NORMS, *ADDITIONS, *_NOTHING)):
            break
        node = user
    norm = _next_norm(node, modules)
    return (next(iter(norm.users)), norm) if norm is not None else (node, None)


def _next_norm(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The first BN, in the order of execution, that reads a node's channels and is followed by an activation alone."""
    reached = {node}
    for user in list(node.graph.nodes):
        if not user.op.startswith("call") or reached.isdisjoint(user.all_input_nodes):
            continue
        what = operation(user, modules)
        if is_one_of(what, (nn.BatchNorm2d,)):
            behind = [operation(u, modules) if u.op.startswith("call") else None for u in user.users]
            if len(behind) == 1 and is_one_of(behind[0], ACTIVATIONS):
                return user  # type: ignore[no-any-return]  # torch.fx gives its nodes no type
        elif is_one_of(what, (*CONCATENATIONS, *ADDITIONS, *POOLS, *_NOTHING)):
            reached.add(user)
    return None


def norm_node(conv: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The BN that alone reads a conv's output, with at most an Identity or a dropout between; None if none does."""
    node = conv
    while len(node.users) == 1:
        (user,) = node.users
        what = operation(user, modules) if user.op.startswith("call") else None
        if is_one_of(what, (nn.BatchNorm2d,)):
            return user
        if not is_one_of(what, _NOTHING):
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
    for batch in images.split(batch_size):  # type: ignore[no-untyped-call]  # torch gives it no types
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
