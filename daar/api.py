"""All that a pruning method may import: its metadata, its input, and views of a network.

A method is a module with `INFO: MethodInfo` and a pure function

    score(model, batch, layers, **options) -> {layer name: FloatTensor (c_out,)}

on the CPU, float32, higher = keep. Options are keyword-only with the paper's value as default; a method that draws
random numbers declares an option `seed` and gets the setting's. A method with a policy of its own also has

    plan(groups, importance, macs_target, *, macs, loss, **options) -> {group name: kept count}

(see `Policy` in daar/pruning/policy.py), and one whose scores can be looked at

    explain(model, batch, layers, **options) -> iterator of (layer name, shares (n, c_out), attention (n, H, W) or None)

some images at a time, in their order, on the CPU: parts whose mean over the images is `score`, and where the layer
looks on each, ≥ 0, summing to 1 over the places; `options` are all those of `score`. For policies there are `ranking`,
`smallest_ratio` and `refill_by_importance_per_mac`. A method says what is wrong with its input by raising `InputError`,
in one line. docs/adding-a-method.md walks through it all.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.program.backward import Backward
from daar.program.inputs import Images, fewest, first, moved
from daar.program.recording import RunError, record, recorded
from daar.program.replay import Replay
from daar.pruning import coupling, reading, weights
from daar.pruning.feature_maps import Users
from daar.pruning.groups import ChannelGraph, graph_from
from daar.pruning.importance import ranking
from daar.pruning.policies import refill_by_importance_per_mac, smallest_ratio
from daar.pruning.reading import Reading
from daar.pruning.scoring import Batch

__all__ = [
    "Batch",
    "InputError",
    "MethodInfo",
    "Reading",
    "batch_norms",
    "contributions",
    "coupled",
    "feature_maps",
    "filter_gradients",
    "filters",
    "losses",
    "map_gradients",
    "outgoing",
    "ranking",
    "readings",
    "refill_by_importance_per_mac",
    "sharing",
    "smallest_ratio",
]

INPUTS = frozenset({"weights", "images", "labels"})


@dataclass(frozen=True)
class MethodInfo:
    """What a reader of a table should know of a method. Written as literals: it is read without importing the method.

    Attributes:
        name: as in suites and paths; the folder's name (`daar` for the method of the paper).
        title: as tables print it, with the source.
        citation: its key in the folder's references.bib.
        uses: what the scores depend on, out of "weights", "images" and "labels".
        policy: the policy that turns its scores into counts unless the suite says otherwise.
        deviations: where we differ from the source, each a phrase that tables can print.
        control: a control of the comparison, not a contender.
    """

    name: str
    title: str
    citation: str
    uses: tuple[str, ...]
    policy: str = "uniform"
    deviations: tuple[str, ...] = ()
    control: bool = False

    def __post_init__(self) -> None:
        blank = [field for field in ("name", "title", "citation", "policy") if not getattr(self, field).strip()]
        if blank:
            raise ValueError(f"MethodInfo of {self.name!r}: {blank[0]} is blank; every method says who it is.")
        if foreign := set(self.uses) - INPUTS:
            raise ValueError(
                f"MethodInfo of {self.name!r}: uses names {sorted(foreign)}; it may name {sorted(INPUTS)}."
            )
        if isinstance(self.deviations, str) or not all(phrase.strip() for phrase in self.deviations):
            raise ValueError(
                f"MethodInfo of {self.name!r}: deviations is {self.deviations!r}; it must be a tuple of phrases, none "
                "blank. One phrase needs a comma behind it."
            )


def filters(model: nn.Module, layer: str) -> Tensor:
    """The filters of a conv, (c_out, c_in/groups, k, k), detached, float32, on the CPU.

    In score() they are what the conv ran with, also where the network computes that from several tensors: a masked
    kernel, a sum of branches, standardised or normalised weights. Those of a transposed conv too have their own
    dimension first; units of a linear layer are filters of (c_in, 1, 1), those of a conv over sequences (c_in, k, 1),
    over volumes (c_in, k, k·k).

    Args:
        model: the network.
        layer: name of the conv, as in `layers`.

    Raises:
        InputError: the layer holds no weight, and no score() runs that daar has called.
    """
    return _two_dimensional(weights.filters(model, layer).detach().to("cpu", torch.float32))


def _two_dimensional(values: Tensor) -> Tensor:
    """Filters or maps of any number of dimensions in space, none for linear layers, with two."""
    if values.dim() > 4:
        return values.flatten(3)
    return values.reshape(*values.shape, *(1 for _ in range(4 - values.dim())))


def batch_norms(model: nn.Module, images: Images, layers: Sequence[str]) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The BN behind each conv: scale `weight`, shift `bias`, `running_mean`, `running_var`, each (c_out,).

    Copies, without gradients, float32, on the CPU, as `filters` gives them.

    Args:
        model: the network; left as it is.
        images: as in the batch; only their size matters.
        layers: names of convs.

    Raises:
        InputError: a layer is no conv that the network calls; other operations than one affine BN read its output; or
            it is called several times, and not always with the same BN behind it.
    """
    graph = _graph(model, images)
    users = Users(graph.program)
    copies = {}
    for layer in layers:
        norms = {users.norm_of(graph.program.operations[at]) for at in graph.calls.get(layer, ())}
        names = sorted({norm.module if norm else "none" for norm in norms})
        norm = model.get_submodule(names[0]) if len(names) == 1 and names[0] != "none" else None
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or not norm.affine:
            there = ", ".join(names) or "no call of it"
            raise InputError(
                f"layer {layer!r}: expected one BN with scale and shift that alone reads its output, the same at every "
                f"call; got {there}{', which has no scale' if norm else ''}. Choose another method for this network."
            )
        copies[layer] = copy.deepcopy(norm).to("cpu", torch.float32).requires_grad_(False)
    return copies


