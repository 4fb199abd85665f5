"""Feature maps where BN and ReLU stand before the convs: behind the next layer's, the conv's own channels only."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import models
from daar.api import feature_maps
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module


def maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    found: dict[str, list[Tensor]] = {name: [] for name in convs}
    for layer, part in feature_maps(model, images, convs, batch_size=2):
        found[layer].append(part.clone())
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def normed(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What every BN makes, with ReLU behind it."""
    found: dict[str, Tensor] = {}

    def remember(name: str) -> Any:
        return lambda _module, _read, made: found.__setitem__(name, F.relu(made.clone()))

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(remember(name))
    with torch.no_grad():
        model(images)
    return found


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= 1e-5 * other.abs().max())


def test_densenet40() -> None:
    """Dense layer l of a block adds 12 channels behind 24 (168, 312) + 12 l; the stem and transitions come first."""
    model = enliven(models.get("densenet40").build(10))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = maps(model, images)
    behind = normed(model, images)
    assert len(found) == 39
    assert same(found["conv1"], behind["dense1.0.bn1"])
    for block, first in enumerate((24, 168, 312), 1):
        for layer in range(12):
            after = (
                {1: "trans1.bn1", 2: "trans2.bn1", 3: "bn"}[block] if layer == 11 else f"dense{block}.{layer + 1}.bn1"
            )
            start = first + 12 * layer
            assert same(found[f"dense{block}.{layer}.conv1"], behind[after][:, start : start + 12]), (
                block,
                layer,
            )
        if block < 3:
            assert same(found[f"trans{block}.conv1"], behind[f"dense{block + 1}.0.bn1"])  # pooled on the way


def test_a_residual_network_of_the_second_kind() -> None:
    """He et al. 2016b: x + conv(relu(bn(x))); the next block's BN and ReLU see the stream after the addition."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(F.relu(self.bn(x)))

    stem, end = (
        nn.Conv2d(3, 4, 3),
        [nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)],
    )
    model = enliven(nn.Sequential(stem, Block(), Block(), *end))
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = maps(model, images)
    behind = normed(model, images)
    for conv, norm in {"0": "1.bn", "1.conv": "2.bn", "2.conv": "3"}.items():
        assert same(found[conv], behind[norm]), conv


def test_a_conv_without_any_activation_behind_it_gives_its_own_output() -> None:
    """MobileNetV2's linear bottlenecks end in BN and an addition: their maps are what stands there."""
    model = enliven(models.get("mobilenetv2").build(10))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = {}
    with torch.no_grad():
        x = model.get_submodule("features")[:2](images)
        for block in (2, 3):
            expected[f"features.{block}.conv.2"] = x = model.get_submodule(f"features.{block}")(x)
    found = dict(feature_maps(model, images, list(expected)))
    for layer, made in expected.items():
        assert same(found[layer], made), layer
