"""Feature maps, losses and gradients for some images at a time, as methods get them through `daar.api`."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from daar.program.backward import Backward
from daar.program.inputs import Images, moved
from daar.program.replay import Replay
from daar.pruning import reading
from daar.pruning.feature_maps import Users
from daar.pruning.groups import ChannelGraph, graph_from
from daar.pruning.scoring import Batch


def feature_maps(
    model: nn.Module, images: Images, layers: Sequence[str], batch_size: int = 128
) -> Iterator[tuple[str, Tensor]]:
    """Stream the feature maps of all layers from one forward pass, in strict float32 and eval mode.

    A layer's maps are taken after its BN and ReLU; for the last conv of a residual block after the addition and its
    ReLU (HRank's hooks, docs/protocol.md). Where BN and ReLU come before the convs (DenseNet), they are taken behind
    those of the next layer, the conv's own channels only.

    Args:
        model: the network; left as it is.
        images: as in the batch, normalised.
        layers: names of convs.
        batch_size: images per forward pass; bounds the memory.

    Yields:
        (layer, maps) for each layer and batch, maps (n, c_out, H, W), of sequences (n, c_out, L, 1), on the model's
        device, batches in the order of the images. Use maps before asking for the next: the network may overwrite
        them.
    """
    images = moved(images, next(model.parameters()))
    replay = Replay(model, images)
    graph = graph_from(replay.program, model)
    users = Users(graph.program)
    wanted: dict[int, list[str]] = {}
    own: dict[str, Tensor] = {}
    for layer in layers:
        at = graph.calls[layer][-1]
        number, norm = users.map_of(graph.program.operations[at])
        wanted.setdefault(number, []).append(layer)
        if norm is not None:
            own[layer] = _positions(graph, layer, norm.makes()[0]).to(next(model.parameters()).device)
    for number, maps in replay.stream(images, wanted, batch_size):
        for layer in wanted[number]:
            yield layer, two_dimensional(maps[:, own[layer]] if layer in own else _unfolded(maps, graph, layer))


def losses(model: nn.Module, batch: Batch, batch_size: int = 128) -> Tensor:
    """The loss of each image: the cross-entropy of the network's logits and the image's label, in eval mode.

    Args:
        model: the network; left as it is.
        batch: images and labels.
        batch_size: images per pass; bounds the memory.

    Returns:
        (N,) float32, on the CPU, without gradients.

    Raises:
        InputError: the network does not return logits (N, C), or the labels are not classes of the images.
    """
    backward = _backward(model, batch)
    return torch.cat([found for found, _, _ in backward.passes([], batch_size)]).to("cpu", torch.float32)


def filter_gradients(
    model: nn.Module, batch: Batch, layers: Sequence[str], batch_size: int = 128
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Stream the gradients of the loss with respect to the filters of all layers, pass by pass.

    The loss is the mean cross-entropy of the pass's images, in eval mode and strict float32; with a `batch_size` of 1
    there is a gradient for each image. Filters are what the conv runs with, as `filters` gives them. Works in any mode
    of the caller, also for a network whose parameters do not require gradients.

    Args:
        model: the network; left as it is, its parameters' `grad` too.
        batch: images and labels.
        layers: names of convs.
        batch_size: images per pass; bounds the memory.

    Yields:
        (layer, filters, gradients) for each pass and layer, both (c_out, c_in/groups, k, k), float32, on the CPU. The
        last pass may be of fewer images.

    Raises:
        InputError: as of `losses`; an operation cannot be differentiated; or each image has filters of its own.
    """
    backward = _backward(model, batch)
    graph = graph_from(backward.program, model)
    read = {layer: reading.weights_of(graph, layer) for layer in layers}
    wanted = [number for numbers in read.values() for number in numbers]
    for found, values, gradients in backward.passes(wanted, batch_size):
        for layer, numbers in read.items():
            total = torch.stack([gradients[number] for number in numbers]).sum(dim=0) / len(found)
            one, other = (
                two_dimensional(reading.oriented(graph, layer, part).to("cpu", torch.float32))
                for part in (values[numbers[0]], total)
            )
            yield layer, one, other


def map_gradients(
    model: nn.Module,
    batch: Batch,
    layers: Sequence[str],
    batch_size: int = 128,
    *,
    at: Literal["maps", "norms"] = "maps",
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Stream the feature maps of all layers with the gradients of the loss with respect to them, pass by pass.

    The gradient is that of an image's own cross-entropy, so nothing is divided by the number of images. Works in any
    mode of the caller, as `filter_gradients`.

    Args:
        model: the network; left as it is.
        batch: images and labels.
        layers: names of convs.
        batch_size: images per pass; bounds the memory, all activations of a pass.
        at: where: `maps`, as `feature_maps` (behind BN, addition and ReLU); or `norms`, behind the conv's own BN alone
            (behind the conv where no BN follows).

    Yields:
        (layer, maps, gradients) for each pass and layer, both (n, c_out, H, W), on the model's device.

    Raises:
        InputError: as of `losses`; or an operation of the network cannot be differentiated.
    """
    backward = _backward(model, batch)
    graph = graph_from(backward.program, model)
    users = Users(graph.program)
    places: dict[str, tuple[int, Tensor | None]] = {}
    for layer in layers:
        conv = graph.program.operations[graph.calls[layer][-1]]
        number, norm = users.map_of(conv) if at == "maps" else ((users.norm_of(conv) or conv).makes()[0], None)
        own = None if norm is None else _positions(graph, layer, norm.makes()[0]).to(next(model.parameters()).device)
        places[layer] = number, own
    for _, values, gradients in backward.passes([number for number, _ in places.values()], batch_size):
        for layer, (number, own) in places.items():
            maps, slopes = (
                two_dimensional(part[:, own] if own is not None else _unfolded(part, graph, layer))
                for part in (values[number], gradients[number])
            )
            yield layer, maps, slopes


def _backward(model: nn.Module, batch: Batch) -> Backward:
    like = next(model.parameters())
    labels = batch.labels.to(like.device) if isinstance(batch.labels, Tensor) else batch.labels
    return Backward(model, moved(batch.images, like), labels)


def _unfolded(maps: Tensor, graph: ChannelGraph, layer: str) -> Tensor:
    """Maps of a conv whose code folds images into channels, (1, n·c_out, …), as (n, c_out, …)."""
    width = len(graph.layers[layer].outputs)
    is_folded = len(maps) == 1 and maps.shape[1] > width
    return maps.reshape(-1, width, *maps.shape[2:]) if is_folded else maps


def _positions(graph: ChannelGraph, layer: str, number: int) -> Tensor:
    """Where the filters of a conv lie among the channels of a tensor, (c_out,), in their order."""
    channels = graph.tensors[number][1]
    assert channels is not None
    place = {channel: index for index, channel in enumerate(channels.tolist())}
    return torch.tensor([place[channel] for channel in graph.layers[layer].outputs.tolist()])


def two_dimensional(values: Tensor) -> Tensor:
    """Filters or maps of any number of dimensions in space, none for linear layers, with two."""
    if values.dim() > 4:
        return values.flatten(3)
    return values.reshape(*values.shape, *(1 for _ in range(4 - values.dim())))
