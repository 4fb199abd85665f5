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

import torch
from torch import Tensor, nn

from daar.errors import InputError
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
from daar.pruning.streams import feature_maps, filter_gradients, losses, map_gradients, two_dimensional

__all__ = [
    "Batch",
    "InputError",
    "MethodInfo",
    "PolicyInfo",
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
        title: its name in tables, and whose it is in brackets: "L1 (Li et al. 2017)". What follows a comma in the name
            is in brackets there, and left out where more follows: "DAAR, reconstructed" gives "DAAR (reconstructed)"
            and "DAAR, uniform rates".
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
        _require_said(self, ("name", "title", "citation", "policy"))
        if foreign := set(self.uses) - INPUTS:
            raise ValueError(
                f"MethodInfo of {self.name!r}: uses names {sorted(foreign)}; it may name {sorted(INPUTS)}."
            )


@dataclass(frozen=True)
class PolicyInfo:
    """What a reader of a table should know of a policy without a method; written as literals, as MethodInfo is.

    Attributes:
        name: as in suites; the folder's name.
        title: as `daar list policies` prints it, with the source.
        citation: its key in the folder's references.bib.
        deviations: where we differ from the source, each a phrase.
    """

    name: str
    title: str
    citation: str
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_said(self, ("name", "title", "citation"))


def _require_said(info: MethodInfo | PolicyInfo, fields: tuple[str, ...]) -> None:
    """ValueError unless all that must be said of a method or policy is."""
    whose = f"{type(info).__name__} of {info.name!r}"
    blank = [field for field in fields if not getattr(info, field).strip()]
    if blank:
        raise ValueError(f"{whose}: {blank[0]} is blank; every method says who it is.")
    if isinstance(info.deviations, str) or not all(phrase.strip() for phrase in info.deviations):
        raise ValueError(
            f"{whose}: deviations is {info.deviations!r}; it must be a tuple of phrases, none blank. One phrase needs "
            "a comma behind it."
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
    return two_dimensional(weights.filters(model, layer).detach().to("cpu", torch.float32))


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
            read = two_dimensional(weight).flatten(2).sum(dim=2)
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
