"""DAAR's adaptive pruning rate: the worked example of docs/method.md, and brute force on small cases."""

import functools
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from daar import discovery, models
from daar.api import InputError
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import Group, channel_graph
from daar.pruning.importance import Importance, group_importance, ranking
from daar.pruning.policies import SLACK
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module


def daar() -> ModuleType:
    return discovery.load(discovery.get("daar"))


def rates() -> ModuleType:
    daar()
    return sys.modules["daar_method_daar.rates"]


def group(name: str, size: int) -> Group:
    channels = np.arange(size)
    return Group(name, channels, (name,), {name: channels}, joins=False, frozen=None)


EXAMPLE = [group("sharp", 3), group("flat", 3), group("dominated", 8)]
SHARES = {
    "sharp": np.array([28, 20, 12]) / 60,  # the spatial shares of the example
    "flat": np.full(3, 1 / 3),
    "dominated": np.array([0.02, 0.5, 0.02, 0.1, 0.02, 0.3, 0.02, 0.02]),
}


def rule() -> Any:
    return rates().Cumulative(EXAMPLE, SHARES)


def test_the_worked_example() -> None:
    """Three fourths of the attention: two of the sharp group's maps have 0.8 of it, of the flat one's all three."""
    assert rule().counts(0.75) == {"sharp": 2, "flat": 3, "dominated": 2}
    assert rule().counts(0.85) == {"sharp": 3, "flat": 3, "dominated": 3}


def test_ends_and_minimum() -> None:
    assert rule().counts(1.0) == {"sharp": 3, "flat": 3, "dominated": 8}
    assert rule().counts(0.0) == {g.name: g.min_kept for g in EXAMPLE}


def test_without_a_target_what_is_below_the_mean_goes() -> None:
    """1/3 is the mean of three: 28/60 and 20/60 are not below it, nor is any share of the flat group."""
    assert rule().above_mean() == {"sharp": 2, "flat": 3, "dominated": 2}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0, 1))
def test_counts_are_the_fewest_whose_shares_suffice(values: list[float], t: float) -> None:
    total = sum(values)
    shares = np.array(values) / total if total > 1e-6 else np.full(len(values), 1 / len(values))
    one = group("g", len(values))
    found = rates().Cumulative([one], {"g": shares}).counts(t)["g"]
    best_first = sorted(shares, reverse=True)
    enough = [k for k in range(1, len(values) + 1) if sum(best_first[:k]) >= t - 1e-9]
    expected = max(one.min_kept, enough[0] if enough else len(values))
    near = any(abs(sum(best_first[:k]) - t) < 1e-8 for k in range(len(values) + 1))
    assert found == expected or near  # at the step itself rounding decides


def test_what_is_masked_is_what_is_pruned() -> None:
    assert rule().removed("dominated", 3) == {"dominated": [0, 2, 4, 6, 7]}
    # of equals the lower index goes first
    assert rule().removed("flat", 2) == {"flat": [0]}


def test_ladders_hold_what_a_group_alone_adds_to_the_loss() -> None:
    """Of t = 1, 7/8 … 0, the example's groups have the counts 3, 2; 3, 2; 8, 3, 2 (kmin is 2)."""
    asked: list[dict[str, list[int]]] = []

    def loss(removed: dict[str, list[int]]) -> float:
        asked.append(removed)
        return 1.5 + sum(len(gone) ** 2 / 4 for gone in removed.values())

    found = rates().ladders(rule(), loss)
    assert found == {
        "sharp": [(3, 0.0), (2, 0.25)],
        "flat": [(3, 0.0), (2, 0.25)],
        "dominated": [(8, 0.0), (3, 6.25), (2, 9.0)],
    }
    fewer = [{"dominated": [0, 2, 4, 6, 7]}, {"dominated": [0, 2, 3, 4, 6, 7]}]
    assert asked == [{}, {"sharp": [2]}, {"flat": [0]}, *fewer]


