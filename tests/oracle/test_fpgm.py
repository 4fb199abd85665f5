"""FPGM against scipy's distances on the raw filters. (Torch-Pruning's FPGMImportance is another criterion.)"""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from daar import models
from daar.api import Batch
from daar.methods import discovery
from daar.pruning.groups import channel_graph
from tests.networks import enliven

NO_IMAGES = Batch(torch.empty(0, 3, 32, 32), torch.empty(0, dtype=torch.int64))


def scored(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    return discovery.load(discovery.get("fpgm")).score(model, NO_IMAGES, layers)


def test_three_filters_by_hand() -> None:
    """A triangle of sides 3, 4 and 5: the right angle is nearest to the median and goes first."""
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]).view(3, 2, 1, 1)
    assert scored(nn.Sequential(conv), ["0"])["0"].tolist() == [7.0, 8.0, 9.0]


@pytest.mark.parametrize("network", [n.name for n in models.NETWORKS.values() if n.classes == 10])
def test_sums_are_scipy_s_in_every_network_for_cifar(network: str) -> None:
    model = enliven(models.get(network).build(10))
    layers = channel_graph(model, torch.zeros(1, *models.get(network).input_shape)).scored_layers()
    for layer, found in scored(model, layers).items():
        filters = model.get_submodule(layer).weight.detach().double().flatten(1).numpy()
        assert np.allclose(found.numpy(), cdist(filters, filters).sum(axis=1), rtol=1e-5), layer


def test_near_equal_filters_do_not_cancel() -> None:
    """|a|² + |b|² − 2ab in float32 would lose a distance of 1e-4 between filters of norm 30."""
    conv = nn.Conv2d(100, 2, 3)
    with torch.no_grad():
        conv.weight[:] = 1.0
        conv.weight[1, 0, 0, 0] += 1e-4
    weight = conv.weight.detach().double()
    expected = float((weight[0] - weight[1]).norm())
    assert scored(nn.Sequential(conv), ["0"])["0"].tolist() == pytest.approx([expected, expected], rel=1e-5)
