"""DepGraph's group norm against Torch-Pruning 1.6.1, by the paper's authors, and against a group worked by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from daar.api import Batch
from daar.models.vgg_cifar import VGG16
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import coupled_with, residual, scored, tp  # noqa: F401  # tp is a fixture


@pytest.mark.parametrize("network", ["residual", "vgg"])
def test_it_is_torch_pruning_s_group_magnitude(tp: Any, network: str) -> None:  # noqa: F811
    """Order 2, summed over the group, not normalised, with biases."""
    torch.manual_seed(0)
    model, image = residual() if network == "residual" else (enliven(VGG16(10)), torch.zeros(2, 3, 32, 32))
    theirs = tp.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer=None, bias=True)
    layers = channel_graph(model, image).scored_layers()
    for layer, vector in scored("depgraph", model, layers).items():
        assert torch.allclose(theirs(coupled_with(tp, model, layer)), vector, rtol=1e-5), layer


def test_a_group_by_hand() -> None:
    """Filter (1, 2), bias 3, BN's scale 4 and shift 5, two places of a column (1, 1) and (2, 0) of the linear layer."""
    model: Any = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[1] = torch.tensor([1.0, 2.0]).view(2, 1, 1)
        model[0].bias[1], model[1].weight[1], model[1].bias[1] = 3, 4, 5
        model[3].weight[:, 2:] = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
        model[3].bias[:] = 7  # of the classes, not of a channel
    batch = Batch(torch.zeros(2, 2, 1, 2), torch.zeros(2, dtype=torch.int64))
    assert scored("depgraph", model, ["0"], batch)["0"].tolist() == [0, 1 + 4 + 9 + 16 + 25 + 1 + 1 + 4]
