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

from daar import models
from daar.api import InputError
from daar.methods import discovery
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


def test_steps_cost_what_a_group_alone_adds_to_the_loss() -> None:
    """Eighths of 3 channels are 3 and 2 channels, kmin being 2; of 8 they are 7 to 2."""

    def loss(removed: dict[str, list[int]]) -> float:
        return 1.5 + sum(len(gone) ** 2 / 4 for gone in removed.values())

    found = {g.name: list(rates().steps(rule(), g, loss, 1.5)) for g in EXAMPLE}
    # n² / 4 - (n - 1)² / 4
    dominated = [(7, 0.25), (6, 0.75), (5, 1.25), (4, 1.75), (3, 2.25), (2, 2.75)]
    assert found == {"sharp": [(2, 0.25)], "flat": [(2, 0.25)], "dominated": dominated}


def test_no_channel_counts_for_less_than_those_before_it() -> None:
    """The third channel costs 4, the fourth nothing, with the fifth the loss falls, the sixth costs 2."""
    added = {1: 1.0, 2: 2.0, 3: 6.0, 4: 6.0, 5: 5.0, 6: 7.0}
    found = rates().steps(rule(), EXAMPLE[2], lambda gone: added[len(gone["dominated"])], 0.0)
    assert list(found) == [(7, 1.0), (6, 1.0), (5, 4.0), (4, 4.0), (3, 4.0), (2, 4.0)]


def test_a_loss_that_falls_from_the_start_costs_nothing() -> None:
    found = rates().steps(rule(), EXAMPLE[0], lambda gone: -float(len(gone["sharp"])), 0.0)
    assert list(found) == [(2, 0.0)]


def test_the_least_loss_per_mac_goes_first() -> None:
    """The worked example: 0.3 for 2 MACs against 0.2 for 1; and a loss is asked for when its step is."""
    asked: list[dict[str, list[int]]] = []

    def loss(removed: dict[str, list[int]]) -> float:
        asked.append(removed)
        return 1.0 + sum({"sharp": 0.3, "flat": 0.2, "dominated": 9.0}[name] for name in removed)

    kept = rates().descend(rule(), loss, lambda counts: 2 * counts["sharp"] + counts["flat"] + counts["dominated"], 16)
    assert kept == {"sharp": 2, "flat": 3, "dominated": 8}
    assert asked == [{}, {"sharp": [2]}, {"flat": [0]}, {"dominated": [0]}]


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (45, {"g0": 24, "g1": 21}),  # 0.1 for the first three of g1
        (43, {"g0": 22, "g1": 21}),  # 0.2 for those of g0, of which two are needed
        (42, {"g0": 21, "g1": 21}),
        (41, {"g0": 21, "g1": 20}),  # 0.25 for the next of g1, and 0.3 for those of g0
        (40, {"g0": 21, "g1": 19}),
        (38, {"g0": 20, "g1": 18}),
    ],
)
def test_steps_are_taken_by_their_loss_and_of_the_last_only_what_is_needed(target: int, kept: dict[str, int]) -> None:
    """By hand: two groups of 24 channels, so of steps of three, at 1 MAC each; what g0 lost would be the first back."""
    groups = [group("g0", 24), group("g1", 24)]
    rule = rates().Cumulative(groups, {"g0": np.full(24, 1 / 24), "g1": np.array([0.5, *[0.5 / 23] * 23])})
    added = {"g0": {0: 0.0, 3: 0.2, 6: 0.5}, "g1": {0: 0.0, 3: 0.1, 6: 0.35, 9: 9.0}}

    def loss(removed: dict[str, list[int]]) -> float:
        return 1.0 + sum(added[name][len(gone)] for name, gone in removed.items())

    assert rates().descend(rule, loss, lambda counts: sum(counts.values()), target) == kept


def test_a_step_is_worth_its_loss_per_mac_whatever_the_size_of_its_group() -> None:
    """One of 3 channels for 0.3, or one of 8 for 0.2, both for a MAC."""
    losses = {"g0": 0.3, "g1": 0.2}
    kept = rates().descend(even_rule([3, 8]), lambda gone: sum(losses[g] for g in gone), lambda c: sum(c.values()), 10)
    assert kept == {"g0": 3, "g1": 7}


