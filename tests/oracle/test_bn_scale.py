"""BN scale against values set by hand and against Torch-Pruning 1.6.1."""

import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from daar.api import Batch
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from daar.models.vgg_cifar import VGG16
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

NO_IMAGES = Batch(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def tp() -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever Torch-Pruning imports and calls; ours stay errors elsewhere
        import torch_pruning

        yield torch_pruning


def scored(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    return discovery.load(discovery.get("bn_scale")).score(model, NO_IMAGES, layers)


def test_gammas_by_hand() -> None:
    """The sign does not matter, nor do shift, statistics and filters."""
    first, second = nn.BatchNorm2d(4), nn.BatchNorm2d(2)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), first, nn.ReLU(), nn.Conv2d(4, 2, 1), second)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([0.5, -2.0, 0.0, 1.0]))
        first.bias.copy_(torch.tensor([9.0, -9.0, 9.0, 0.0]))
        second.weight.copy_(torch.tensor([-0.25, 3.0]))
        second.running_var.fill_(7.0)  # type: ignore[union-attr]
    found = scored(model, ["0", "3"])
    assert {layer: vector.tolist() for layer, vector in found.items()} == {"0": [0.5, 2, 0, 1], "3": [0.25, 3]}


def test_the_last_conv_of_a_block_has_the_bn_before_the_addition() -> None:
    model = enliven(ResNet(1, 10, option="B"))
    found = scored(model, ["layer2.0.conv2", "layer2.0.shortcut.0"])
    assert torch.equal(found["layer2.0.conv2"], model.get_parameter("layer2.0.bn2.weight").detach().abs())
    assert torch.equal(found["layer2.0.shortcut.0"], model.get_parameter("layer2.0.shortcut.1.weight").detach().abs())


def test_it_is_torch_pruning_s_bn_scale(tp: ModuleType) -> None:
    """No normalisation, and no reduction over the group: VGG's groups hold one BN, a block's inner group too."""
    torch.manual_seed(0)
    for model in (enliven(VGG16(10)), enliven(ResNet(2, 10, option="B"))):
        ours = scored(model, [group.members[0] for group in channel_graph(model, IMAGE).in_scope("inner")])
        assert len(ours) > 5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = tp.importance.BNScaleImportance(group_reduction="first", normalizer=None)
            dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGE)
            for layer, vector in ours.items():
                conv = model.get_submodule(layer)
                coupled = dependencies.get_pruning_group(conv, tp.prune_conv_out_channels, list(range(len(vector))))
                assert torch.equal(theirs(coupled), vector), layer