def _graph(model: nn.Module, images: Images) -> ChannelGraph:
    placed = moved(images, next(model.parameters()))
    try:
        program = record(model, first(placed, 2))
    except RunError:  # some want more images, and say no sooner
        program = recorded(model, fewest(model, placed))
    return graph_from(program, model)


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
            yield layer, _two_dimensional(maps[:, own[layer]] if layer in own else _unfolded(maps, graph, layer))


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


def outgoing(model: nn.Module, images: Images, layers: Sequence[str]) -> dict[str, Tensor]:
    """How strongly each channel of the convs is read: the L1 norm of all weights that multiply it.

    The channels of a residual stream are read by every conv and linear layer that the stream runs into; channels that
    can only go together count as one.

    Args:
        model: the network; left as it is.
        images: as in the batch; only their size matters.
        layers: names of convs.

    Returns:
        layer → (c_out,) float32, on the CPU.
    """
    images = moved(images, next(model.parameters()))
    graph = _graph(model, images)
    norms = torch.zeros(graph.count + 1, dtype=torch.float64)
    for layer in graph.layers.values():
        if layer.kind != "product":
            weight = weights.ran_with(model, graph, images, layer.name).detach().to("cpu", torch.float64).abs()
            read = _two_dimensional(weight).flatten(2).sum(dim=2)
            # in a grouped conv the filters of one part read one part of the channels
            parts = layer.groups or len(layer.inputs)
            norms.index_add_(
                0, torch.from_numpy(layer.inputs), read.reshape(parts, -1, read.shape[1]).sum(dim=1).flatten()
            )
    return {layer: norms[torch.from_numpy(graph.layers[layer].outputs)].float() for layer in layers}


def sharing(model: nn.Module, images: Images, layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Which of the convs make the same channels, filter by filter: those that write into one residual stream.

    Args:
        model: the network; left as it is.
        images: as in the batch; only their size matters.
        layers: names of convs.

    Returns:
        Each layer in one tuple, in the order of execution; a conv that shares with none stands alone.
    """
    families: dict[tuple[int, ...], list[str]] = {}
    for name, layer in _graph(model, images).layers.items():
        if name in layers:
            families.setdefault(tuple(layer.outputs.tolist()), []).append(name)
    return [tuple(names) for names in families.values()]


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
                _two_dimensional(reading.oriented(graph, layer, part).to("cpu", torch.float32))
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
                _two_dimensional(part[:, own] if own is not None else _unfolded(part, graph, layer))
                for part in (values[number], gradients[number])
            )
            yield layer, maps, slopes


def _backward(model: nn.Module, batch: Batch) -> Backward:
    like = next(model.parameters())
    labels = batch.labels.to(like.device) if isinstance(batch.labels, Tensor) else batch.labels
    return Backward(model, moved(batch.images, like), labels)


def readings(model: nn.Module, images: Images, layers: Sequence[str], batch_size: int = 128) -> Iterator[Reading]:
    """Stream what the convs and linear layers behind each of the layers read of its channels, and by which weights.

    The channels of a residual stream are read by every layer that the stream runs into. Depthwise convs are passed
    over: they belong to the channels, and those behind them read what they make.

    Args:
        model: the network; left as it is.
        images: as in the batch, normalised.
        layers: names of convs.
        batch_size: images per forward pass; bounds the memory.

    Yields:
        A `Reading` for each batch, layer and layer that reads it, batches in the order of the images. Use it before
        asking for the next.
    """
    placed = moved(images, next(model.parameters()))
    replay = Replay(model, placed)
    yield from reading.stream(model, graph_from(replay.program, model), replay, placed, layers, batch_size)


def contributions(
    model: nn.Module, images: Images, layers: Sequence[str], *, places: int = 10, seed: int = 0
) -> dict[str, Tensor]:
    """How what the channels of a layer add to the outputs of the next layers goes together.

    Of each image some outputs of the layers behind are drawn, each at one place of one channel. With x_j what channel j
    adds to such an output, the sum over the draws of x_j x_k: what removing a set T does to the outputs is its sum over
    the rows and columns of T.

    Args:
        model: the network; left as it is.
        images: as in the batch, normalised.
        layers: names of convs.
        places: outputs that are drawn for each image and layer behind.
        seed: of the draw.

    Returns:
        layer → (c_out, c_out) float64, on the CPU; zeros where no conv and no linear layer reads its channels.
    """
    families = sharing(model, images, layers)  # whose channels the same layers read
    found = reading.contributions(readings(model, images, [family[0] for family in families]), places, seed)
    read = {layer: found[family[0]] for family in families if family[0] in found for layer in family}
    unread = {layer: len(filters(model, layer)) for layer in layers if layer not in read}
    return read | {layer: torch.zeros(size, size, dtype=torch.float64) for layer, size in unread.items()}


def coupled(model: nn.Module, images: Images, layers: Sequence[str]) -> dict[str, list[Tensor]]:
    """All parameters that go when a channel goes: filters, scale and shift of BN, and what the next layers read it by.

    Args:
        model: the network; left as it is.
        images: as in the batch; only their size matters.
        layers: names of convs.

    Returns:
        layer → for each parameter and dimension that holds its channels the slices, (c_out, size of a slice), detached,
        float32, on the CPU, in the order of the network's parameters. Layers of one residual stream have the same.
    """
    return coupling.coupled(model, _graph(model, images), layers)
