"""APoZ and activation against numpy on maps made by the paper's equations, and against maps worked by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from daar.api import Batch
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import scored, smooth
from tests.test_api import network, resnet_maps

STATISTICS = {
    "apoz": lambda maps: 1 - (maps == 0).mean(axis=(0, 2, 3)),
    "mean": lambda maps: maps.mean(axis=(0, 2, 3)),
    "std": lambda maps: maps.std(axis=(0, 2, 3)),
}


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_statistics_of_a_residual_network_are_numpy_s(statistic: str) -> None:
    """More images than one pass takes."""
    model, batch = network("resnet20"), smooth(130)
    with torch.no_grad():
        maps = resnet_maps(model, batch.images)
    method, options = ("apoz", {}) if statistic == "apoz" else ("activation", {"statistic": statistic})
    for layer, found in scored(method, model, list(maps), batch, **options).items():
        expected = STATISTICS[statistic](maps[layer].double().numpy())
        # a value that is zero but for rounding may be counted or not
        assert np.allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5), layer


def test_two_channels_by_hand() -> None:
    """Of 2 images of 2 places, channel 0 is (1, 0), (3, 0) behind ReLU, channel 1 always 2."""
    conv = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
        conv.bias[:] = torch.tensor([0.0, 2.0])  # type: ignore[index]
    model = nn.Sequential(conv, nn.ReLU())
    batch = Batch(torch.tensor([[1.0, -1.0], [3.0, -5.0]]).view(2, 1, 1, 2), torch.zeros(2, dtype=torch.int64))
    assert scored("apoz", model, ["0"], batch)["0"].tolist() == [0.5, 1.0]
    assert scored("activation", model, ["0"], batch)["0"].tolist() == [1.0, 2.0]
    found = scored("activation", model, ["0"], batch, statistic="std")["0"].tolist()
    assert found == pytest.approx([1.5**0.5, 0.0])
