"""Counts in multiples: near to the policy's, within the target, and as the plan says."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daar import models
from daar.errors import InputError
from daar.pruning import plan as plans
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, Group, channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.policy import Macs
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


def lines(*sizes: int) -> list[Group]:
    """Groups of one conv each, a, b, c, …, none coupled, so that MACs may be any sum over their counts."""
    return [
        Group(name, np.arange(size), (name,), {name: np.arange(size)}, joins=False, frozen=None)
        for name, size in zip("abcd", sizes, strict=False)
    ]


def nearest(groups: list[Group], counts: dict[str, int], macs: Macs, budget: int, how: Callable[..., Any]) -> Any:
    """Brute force: the multiples of 8 within the budget whose distances from the counts are least by `how`."""
    multiples = itertools.product(*(range(8, group.size + 1, 8) for group in groups))
    every = [dict(zip(counts, sizes, strict=True)) for sizes in multiples]
    return min(
        (found for found in every if macs(found) <= budget),
        key=lambda found: how(abs(counts[name] - found[name]) for name in counts),
    )


def test_what_must_go_down_goes_where_least_is_lost() -> None:
    """By hand: a must rise from 3 to 8, its least, at 3 MACs each; of b and c one must give up 8 channels for that.

    All rounded, 8, 16 and 16, they take 56 of 48. b has all its 16 as yet and would lose 8; c has lost 7 of its 23.
    """
    groups, counts = lines(16, 16, 24), {"a": 3, "b": 16, "c": 23}

    def macs(kept: dict[str, int]) -> int:
        return 3 * kept["a"] + kept["b"] + kept["c"]

    found = round_counts(counts, groups, 8, macs, macs(counts))
    assert found == nearest(groups, counts, macs, macs(counts), max) == {"a": 8, "b": 8, "c": 16}


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(data=st.data(), multiple=st.sampled_from([2, 4, 8]), spare=st.one_of(st.just(0), st.integers(-20, 40)))
def test_what_rounding_may_and_may_not_do(data: st.DataObject, multiple: int, spare: int) -> None:
    """Of any groups and prices: the target holds, and no group is further from its count than it need be."""
    sizes = data.draw(st.lists(st.integers(4, 30), min_size=1, max_size=4))
    groups = lines(*sizes)
    counts = {group.name: data.draw(st.integers(2, group.size)) for group in groups}
    prices = {group.name: data.draw(st.integers(1, 9)) for group in groups}
    allowed = {g.name: [s for s in range(2, g.size + 1) if s % multiple == 0 or s == g.size] for g in groups}

    def macs(kept: dict[str, int]) -> int:
        return sum(prices[name] * count for name, count in kept.items())

    budget = macs(counts) + spare
    least = {name: sizes[0] for name, sizes in allowed.items()}
    down = {name: max([least[name], *(s for s in allowed[name] if s <= count)]) for name, count in counts.items()}
    if macs(least) > budget:
        with pytest.raises(InputError, match="no widths in such multiples"):
            round_counts(counts, groups, multiple, macs, budget)
        return
    kept = round_counts(counts, groups, multiple, macs, budget)
    assert macs(kept) <= budget
    for name, count in counts.items():
        assert kept[name] in allowed[name]
        # the next lower multiple would be too few, or there is none
        assert all(size < count for size in allowed[name] if size < kept[name])
        if macs(down) <= budget:
            assert kept[name] >= down[name]
        if kept[name] < count:
            up = min(size for size in allowed[name] if size > kept[name])
            assert macs({**kept, name: up}) > budget
            for other, wanted in counts.items():
                lower = [size for size in allowed[other] if size < kept[other]]
                if kept[other] > wanted and lower:  # no exchange of a step comes closer, unless it is close already
                    exchanged = macs({**kept, name: up, other: lower[-1]})
                    close = budget - 0.002 * macs({group.name: group.size for group in groups})
                    assert exchanged > budget or exchanged <= macs(kept) or macs(kept) >= close


def test_what_can_go_up_goes_where_most_was_lost() -> None:
    """By hand: rounded down to 8 and 8, 11 of 27 MACs are left; 7 and 4 channels were lost, and one step of 8 fits."""
    groups, counts = lines(24, 24), {"a": 12, "b": 15}

    def macs(kept: dict[str, int]) -> int:
        return sum(kept.values())

    found = round_counts(counts, groups, 8, macs, macs(counts))
    assert found == nearest(groups, counts, macs, macs(counts), sum) == {"a": 8, "b": 16}


def test_multiples_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"round_to is 0; it must be at least 1"):
        plan(0.5, 0)
    with pytest.raises(InputError, match=r"no widths in such multiples have .* MACs or fewer: at the least there are"):
        plan(0.7, 16)
