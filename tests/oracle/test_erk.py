"""ERK's densities against the authors' procedure, and its plan against them: the largest ε within the target."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from daar.errors import InputError
from daar.methods import planners
from daar.methods.discovery import load
from daar.pruning import importance as shares
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.shapes import shapes_of
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored

ERK = planners.find()["erk"]
WIDTHS, KERNELS = (8, 16, 48, 64, 96), (7, 3, 3, 1, 5)


def chain() -> tuple[nn.Module, torch.Tensor]:
    """Convs of many shapes in a row, so that each is a group of its own."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    read = 3
    for width, kernel in zip(WIDTHS, KERNELS, strict=True):
        parts += [nn.Conv2d(read, width, kernel, padding=kernel // 2), nn.ReLU()]
        read = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(read, 10)).eval(), torch.zeros(
        2, 3, 16, 16
    )


def planned(graph: ChannelGraph, budget: int, macs: Any, **options: Any) -> dict[str, int]:
    groups = graph.in_scope("all")
    equal = {group.name: np.full(group.size, 1 / group.size) for group in groups}
    counts: dict[str, int] = load(ERK).plan(
        groups, equal, budget, macs=macs, loss=None, shapes=shapes_of(graph), **options
    )
    return counts


def by_the_authors(weights: Mapping[str, torch.Tensor], density: float, power: float = 1.0) -> dict[str, float]:
    """Densities that keep a fraction of all weights: layers whose density would exceed 1 are made dense, and ε anew.

    After sparse_utils.py of google-research/rigl, from its description.
    """
    dense: set[str] = set()
    while True:
        divisor, rest = 0.0, density * sum(w.numel() for w in weights.values())
        raw: dict[str, float] = {}
        for name, weight in weights.items():
            if name in dense:
                rest -= weight.numel()
            else:
                raw[name] = (sum(weight.shape) / math.prod(weight.shape)) ** power
                divisor += raw[name] * weight.numel()
        epsilon = rest / divisor
        largest = max(raw.values())
        if largest * epsilon <= 1:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in weights}
        dense |= {name for name, value in raw.items() if value == largest}


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_a_plan_has_the_authors_densities(density: float, power: float) -> None:
    """A group keeps √density of its channels; with that as the target nothing else fits."""
    model, image = chain()
    graph = channel_graph(model, image)
    groups = graph.in_scope("all")
    weights = {group.name: model.get_parameter(f"{group.name}.weight") for group in groups}
    densities = by_the_authors(weights, density, power)
    expected = {g.name: max(g.min_kept, int(math.sqrt(densities[g.name]) * g.size + 1e-9)) for g in groups}
    macs = ClosedForm(graph)
    counts = planned(graph, macs(expected), macs, power=power)
    assert all(counts[name] >= kept for name, kept in expected.items())
    assert macs(counts) <= macs(expected)
    assert counts == expected


def test_shapes_are_the_weights_own() -> None:
    """Also where several convs share channels, of a shortcut and of the linear layer."""
    for model, image in (chain(), residual()):
        graph = channel_graph(model, image)
        shapes = shapes_of(graph)
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert shapes[name] == tuple(module.weight.shape)
        assert set(shapes) == {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("reduction", [0.3, 0.5, 0.8])
def test_epsilon_is_the_largest_within_the_target(reduction: float) -> None:
    """Of a network with streams, by trying all: a group has the density by which its layers keep ERK's weights."""
    model, image = residual()
    graph = channel_graph(model, image)
    groups = graph.in_scope("all")
    worth = shares.group_importance(groups, scored("l1", model, graph.scored_layers()))
    macs = ClosedForm(graph, {g.name: shares.ranking(g, worth[g.name]) for g in groups})
    budget = int((1 - reduction) * macs({}))
    counts = load(ERK).plan(groups, worth, budget, macs=macs, loss=None, shapes=shapes_of(graph))
    density = {}
    for group in groups:
        weights = [model.get_parameter(f"{layer}.weight") for layer in group.members]
        # each layer's ERK density times its weights
        kept = sum(sum(w.shape) / w.numel() * w.numel() for w in weights)
        density[group.name] = kept / sum(w.numel() for w in weights)
    best: dict[str, int] = {}
    for epsilon in np.geomspace(0.1, 1000, 20_000):
        tried = {g.name: int(math.sqrt(min(1, epsilon * density[g.name])) * g.size + 1e-9) for g in groups}
        tried = {g.name: max(g.min_kept, tried[g.name]) for g in groups}
        if macs(tried) > budget:
            break
        best = tried
    assert all(counts[name] >= kept for name, kept in best.items())
    assert budget - 0.002 * macs({}) <= macs(counts) <= budget
    assert sum(counts.values()) - sum(best.values()) <= 6


def test_power_0_is_one_ratio_for_all() -> None:
    model, image = chain()
    graph = channel_graph(model, image)
    macs = ClosedForm(graph)
    budget = macs({group.name: group.size // 2 for group in graph.in_scope("all")})
    counts = planned(graph, budget, macs, power=0)
    assert counts == {group.name: group.size // 2 for group in graph.in_scope("all")}


@pytest.mark.parametrize(
    ("target", "power", "said"), [(None, 1, "has no rate of its own"), (9, -1, "power"), (9, 99, "power")]
)
def test_bad_input_is_named(target: int | None, power: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(ERK).plan([], {}, target, macs=None, loss=None, shapes={}, power=power)
