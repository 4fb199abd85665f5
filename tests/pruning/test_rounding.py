"""Counts in multiples: near to the policy's, within the target, and as the plan says."""

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daar import models
from daar.errors import InputError
from daar.pruning import plan as plans
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.rounding import round_counts
from tests.networks import one_thread  # noqa: F401  # it acts on this module


@functools.cache
def resnet20() -> ChannelGraph:
    return channel_graph(models.get("resnet20").build(10), torch.zeros(1, 3, 32, 32))


def plan(target: float, round_to: int) -> plans.Plan:
    graph = resnet20()
    dice = torch.Generator().manual_seed(0)
    scores = {layer: torch.rand(len(graph.layers[layer].outputs), generator=dice) for layer in graph.scored_layers()}
    return make_plan(
        graph, scores, policies.get("uniform"), loss=lambda _: 0.0, options={}, method="random", policy_name="uniform",
        scope="all", target=target, round_to=round_to,
    )  # fmt: skip


@pytest.mark.parametrize(("target", "round_to"), [(0.3, 2), (0.3, 16), (0.5, 8), (0.5, 16), (0.7, 2), (0.7, 8)])
def test_every_width_is_a_multiple_or_whole_and_the_target_holds(target: float, round_to: int, tmp_path: Path) -> None:
    made, exact = plan(target, round_to), plan(target, 1)
    assert made.round_to == round_to
    assert made.macs <= (1 - target) * made.macs_dense
    for group, free in zip(made.groups, exact.groups, strict=True):
        assert len(group.kept) % round_to == 0 or len(group.kept) == group.size
        # never farther than one step from what the policy wanted, unless the least is
        assert abs(len(group.kept) - len(free.kept)) < round_to or len(group.kept) <= round_to
    plans.save(tmp_path / "plan.json", made)
    assert plans.load(tmp_path / "plan.json") == made


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(shares=st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_no_group_that_lost_most_of_a_step_could_still_have_gone_up(shares: list[float]) -> None:
    graph = resnet20()
    groups = graph.in_scope("all")
    counts = {g.name: g.min_kept + round(s * (g.size - g.min_kept)) for g, s in zip(groups, shares, strict=True)}
    macs = ClosedForm(graph)
    budget = macs(counts)
    try:
        found = round_counts(counts, groups, 8, macs, budget)
    except InputError:
        least = {g.name: min(8, g.size) for g in groups}
        assert macs(least) > budget
        return
    assert macs(found) <= budget
    for group in groups:
        below = found[group.name] < counts[group.name]
        if below:
            up = min(found[group.name] // 8 * 8 + 8, group.size)
            assert macs({**found, group.name: up}) > budget


def test_without_a_target_each_goes_to_the_nearest() -> None:
    groups = resnet20().in_scope("all")[:1]
    macs = ClosedForm(resnet20())
    for count, nearest in [(3, 8), (11, 8), (12, 16), (13, 16), (16, 16)]:
        assert round_counts({groups[0].name: count}, groups, 8, macs, None) == {groups[0].name: nearest}


def test_multiples_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"round_to is 0; it must be at least 1"):
        plan(0.5, 0)
    with pytest.raises(InputError, match=r"no widths in such multiples have .* MACs or fewer: at the least there are"):
        plan(0.7, 16)