def test_the_least_loss_per_mac_goes_first() -> None:
    """The worked example: 0.3 for 2 MACs against 0.2 for 1."""
    pair = rates().Cumulative(EXAMPLE[:2], {name: SHARES[name] for name in ("sharp", "flat")})
    steps = {"sharp": [(3, 0.0), (2, 0.3)], "flat": [(3, 0.0), (2, 0.2)]}
    found = rates().descend(pair, steps, lambda counts: 2 * counts["sharp"] + counts["flat"], 8)
    assert found == {"sharp": 2, "flat": 3}


def test_a_step_that_costs_more_than_the_next_ones_is_no_rung() -> None:
    """From 8 to 3 channels costs 5 more, to 2 only 3 in all."""
    found = rates().ladders(rule(), lambda gone: {0: 0.0, 1: 1.0, 5: 5.0, 6: 3.0}[sum(map(len, gone.values()))])
    assert found["dominated"] == [(8, 0.0), (2, 3.0)]


@st.composite
def curves(draw: st.DrawFn) -> list[tuple[int, float]]:
    """A group's counts, falling, and the loss that each adds, in any order."""
    counts = sorted(draw(st.sets(st.integers(2, 40), min_size=2, max_size=9)), reverse=True)
    added = draw(st.lists(st.floats(0.01, 10), min_size=len(counts) - 1, max_size=len(counts) - 1))
    return list(zip(counts, [0.0, *added], strict=True))


@given(curves())
def test_rungs_are_the_lower_convex_hull(points: list[tuple[int, float]]) -> None:
    hull = rates()._hull(points)
    assert set(hull) <= set(points)
    assert (hull[0], hull[-1]) == (points[0], points[-1])
    slopes = -np.diff([loss for _, loss in hull]) / np.diff([count for count, _ in hull])
    assert (np.diff(slopes) > -1e-12).all()
    counts, losses = zip(*reversed(hull), strict=True)
    assert all(np.interp(count, counts, losses) <= loss + 1e-9 for count, loss in points)


@settings(deadline=None)
@given(st.lists(st.tuples(curves(), st.integers(1, 9)), min_size=1, max_size=5), st.floats(0, 1))
def test_the_descent_is_the_least_loss_within_the_target(
    groups: list[tuple[list[tuple[int, float]], int]], where: float
) -> None:
    """Held against linear programming, where a channel costs the same wherever: no more than one channel is cut too
    much."""
    ladders = {f"g{i}": rates()._hull(points) for i, (points, _) in enumerate(groups)}
    cost = {f"g{i}": price for i, (_, price) in enumerate(groups)}
    of = [group(name, steps[0][0]) for name, steps in ladders.items()]

    def macs(counts: dict[str, int]) -> int:
        return sum(cost[name] * count for name, count in counts.items())

    low, high = (macs({name: steps[end][0] for name, steps in ladders.items()}) for end in (-1, 0))
    target = low + int(where * (high - low))
    worthless = rates().Cumulative(of, {g.name: np.full(g.size, 1 / g.size) for g in of})
    counts = rates().descend(worthless, ladders, macs, target)
    assert macs(counts) <= target

    def added(counts: dict[str, int]) -> float:
        total = 0.0
        for name, steps in ladders.items():
            known, losses = zip(*reversed(steps), strict=True)
            total += float(np.interp(counts[name], known, losses))
        return total

    assert added(counts) <= least_loss(ladders, cost, max(low, target - max(cost.values()))) + 1e-6


def least_loss(ladders: dict[str, list[tuple[int, float]]], cost: dict[str, int], target: int) -> float:
    """The least added loss of any mixture of rungs within the target, by scipy."""
    rungs = [(name, count, loss) for name, steps in ladders.items() for count, loss in steps]
    done = linprog(
        [loss for _, _, loss in rungs],
        A_ub=[[cost[name] * count for name, count, _ in rungs]],
        b_ub=[target],
        A_eq=[[float(name == of) for name, _, _ in rungs] for of in ladders],
        b_eq=[1.0] * len(ladders),
    )
    assert done.success, done.message
    return float(done.fun)


# with a network's MACs


