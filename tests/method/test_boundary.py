"""Where shallow layers end: by hand, and η² against scipy's analysis of variance."""

import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from daar import models
from daar.api import InputError, feature_maps
from daar.methods import discovery
from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module


def boundary() -> ModuleType:
    discovery.load(discovery.get("daar"))
    return sys.modules["daar_method_daar.boundary"]


@pytest.mark.parametrize(
    ("sides", "shallow"),
    [
        ([32, 32, 16, 8], [32, 32, 16]),  # √(32·8) = 16
        ([32, 16, 8, 4, 2], [32, 16, 8]),  # VGG-16: √(32·2) = 8
        ([112, 56, 28, 14, 7], [112, 56, 28]),  # ResNet-50: √(112·7) = 28
        ([32, 16, 4], [32, 16]),  # √(32·4) = 11.3
        ([32, 16, 8, 4], [32, 16]),  # √(32·4) = 11.3; of the second and the last it would be 8
        ([8, 8], [8, 8]),
    ],
)
def test_by_side(sides: list[int], shallow: list[int]) -> None:
    areas = {str(index): side * side for index, side in enumerate(sides)}
    assert boundary().by_side(areas) == {str(index) for index in range(len(shallow))}


@pytest.mark.parametrize(("network", "deep"), [("resnet20", "layer3."), ("resnet56_b", "layer3."), ("vgg16_bn", None)])
def test_by_side_in_our_networks(network: str, deep: str | None) -> None:
    model = models.get(network).build(10).eval()
    names = channel_graph(model, torch.zeros(1, 3, 32, 32)).scored_layers()
    areas = {layer: maps[0, 0].numel() for layer, maps in feature_maps(model, torch.zeros(1, 3, 32, 32), names)}
    shallow = boundary().by_side(areas)
    if deep is None:  # convs 1–7 are at sides 32, 16 and 8
        assert [area >= 64 for area in areas.values()] == [layer in shallow for layer in areas]
        assert len(shallow) == 7
    else:
        assert {layer for layer in areas if not layer.startswith(deep)} == shallow


def test_by_depth_counts_in_the_order_of_execution() -> None:
    areas = dict.fromkeys(["c", "a", "b", "d"], 1)
    assert boundary().by_depth(areas, 0.5) == {"c", "a"}
    assert boundary().by_depth(areas, 0.0) == set()
    assert boundary().by_depth(areas, 1) == {"a", "b", "c", "d"}
    for fraction in (-0.1, 1.01, float("nan")):
        with pytest.raises(InputError, match=r"boundary is .*; as a fraction of the layers it must lie from 0 to 1"):
            boundary().by_depth(areas, fraction)


def test_eta_squared_is_the_f_statistic_s() -> None:
    dice = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (50,), generator=dice)
    pooled = torch.randn(50, 6, generator=dice) + labels[:, None] * torch.rand(6, generator=dice)
    classes = labels.unique().tolist()
    expected = []
    for channel in pooled.T:
        statistic = scipy.stats.f_oneway(*(channel[labels == k].double().numpy() for k in classes)).statistic
        between, within = len(classes) - 1, len(labels) - len(classes)
        expected.append(statistic * between / (statistic * between + within))
    assert boundary().eta_squared(pooled, labels) == pytest.approx(np.mean(expected), rel=1e-9)


def test_eta_squared_leaves_dead_channels_out() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert boundary().eta_squared(torch.tensor([[1.0, 5], [1, 5], [3, 5], [3, 5]]), labels) == 1.0
    assert boundary().eta_squared(torch.ones(4, 2), labels) == 0.0
    # a channel is live however little it varies: a ratio of variances knows no unit
    assert boundary().eta_squared(1e-3 * torch.tensor([[1.0, 1], [1, 1], [3, 2], [3, 1]]), labels) == pytest.approx(
        2 / 3
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_by_classes_is_the_best_of_all_splits(values: list[float]) -> None:
    names = [str(index) for index in range(len(values))]
    found = len(boundary().by_classes(dict(zip(names, values, strict=True))))
    errors = {at: sum(np.var(part) * len(part) for part in (values[:at], values[at:])) for at in range(1, len(values))}
    assert errors[found] == pytest.approx(min(errors.values()), abs=1e-9)


def test_by_classes_finds_a_step() -> None:
    values = [0.1, 0.12, 0.09, 0.6, 0.62]
    found = boundary().by_classes(dict(zip("abcde", values, strict=True)))
    assert found == set("abc")
    assert boundary().by_classes({"only": 0.5}) == {"only"}
