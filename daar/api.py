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
from torch import Tensor, fx, nn

from daar.errors import InputError
from daar.pruning.groups import channel_graph
from daar.pruning.importance import ranking
from daar.pruning.policies import refill_by_importance_per_mac, smallest_ratio
from daar.pruning.scoring import Batch
from daar.pruning.trace import map_node, norm_node, stream, trace

__all__ = [
    "Batch",
    "InputError",
    "MethodInfo",
    "batch_norms",
    "feature_maps",
    "filters",
    "outgoing",
    "ranking",
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

    Args:
        model: the network.
        layer: path of the conv, as in `layers`.
    """
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight.detach().to("cpu", torch.float32)


def batch_norms(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.BatchNorm2d]:
    """The BN behind each conv: scale `weight`, shift `bias`, `running_mean`, `running_var`, each (c_out,).

    Copies, without gradients, float32, on the CPU, as `filters` gives them.

    Args:
        model: the network; left as it is.
        layers: paths of convs.

    Raises:
        InputError: a layer is no conv that the network calls; other operations than one affine BN read its output; or
            it is called several times, and not always with the same BN behind it.
    """
    graph = trace(model)
    modules = dict(graph.named_modules())
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    copies = {}
    for layer in layers:
        norms = {norm_node(node, modules) for node in calls if node.target == layer}
        names = sorted({str(norm.target) if norm else "none" for norm in norms})
        norm = modules.get(names[0]) if len(names) == 1 else None
        if not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            there = ", ".join(names) or "no call of it"
            raise InputError(
                f"layer {layer!r}: expected one BN with scale and shift that alone reads its output, the same at every "
                f"call; got {there}{', which has no scale' if norm else ''}. Choose another method for this network."
            )
        copies[layer] = copy.deepcopy(norm).to("cpu", torch.float32).requires_grad_(False)
    return copies


def feature_maps(
    model: nn.Module, images: Tensor, layers: Sequence[str], batch_size: int = 128
) -> Iterator[tuple[str, Tensor]]:
    """Stream the feature maps of all layers from one forward pass, in strict float32 and eval mode.

    A layer's maps are taken after its BN and ReLU; for the last conv of a residual block after the addition and its
    ReLU (HRank's hooks, docs/protocol.md). Where BN and ReLU come before the convs (DenseNet), they are taken behind
    those of the next layer, the conv's own channels only.

    Args:
        model: the network; left as it is.
        images: (N, C, H, W), normalised.
        layers: paths of convs.
        batch_size: images per forward pass; bounds the memory.

    Yields:
        (layer, maps) for each layer and batch, maps (n, c_out, H, W) on the model's device, batches in the order of
        the images. Use maps before asking for the next: the network may overwrite them.
    """
    device = next(model.parameters()).device
    graph = trace(model)
    modules = dict(graph.named_modules())
    convs = {str(node.target): node for node in graph.graph.nodes if node.op == "call_module"}
    wanted: dict[fx.Node, list[str]] = {}
    norms = {}
    for layer in layers:
        node, norm = map_node(convs[layer], modules)
        wanted.setdefault(node, []).append(layer)
        if norm is not None:
            norms[layer] = str(norm.target)
    own = _positions(model, images[:1].to(device), norms)
    for layer, maps in stream(model, graph, images.to(device), wanted, batch_size):
        yield layer, maps[:, own[layer]] if layer in own else maps


def _positions(model: nn.Module, image: Tensor, norms: dict[str, str]) -> dict[str, Tensor]:
    """Where the filters of a conv lie among the channels of the BN that reads them, (c_out,), in their order."""
    if not norms:
        return {}
    layers = channel_graph(model, image).layers
    positions = {}
    for conv, norm in norms.items():
        place = {channel: index for index, channel in enumerate(layers[norm].outputs.tolist())}
        positions[conv] = torch.tensor(
            [place[channel] for channel in layers[conv].outputs.tolist()], device=image.device
        )
    return positions


def outgoing(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """How strongly each channel of the convs is read: the L1 norm of all weights that multiply it.

    The channels of a residual stream are read by every conv and linear layer that the stream runs into; channels that
    can only go together count as one.

    Args:
        model: the network; left as it is.
        images: (N, C, H, W); only their size matters.
        layers: paths of convs.

    Returns:
        layer → (c_out,) float32, on the CPU.
    """
    graph = channel_graph(model, images[:1].to(next(model.parameters()).device))
    norms = torch.zeros(graph.count, dtype=torch.float64)
    for layer in graph.layers.values():
        if isinstance(layer.module, nn.Conv2d | nn.Linear):
            read = layer.module.weight.detach().to("cpu", torch.float64).abs()
            read = read.flatten(2).sum(dim=2) if read.dim() > 2 else read
            # in a grouped conv the filters of one part read one part of the channels
            parts = layer.module.groups if isinstance(layer.module, nn.Conv2d) else 1
            norms.index_add_(
                0, torch.from_numpy(layer.inputs), read.reshape(parts, -1, read.shape[1]).sum(dim=1).flatten()
            )
    return {layer: norms[torch.from_numpy(graph.layers[layer].outputs)].float() for layer in layers}


def sharing(model: nn.Module, images: Tensor, layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Which of the convs make the same channels, filter by filter: those that write into one residual stream.

    Args:
        model: the network; left as it is.
        images: (N, C, H, W); only their size matters.
        layers: paths of convs.

    Returns:
        Each layer in one tuple, in the order of execution; a conv that shares with none stands alone.
    """
    graph = channel_graph(model, images[:1].to(next(model.parameters()).device))
    families: dict[tuple[int, ...], list[str]] = {}
    for name, layer in graph.layers.items():
        if name in layers:
            families.setdefault(tuple(layer.outputs.tolist()), []).append(name)
    return [tuple(names) for names in families.values()]
