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
