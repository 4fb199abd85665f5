"""The weights that layers ran with, also those that a network computes from several tensors and no module holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor, nn

from daar.errors import InputError
from daar.program.inputs import Images, first
from daar.program.recording import held_as
from daar.program.replay import read_by
from daar.pruning.groups import ChannelGraph

_known: ContextVar[tuple[ChannelGraph, Images] | None] = ContextVar("_known", default=None)


@contextmanager
def known(graph: ChannelGraph, images: Images) -> Iterator[None]:
    """Let `filters` know within what the network ran.

    Args:
        graph: of the network.
        images: on the network's device, for weights that depend on them.
    """
    token = _known.set((graph, images))
    try:
        yield
    finally:
        _known.reset(token)


def filters(model: nn.Module, layer: str) -> Tensor:
    """The filters of a layer, (c_out, c_in/groups, …): as it ran where that is `known`, else the weight it holds.

    Raises:
        InputError: neither a module nor a parameter of that name holds a weight.
    """
    about = _known.get()
    if about is not None and layer in about[0].calls:
        return ran_with(model, *about, layer)
    path, _, name = layer.rpartition(".")
    held = getattr(model.get_submodule(path), name, None) if name else model
    weight = held if isinstance(held, Tensor) else getattr(held, "weight", None)
    if not isinstance(weight, Tensor):
        raise InputError(
            f"layer {layer!r} holds no weight: the network computes it as it runs, which only a score() that daar "
            "calls can read. Call daar.prune with the method."
        )
    if isinstance(held, nn.modules.conv._ConvTransposeNd):
        return _turned(weight, held.groups)
    return weight


def ran_with(model: nn.Module, graph: ChannelGraph, images: Images, layer: str) -> Tensor:
    """The filters of a layer as it ran, (c_out, c_in/groups, …); of several calls or images, the first's.

    Args:
        model: the network, or a copy of it with other values.
        graph: of the network.
        images: on its device, for weights that depend on them.
        layer: its name in the graph.
    """
    program, about = graph.program, graph.layers[layer]
    operation = program.operations[graph.calls[layer][0]]
    at = 1 if about.kind == "conv" or operation.name not in ("addmm", "baddbmm") else 2
    number = operation.args[at].number
    if number in program.leaves:
        weight = held_as(model, program.leaves[number])
    else:
        weight = read_by(model, program, operation, number, first(images, program.batch))
    if about.kind != "conv":  # (…, c_in, c_out)
        return weight.movedim(-1, 0).transpose(1, -1)
    turned = _turned(weight, int(operation.args[8])) if operation.args[6] else weight
    return turned[: len(about.outputs)]


def _turned(weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed conv with its filters first."""
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    return parts.transpose(1, 2).flatten(0, 1)
