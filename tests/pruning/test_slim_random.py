"""Slim ≡ masked, for random networks; `networks.Cnn` makes the masked network by its own account."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from daar.pruning.closed_form import ClosedForm
from daar.pruning.masked import Masked
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import drawn, filters_gone
from tests.networks import (  # one_thread acts on this module
    BLOCKS,
    MORE_BLOCKS,
    Block,
    Cnn,
    cnns,
    one_thread,  # noqa: F401
)
from tests.pruning.test_slim import counted, kept_counts, kept_first, unchanged, worst

# what a random network has → how reasons why channels stay may begin
STAYS = {
    "pad": ("padded by a written number of channels", "a number of channels is written in the code"),
    "weight norm": ("are taken together by a norm", "read by a weight that is computed"),
    "spectral norm": ("read by an unknown operation: vdot", "two dimensions of channels become one: view"),
}


def may_stay(model: Cnn) -> tuple[str, ...]:
    """Why channels of this network may have to stay, and where something ties others to them, whole groups."""
    there = {step.kind for step in model.steps}
    if any(hasattr(module, "parametrizations") for module in model.modules()):
        there |= {"weight norm", "spectral norm"}
    return ("a layer's only channel", *(start for kind, starts in STAYS.items() if kind in there for start in starts))


def images_of(model: Cnn, seed: int = 0) -> Any:
    dice = torch.Generator().manual_seed(seed)
    several = 1 + any(step.kind == "other" for step in model.steps)
    images = [torch.randn(2, 3, model.size, model.size, generator=dice).double() for _ in range(several)]
    return images[0] if several == 1 else tuple(images)


def run(model: nn.Module, images: Any) -> list[Tensor]:
    with torch.no_grad():
        heads = model(*images) if isinstance(images, tuple) else model(images)
    return [heads] if isinstance(heads, Tensor) else list(heads)


def check_random_network(model: Cnn, data: st.DataObject) -> bool:
    """Whether what was removed moved the output; whatever was, slim, masked and this network's own account agree."""
    images = images_of(model)
    graph = proven_graph(model, images)
    reasons = {reason for group in graph.groups for reason in (group.frozen or "", *group.fixed.values()) if reason}
    assert all(reason.startswith(may_stay(model)) for reason in reasons), reasons
    removed = drawn(graph, data.draw(st.integers(0, 2**16)))
    before = copy.deepcopy(model)
    thin = slim(model, graph, removed)
    assert unchanged(model, before)
    x, other = images if isinstance(images, tuple) else (images, None)
    with torch.no_grad():
        expected, shapes = model.masked(x, other, filters_gone(graph, removed))
    assert worst(run(thin, images), expected) <= 1e-10
    masked = Masked(model, graph, removed)(images)
    assert worst([masked] if isinstance(masked, Tensor) else list(masked), expected) <= 1e-10
    assert slim_error(model, thin, graph, removed, images) <= 1e-10
    for name, shape in shapes.items():
        assert tuple(thin.get_parameter(name).shape[:2]) == shape, name
    macs = ClosedForm(graph, kept_first(graph, removed))
    assert macs({}) == counted(model, images)
    assert macs(kept_counts(graph, removed)) == counted(thin, images)
    alive, none = graph.alive(removed), graph.alive({})
    assert sum(layer.macs(none) for layer in graph.layers.values()) == macs({})
    assert sum(layer.macs(alive) for layer in graph.layers.values()) == counted(thin, images)
    return not any(removed.values()) or worst(expected, run(model, images)) > 1e-9


PROPERTY = settings(
    deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None, print_blob=True
)


def check_many(block: Block, examples: int, own: settings) -> None:
    moved: list[bool] = []

    @settings(own, max_examples=examples)
    @given(model=cnns(block), data=st.data())
    def one(model: Cnn, data: st.DataObject) -> None:
        moved.append(check_random_network(model, data))

    one()
    # a filter that a ReLU silences makes no difference
    assert sum(moved) >= 0.8 * len(moved) > 0


ALL_BLOCKS = {block.__name__: block for block in (*BLOCKS, *MORE_BLOCKS)}


@pytest.mark.parametrize("block", ALL_BLOCKS.values(), ids=ALL_BLOCKS)
def test_slim_is_masked_on_random_networks(block: Block) -> None:
    check_many(block, 2, PROPERTY)


@pytest.mark.parametrize("groups", [1, 2])
def test_padded_channels_hold_those_that_a_grouped_conv_ties_to_them(groups: int) -> None:
    """Of [a, x0, x1, x2, b, c] a conv of two groups ties x2 to a, x0 to b, x1 to c, and a, b, c are zeros that stay."""
    model = Cnn(8)
    x = model.layer(nn.Conv2d(3, 3, 3, padding=1), 0, 3)
    added = model.step("add", model.layer(nn.Conv2d(3, 6, 3, padding=1), x, 6), model.step("pad", x, channels=6))
    model.heads.append(model.layer(nn.Conv2d(6, 6, 3, padding=1, groups=groups), added, 6))
    first = proven_graph(model, torch.randn(2, 3, 8, 8)).groups[0]
    assert first.members == ("m0_conv2d", "m1_conv2d")
    assert (first.frozen or "").startswith("padded by a written number of channels") == (groups == 2)
    assert (first.size, len(first.fixed)) == ((3, 0) if groups == 2 else (6, 3))


@settings(PROPERTY, max_examples=25)
@given(model=cnns(None, BLOCKS), data=st.data())
def test_slimming_random_networks_twice_is_slimming_them_once_by_the_union(model: Cnn, data: st.DataObject) -> None:
    image = images_of(model)
    graph = proven_graph(model, image)
    union = drawn(graph, data.draw(st.integers(0, 2**16)))
    first = {name: sorted(data.draw(st.sets(st.sampled_from(gone)))) if gone else [] for name, gone in union.items()}
    half = slim(model, graph, first)
    again = proven_graph(half, image)
    sizes = {group.name: group.size for group in graph.groups}
    second = {}
    for name, gone in union.items():
        left = [index for index in range(sizes[name]) if index not in first[name]]
        second[name] = [left.index(index) for index in gone if index not in first[name]]
    assert [group.name for group in again.groups] == [group.name for group in graph.groups]
    once, twice = slim(model, graph, union), slim(half, again, second)
    for (key, one), other in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(one, other), key


@pytest.mark.slow
@pytest.mark.parametrize("block", ALL_BLOCKS.values(), ids=ALL_BLOCKS)
def test_slim_is_masked_on_many_random_networks(block: Block) -> None:
    """1,000 in all."""
    check_many(block, -(-1000 // len(ALL_BLOCKS)), settings(PROPERTY, derandomize=False, phases=[Phase.generate]))