def example_of(network: str, scope: str = "all") -> tuple[tuple[Group, ...], Importance, ClosedForm]:
    graph = channel_graph(models.get(network).build(10), torch.zeros(1, 3, 32, 32))
    dice = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(len(graph.layers[name].outputs), generator=dice) ** 3 for name in graph.scored_layers()}
    groups = graph.in_scope(scope)
    shares = group_importance(groups, scores)
    return groups, shares, ClosedForm(graph, {g.name: ranking(g, shares[g.name]) for g in groups})


def no_loss(_: dict[str, list[int]]) -> float:
    raise AssertionError("without adjustment nothing is masked")


@pytest.mark.parametrize("network", list(models.NETWORKS))
@pytest.mark.parametrize("reduction", [0.2, 0.5])
def test_a_target_is_met_closely(network: str, reduction: float) -> None:
    """Within it, by at most 0.2 points unless no channel fits any more, and each group above its minimum."""
    groups, shares, macs = example_of(network)
    dense = macs({})
    budget = int((1 - reduction) * dense)
    counts = daar().plan(groups, shares, budget, macs=macs, loss=no_loss, adjust=False)
    assert all(g.min_kept <= counts[g.name] <= g.size for g in groups)
    assert macs(counts) <= budget
    wider = [{**counts, g.name: counts[g.name] + 1} for g in groups if counts[g.name] < g.size]
    fits = [more for more in wider if macs(more) <= budget]
    assert budget - macs(counts) <= SLACK * dense or not fits


def test_the_scalar_is_the_largest_within_the_target() -> None:
    """No larger t fits: every group keeps at least what the largest t on a fine grid gives it."""
    groups, shares, macs = example_of("resnet20")
    budget = int(0.4 * macs({}))
    cumulative = rates().Cumulative(groups, shares)
    grid = [t for t in np.linspace(0, 1, 20001) if macs(cumulative.counts(float(t))) <= budget]
    counts = daar().plan(groups, shares, budget, macs=macs, loss=no_loss, adjust=False)
    assert all(counts[name] >= kept for name, kept in cumulative.counts(float(grid[-1])).items())


def test_a_target_out_of_reach_says_what_is_within() -> None:
    groups, shares, macs = example_of("resnet20", "inner")
    with pytest.raises(InputError, match=r"cannot be reached: .* The closest macs_reduction is 0\.\d+; or choose"):
        daar().plan(groups, shares, int(0.01 * macs({})), macs=macs, loss=no_loss, adjust=False)


def test_adjustment_gives_sensitive_groups_more() -> None:
    groups, shares, macs = example_of("resnet20")
    budget = int(0.5 * macs({}))
    sensitive = {"layer2.0.conv1", "layer3.1.conv1"}

    def loss(removed: dict[str, list[int]], factor: float = 1.0) -> float:
        return 1.0 + sum((factor if name in sensitive else 1.0) * len(gone) for name, gone in removed.items())

    dear, cheap = (
        daar().plan(groups, shares, budget, macs=macs, loss=functools.partial(loss, factor=factor))
        for factor in (1e6, 1e-6)
    )
    assert max(macs(dear), macs(cheap)) <= budget
    assert all(dear[g.name] == g.size for g in groups if g.name in sensitive)
    assert all(cheap[g.name] <= g.size / 4 for g in groups if g.name in sensitive)


def test_adjustment_spreads_what_the_mean_threshold_leaves() -> None:
    """(9) keeps 2, 3 and 2 channels; so many MACs are spread anew, the sharp group being dear and the flat one not."""
    found = daar().plan(
        EXAMPLE,
        SHARES,
        None,
        macs=lambda counts: sum(counts.values()),
        loss=lambda gone: 9.0 * len(gone.get("sharp", ())) + sum(map(len, gone.values())),
    )
    assert found == {"sharp": 3, "flat": 2, "dominated": 2}


def test_adjustment_of_a_target_out_of_reach_asks_for_no_loss() -> None:
    groups, shares, macs = example_of("resnet20", "inner")
    with pytest.raises(InputError, match="cannot be reached"):
        daar().plan(groups, shares, int(0.01 * macs({})), macs=macs, loss=no_loss)
