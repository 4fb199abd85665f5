"""The calibration loss that policies may ask for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from daar.models.resnet_cifar import ResNet
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import channel_graph
from daar.pruning.slim import slim
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

GONE = {"layer1.0.conv1": [0, 3, 9], "layer3.0.conv2": [5, 60], "conv1": [1]}


def network() -> nn.Module:
    torch.manual_seed(0)
    return enliven(ResNet(1, 10))


def images() -> torch.Tensor:
    return torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_nothing_masked_is_the_entropy_of_the_dense_predictions() -> None:
    model = network()
    with torch.no_grad():
        expected = torch.distributions.Categorical(logits=model(images())).entropy().mean()
    loss = CalibrationLoss(model, channel_graph(model, images()[:1]), images())
    assert loss({}) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("batch_size", [4, 9])
def test_masked_is_the_slim_network_s_cross_entropy_to_the_dense_one(batch_size: int) -> None:
    model = network()
    graph = channel_graph(model, images()[:1])
    with torch.no_grad():
        expected = F.cross_entropy(slim(model, graph, GONE)(images()), model(images()).softmax(1))
    loss = CalibrationLoss(model, graph, images(), batch_size)
    assert loss(GONE) == pytest.approx(float(expected), rel=1e-4)
    assert loss(GONE) > loss({})


class Heads(nn.Module):
    """Two heads on one conv."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.one, self.two = nn.Linear(6, 4), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.conv(x)).mean((2, 3))
        return self.one(x), self.two(x)


def test_the_losses_of_several_heads_are_added() -> None:
    torch.manual_seed(0)
    model = enliven(Heads())
    graph = channel_graph(model, images()[:1])
    with torch.no_grad():
        pairs = zip(slim(model, graph, {"conv": [1, 4]})(images()), model(images()), strict=True)
        expected = sum(float(F.cross_entropy(thin, dense.softmax(1))) for thin, dense in pairs)
    assert CalibrationLoss(model, graph, images())({"conv": [1, 4]}) == pytest.approx(expected, rel=1e-4)
