"""L1 and slimming against Torch-Pruning 1.6.1 and against a filter worked by hand."""

import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from daar.api import Batch
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from daar.pruning.groups import channel_graph
from daar.pruning.slim import slim
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

NO_IMAGES = Batch(torch.empty(0, 3, 32, 32), torch.empty(0, dtype=torch.int64))
IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def tp() -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever Torch-Pruning imports and calls; ours stay errors elsewhere
        import torch_pruning

        yield torch_pruning


def network() -> nn.Module:
    torch.manual_seed(0)
    return enliven(ResNet(2, 10, option="B"))


def scored(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    return discovery.load(discovery.get("l1")).score(model, NO_IMAGES, layers)


def test_a_filter_by_hand() -> None:
    conv = nn.Conv2d(2, 2, 2, bias=True)
    with torch.no_grad():
        conv.weight[0] = torch.tensor([[[1.0, -2.0], [0.5, 0.0]], [[-0.25, 0.25], [3.0, -1.0]]])
        conv.weight[1] = -2.0
    assert scored(nn.Sequential(conv), ["0"])["0"].tolist() == [8.0, 16.0]


def test_l1_is_torch_pruning_s_magnitude(tp: ModuleType) -> None:
    """Order 1, no normalisation, convs' output channels alone, and no reduction over the group."""
    model = network()
    graph = channel_graph(model, IMAGE)
    ours = scored(model, graph.scored_layers())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = tp.importance.MagnitudeImportance(
            p=1, group_reduction="first", normalizer=None, target_types=[nn.Conv2d], bias=False
        )
        dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGE)
        for layer, vector in ours.items():
            conv = model.get_submodule(layer)
            coupled = dependencies.get_pruning_group(conv, tp.prune_conv_out_channels, idxs=list(range(len(vector))))
            assert torch.allclose(theirs(coupled), vector, rtol=1e-5), layer


@pytest.mark.parametrize(
    "removed",
    [
        {"layer1.0.conv1": [0, 5, 15]},
        {"conv1": [1, 2, 14]},
        {"layer2.0.conv2": [0, 31], "layer3.0.conv2": [7, 8, 9, 60]},
        {
            "conv1": [3],
            "layer1.1.conv1": [0, 1],
            "layer2.0.conv2": [5, 9],
            "layer3.0.conv2": [1],
            "layer3.1.conv1": [63],
        },
    ],
    ids=["inner", "stem's stream", "later streams", "all"],
)
def test_slim_is_what_torch_pruning_makes(tp: ModuleType, removed: dict[str, list[int]]) -> None:
    model = network()
    ours = slim(model, channel_graph(model, IMAGE), removed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGE)
        for name, indices in removed.items():
            conv = model.get_submodule(name)
            dependencies.get_pruning_group(conv, tp.prune_conv_out_channels, idxs=indices).prune()
    for (name, one), other in zip(ours.state_dict().items(), model.state_dict().values(), strict=True):
        assert one.shape == other.shape, name
        assert torch.equal(one, other), name
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(images), model.eval()(images))
