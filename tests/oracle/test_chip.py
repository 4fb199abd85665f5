"""CHIP against the authors' loop: numpy's nuclear norm of an image's maps with one channel zeroed, one by one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from daar.api import feature_maps
from daar.methods import discovery
from daar.models.vgg_cifar import VGG16
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored, smooth


def one_by_one(maps: Tensor) -> np.ndarray:
    """(n, c, h, w) to (c,)."""
    found = []
    for image in maps.flatten(2).double().numpy():
        whole = np.linalg.norm(image, "nuc")
        without = [np.linalg.norm(np.delete(image, row, axis=0), "nuc") for row in range(len(image))]
        found.append(whole - np.asarray(without))
    return np.mean(found, axis=0)


def test_a_residual_network_s_independence_is_numpy_s() -> None:
    model, image = residual()
    batch, layers = smooth(3), channel_graph(model, image).scored_layers()
    found = scored("chip", model, layers, batch)
    for layer, maps in feature_maps(model, batch.images, layers):
        expected = one_by_one(maps)
        assert np.allclose(found[layer].numpy(), expected, rtol=1e-5, atol=1e-6 * expected.max()), layer


def test_more_channels_than_places() -> None:
    """VGG's last maps are 2 × 2 for 512 channels: their rank is 4."""
    torch.manual_seed(0)
    model, batch = enliven(VGG16(10)), smooth(2)
    layer = channel_graph(model, batch.images).scored_layers()[-1]
    ((_, maps),) = feature_maps(model, batch.images, [layer])
    assert maps.shape[2:].numel() < maps.shape[1]
    expected = one_by_one(maps)
    found = scored("chip", model, [layer], batch)[layer].numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 7, 5), (2, 4, 4), (2, 1, 6), (2, 6, 1)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_matrices_of_any_shape_and_scale(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    maps = scale * torch.randn(shape, dtype=torch.float64)
    maps[0, 0] = 0  # a dead channel is worth nothing
    found = discovery.load(discovery.get("chip"))._independence(maps).mean(dim=0).numpy()
    assert np.allclose(found, one_by_one(maps[..., None]), rtol=1e-6, atol=1e-7 * scale)


def test_equal_orthogonal_and_absent_channels_by_hand() -> None:
    """Two equal rows a: ‖A‖ = √2 |a|, without one |a|. A row orthogonal to all others is worth its length."""
    maps = torch.zeros(1, 4, 3, dtype=torch.float64)
    maps[0, 0, 0], maps[0, 1, 0], maps[0, 2, 1] = 5.0, 5.0, 2.0
    found = discovery.load(discovery.get("chip"))._independence(maps)[0]
    assert found.tolist() == pytest.approx([5 * (2**0.5 - 1), 5 * (2**0.5 - 1), 2.0, 0.0], abs=1e-6)
