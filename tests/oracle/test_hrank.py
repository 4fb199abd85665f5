"""HRank against numpy's matrix_rank, map by map, on maps that hooks collect layer by layer, as the authors do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.scores import hrank_as_published
from daar.api import Batch
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from daar.models.vgg_cifar import VGG16
from daar.pruning import policies
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

LABELS = torch.empty(0, dtype=torch.int64)


def scored(model: nn.Module, images: Tensor, layers: list[str]) -> dict[str, Tensor]:
    return discovery.load(discovery.get("hrank")).score(model, Batch(images, LABELS), layers)


def images(count: int) -> Tensor:
    """Smooth blobs on an even ground, so that maps lose rank, as those of photographs do."""
    small = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(small, scale_factor=(6.4, 6.4), mode="nearest")


def rank_by_rank(maps: Tensor) -> np.ndarray:
    """(N, C, H, W) to (C,): numpy's rank of each map, averaged over the images."""
    ranks = [[np.linalg.matrix_rank(channel) for channel in image] for image in maps.numpy()]
    return np.asarray(ranks, dtype=np.float64).mean(axis=0)


def by_hook(model: nn.Module, module: nn.Module, change: Callable[[Tensor], Tensor], pictures: Tensor) -> np.ndarray:
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: kept.append(change(output).clone()))
    with torch.no_grad():
        model.eval()(pictures)
    handle.remove()
    return rank_by_rank(kept[0])


def test_ranks_of_a_residual_network_are_numpy_s() -> None:
    """First conv: behind its BN and ReLU. Last conv of a block: the block's output, after the addition."""
    torch.manual_seed(0)
    model, pictures = enliven(ResNet(1, 10)), images(6)
    found = scored(model, pictures, channel_graph(model, pictures[:1]).scored_layers())
    places: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {"conv1": (model.bn1, torch.relu)}
    for stage in ("layer1", "layer2", "layer3"):
        block = model.get_submodule(f"{stage}.0")
        places[f"{stage}.0.conv1"] = (block.get_submodule("bn1"), torch.relu)
        places[f"{stage}.0.conv2"] = (block, lambda output: output)
    assert set(places) == set(found)
    for layer, (module, change) in places.items():
        assert np.allclose(found[layer].numpy(), by_hook(model, module, change, pictures), atol=1e-6), layer
    assert any(0 < value < 8 for layer in found for value in found[layer].tolist()), "some maps must lack rank"


@pytest.mark.parametrize("batch_size", [128, 8])
def test_the_published_loop_gives_the_same_scores_and_keeps_the_same_filters(batch_size: int) -> None:
    """The loop that `python -m benchmarks` times. Its running mean is exact in float32 for these numbers of images."""
    torch.manual_seed(0)
    model, pictures = enliven(ResNet(2, 10)), images(16)
    graph = channel_graph(model, pictures[:1])
    ours = scored(model, pictures, graph.scored_layers())
    theirs = hrank_as_published(model, pictures, batch_size)
    assert set(ours) == set(theirs)
    for layer, vector in ours.items():
        assert torch.equal(vector, theirs[layer]), layer
    kept = [plan_for(graph, scores).groups for scores in (ours, theirs)]
    assert kept[0] == kept[1]
    assert all(0 < len(group.kept) < group.size for group in kept[0])


def plan_for(graph: ChannelGraph, scores: dict[str, Tensor]) -> Plan:
    return make_plan(
        graph,
        scores,
        policies.get("uniform"),
        loss=lambda _: 0.0,
        options={},
        method="hrank",
        policy_name="uniform",
        scope="all",
        target=0.5,
    )


def test_ranks_of_vgg_are_numpy_s() -> None:
    torch.manual_seed(0)
    model, pictures = enliven(VGG16(10)), images(2)
    layer = channel_graph(model, pictures[:1]).scored_layers()[4]
    names = [name for name, _ in model.named_modules()]
    bn = names[names.index(layer) + 1]
    found = scored(model, pictures, [layer])[layer]
    assert np.allclose(found.numpy(), by_hook(model, model.get_submodule(bn), torch.relu, pictures), atol=1e-6)


def test_batches_do_not_matter() -> None:
    """More images than one forward pass takes: the mean is over all of them."""
    torch.manual_seed(0)
    model, pictures = enliven(ResNet(1, 10)), images(130)
    whole = scored(model, pictures, ["conv1"])["conv1"]
    parts = [scored(model, part, ["conv1"])["conv1"] * len(part) for part in pictures.split(65)]
    assert torch.allclose(whole, torch.stack(parts).sum(0) / 130, atol=1e-5)


def test_a_dead_filter_has_rank_zero() -> None:
    model = enliven(ResNet(1, 10))
    with torch.no_grad():
        model.get_submodule("layer1.0.bn1").weight[3] = 0.0
        model.get_submodule("layer1.0.bn1").bias[3] = -1.0
    assert scored(model, images(3), ["layer1.0.conv1"])["layer1.0.conv1"][3] == pytest.approx(0.0)
