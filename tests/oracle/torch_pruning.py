"""Torch-Pruning 1.6.1 next to ours, for the tests of several methods."""

import copy
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from daar.api import Batch
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from tests.networks import enliven

NO_IMAGES = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64))


@pytest.fixture(scope="module")
def tp() -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever Torch-Pruning imports and calls; ours stay errors elsewhere
        import torch_pruning

        yield torch_pruning


def residual() -> tuple[nn.Module, Tensor]:
    """A network with streams whose shortcuts are convs, and what it is called with."""
    torch.manual_seed(0)
    return enliven(ResNet(2, 10, option="B")), torch.zeros(2, 3, 32, 32)


def coupled_with(tp: ModuleType, model: nn.Module, layer: str) -> Any:
    """All filters of a conv and what goes with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, 3, 32, 32))
        conv, width = model.get_submodule(layer), len(model.get_parameter(f"{layer}.weight"))
        return dependencies.get_pruning_group(conv, tp.prune_conv_out_channels, list(range(width)))


def scored(
    method: str, model: nn.Module, layers: list[str], batch: Batch = NO_IMAGES, **options: Any
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = discovery.load(discovery.get(method)).score(model, batch, layers, **options)
    return found


def smooth(count: int, seed: int = 0) -> Batch:
    """Images with shapes in them, and labels."""
    dice = torch.Generator().manual_seed(seed)
    small = torch.randn(count, 3, 8, 8, generator=dice)
    images = nn.functional.interpolate(small, scale_factor=4.0, mode="bilinear")
    return Batch(images, torch.randint(10, (count,), generator=dice))


def doubled(model: nn.Module, batch: Batch) -> tuple[nn.Module, Batch]:
    """Both in float64, for oracles that take differences."""
    return copy.deepcopy(model).double(), Batch(batch.images.double(), batch.labels)
