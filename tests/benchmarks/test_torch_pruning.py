"""The other tool's networks remove what was asked, and no more than its steps make them."""

import pytest
import torch
from torch import nn

from benchmarks.torch_pruning import macs_of, magnitude_pruned, prune_in_place
from tests.networks import one_thread  # noqa: F401  # acts on this module

pytest.importorskip("torch_pruning")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("target", [0.1, 0.4])
def test_the_lowest_ratio_that_removes_enough(shared: bool, target: float) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        convs = (nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 40, 3), nn.ReLU())
        return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 7)).eval()

    model, images = net(), torch.randn(1, 3, 12, 12)
    slim, ratio = magnitude_pruned(model, images, target, 7, shared=shared)
    assert macs_of(slim, images) <= (1 - target) * macs_of(model, images)
    assert slim(images).shape == (1, 7)
    less = net()
    prune_in_place(less, images, ratio - 1 / 1024, classes=7, p=2, shared=shared)
    assert macs_of(less, images) > (1 - target) * macs_of(model, images)
    assert macs_of(model, images) == macs_of(net(), images)