def test_a_step_that_saves_nothing_is_no_division_by_zero() -> None:
    """Channels of `flat` are free: 0.2 for none of them against 0.3 for one of `sharp`, and then `sharp` goes too."""

    def loss(removed: dict[str, list[int]]) -> float:
        return sum({"sharp": 0.3, "flat": 0.2, "dominated": 9.0}[name] for name in removed)

    kept = rates().descend(rule(), loss, lambda counts: counts["sharp"] + counts["dominated"], 10)
    assert (kept["sharp"], kept["dominated"]) == (2, 8)


def even_rule(sizes: list[int]) -> Any:
    """Groups g0, g1 … of equal shares."""
    groups = [group(f"g{i}", size) for i, size in enumerate(sizes)]
    return rates().Cumulative(groups, {g.name: np.full(g.size, 1 / g.size) for g in groups})


# what a group of so many channels alone adds to the loss, by how many go
alone = st.lists(st.floats(-1, 10), min_size=3, max_size=40)


@given(alone)
def test_steps_grow_ever_steeper(added: list[float]) -> None:
    size = len(added)
    one = even_rule([size])
    expected = sorted({max(one.groups[0].min_kept, -(-size * step // 8)) for step in range(8)}, reverse=True)
    counts = np.array([size, *[k for k in expected if k < size]])
    losses = np.array([0.0, *[added[size - k] for k in counts[1:]]])
    steepest = np.maximum.accumulate(np.maximum(0, np.diff(losses) / -np.diff(counts)))
    found = list(rates().steps(one, one.groups[0], lambda gone: added[len(gone["g0"])], 0.0))
    assert [count for count, _ in found] == counts[1:].tolist()
    np.testing.assert_allclose([price for _, price in found], steepest, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(alone, st.integers(1, 9)), min_size=1, max_size=5), st.floats(0, 1))
def test_the_descent_is_the_least_loss_within_the_target(groups: list[tuple[list[float], int]], where: float) -> None:
    """Held against linear programming, where a channel costs the same wherever: no more than one channel is cut too
    much."""
    several = even_rule([len(added) for added, _ in groups])
    cost = {f"g{i}": macs for i, (_, macs) in enumerate(groups)}

    def loss(removed: dict[str, list[int]]) -> float:
        return sum(groups[int(name[1:])][0][len(gone)] for name, gone in removed.items())

    def macs(counts: dict[str, int]) -> int:
        return sum(cost[name] * count for name, count in counts.items())

    curves = {g.name: curve(g.size, list(rates().steps(several, g, loss, 0.0))) for g in several.groups}
    low, high = (macs({name: counts[end] for name, (counts, _) in curves.items()}) for end in (0, -1))
    target = low + int(where * (high - low))
    counts = rates().descend(several, loss, macs, target)
    assert macs(counts) <= target
    added = sum(float(np.interp(counts[name], *known)) for name, known in curves.items())
    assert added <= least_loss(curves, cost, max(low, target - max(cost.values()))) + 1e-6


Curve = tuple[list[int], list[float]]


def curve(size: int, steps: list[tuple[int, float]]) -> Curve:
    """Counts, rising, and the loss that each adds."""
    counts, prices = [size, *[count for count, _ in steps]], [price for _, price in steps]
    losses = np.cumsum([0.0, *(np.array(prices) * -np.diff(counts))]).tolist()
    return counts[::-1], losses[::-1]


def least_loss(curves: dict[str, Curve], cost: dict[str, int], target: int) -> float:
    """The least added loss of any mixture of counts within the target, by scipy."""
    rungs = [(name, *rung) for name, known in curves.items() for rung in zip(*known, strict=True)]
    done = linprog(
        [loss for _, _, loss in rungs],
        A_ub=[[cost[name] * count for name, count, _ in rungs]],
        b_ub=[target],
        A_eq=[[float(name == of) for name, _, _ in rungs] for of in curves],
        b_eq=[1.0] * len(curves),
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
    assert macs(counts) <= budget
    assert all(counts[name] >= kept for name, kept in cumulative.counts(float(grid[-1])).items())


def test_a_target_out_of_reach_says_what_is_within() -> None:
    groups, shares, macs = example_of("resnet20", "inner")
    with pytest.raises(InputError, match=r"cannot be reached: .* there are ([\d,]+)\. Give a target of \1 or more"):
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
