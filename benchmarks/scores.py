"""Seconds that scores take: every method's; HRank's next to its published loop, DAAR's to a bare forward pass."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.harness import Benchmark, Options, Side, Sides, at_least, under, within
from daar import models
from daar.device.precision import evaluating, strict_float32
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.scoring import Batch, score

CLASSES = 10
IMAGES = 640
# of those, how many HRank scores in a window: its time grows with the number of images
HRANK_IMAGES = 64
# images per forward pass, as in daar.api.feature_maps
BATCH_SIZE = 128
# what reads no images takes so little that these are scored in turn
NETWORKS = [n.name for n in models.NETWORKS.values() if n.module.endswith(("resnet_cifar", "vgg_cifar"))]
IMAGE = (3, 32, 32)
GOALS = {"l1": under(1), "fpgm": under(1)}


def benchmarks() -> list[Benchmark]:
    """The scores of every method there is; HRank and DAAR have rows of their own, next to references."""
    methods = discovery.find()
    each = [_own_row(name, method) for name, method in methods.items() if name not in ("hrank", "daar")]
    title = f"HRank scores, ResNet-56, {HRANK_IMAGES} of {IMAGES} images"
    compared = [
        Benchmark("hrank-resnet56", title, _hrank, at_least(5), most=5, budget=120),
        Benchmark("daar-resnet56", f"DAAR scores, ResNet-56, {IMAGES} images", _daar, within(2), budget=120),
    ]
    return [*each, *(benchmark for benchmark in compared if benchmark.name.split("-")[0] in methods)]


def _own_row(name: str, method: Method) -> Benchmark:
    """The row of a method that has no reference to be compared with."""
    sees_images = {"images", "labels"} & set(method.info.get("uses", ()))
    networks = ["resnet56"] if sees_images else NETWORKS
    where = f"ResNet-56, {IMAGES} images" if sees_images else f"CIFAR's {len(networks) - 1} ResNets and VGG-16 in turn"
    opened = functools.partial(_score, method, networks)
    return Benchmark(f"score-{name}", f"Scores of `{name}`, {where}", opened, GOALS.get(name), budget=60)


@contextmanager
def _score(method: Method, networks: list[str], options: Options) -> Iterator[Sides]:
    batch = _batch(IMAGES)
    built = [_network(name, options.device) for name in networks]

    def score_each() -> None:
        for model, graph in built:
            score(model, batch, graph, method, {}, 0)

    layers = sum(len(graph.scored_layers()) for _, graph in built)
    yield Sides(Side(f"{layers} layers, on {options.device.type}", score_each))


@contextmanager
def _hrank(options: Options) -> Iterator[Sides]:
    method, batch = discovery.get("hrank"), _batch(HRANK_IMAGES)
    model, graph = _network("resnet56", options.device)
    images = batch.images.to(options.device)

    def ours() -> None:
        score(model, batch, graph, method, {}, 0)

    def published() -> None:
        hrank_as_published(model, images)

    yield Sides(
        Side("one forward pass for all layers, the ranks of a layer's maps in one call", ours),
        Side("the same images; for each layer a hook and a forward pass, ranks map by map, as published", published),
    )


@contextmanager
def _daar(options: Options) -> Iterator[Sides]:
    method, batch = discovery.get("daar"), _batch(IMAGES)
    model, graph = _network("resnet56", options.device)
    images = batch.images.to(options.device)

    def ours() -> None:
        score(model, batch, graph, method, {}, 0)

    def forward() -> None:
        with strict_float32(), evaluating(model):
            for part in torch.split(images, BATCH_SIZE):
                model(part)
        if options.device.type == "cuda":
            torch.cuda.synchronize()

    yield Sides(
        Side(f"default options, {len(graph.scored_layers())} layers", ours),
        Side("the forward pass alone of the same images, strict float32", forward),
    )


def hrank_as_published(model: nn.Module, images: Tensor, batch_size: int = BATCH_SIZE) -> dict[str, Tensor]:
    """HRank as in lmbxmu/HRank, rank_generation.py: a hook and a run over all images for each layer of a ResNet.

    They hook ReLUs, which are modules there; in our ResNets ReLU is a function, so the hook of a block's first conv
    sits on the BN and applies it.

    Args:
        model: a ResNet of ours.
        images: (N, C, H, W), normalised, on the model's device.
        batch_size: images per forward pass.

    Returns:
        layer → (c_out,) float32, CPU.
    """
    return {layer: _mean_ranks(model, *place, images, batch_size) for layer, place in _places(model).items()}


def _places(model: nn.Module) -> dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """Layer → the module to hook, and what makes the layer's map of that module's output."""
    places: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        "conv1": (model.get_submodule("bn1"), torch.relu)
    }
    for stage in ("layer1", "layer2", "layer3"):
        for name, block in model.get_submodule(stage).named_children():
            places[f"{stage}.{name}.conv1"] = (block.get_submodule("bn1"), torch.relu)
            places[f"{stage}.{name}.conv2"] = (block, lambda output: output)
    return places


def _mean_ranks(
    model: nn.Module, module: nn.Module, change: Callable[[Tensor], Tensor], images: Tensor, batch_size: int
) -> Tensor:
    mean, total = torch.zeros(1), 0

    def add(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal mean, total
        maps = change(output)
        a, b = maps.shape[:2]
        c = torch.tensor([torch.linalg.matrix_rank(maps[i, j]).item() for i in range(a) for j in range(b)])
        mean = (mean * total + c.view(a, -1).float().sum(0)) / (total + a)
        total += a

    handle = module.register_forward_hook(add)
    try:
        with evaluating(model):
            for part in torch.split(images, batch_size):
                model(part)
    finally:
        handle.remove()
    return mean


def _network(name: str, device: torch.device) -> tuple[nn.Module, ChannelGraph]:
    model = models.get(name).build(CLASSES)
    return model.to(device), graph_of(model, IMAGE)


def _batch(count: int) -> Batch:
    dice = torch.Generator().manual_seed(0)
    return Batch(torch.randn(count, *IMAGE, generator=dice), torch.randint(CLASSES, (count,), generator=dice))
