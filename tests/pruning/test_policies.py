"""Counts by policy, and plans of them: against budgets, brute force and arithmetic by hand."""

import functools
import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daar import models
from daar.errors import InputError
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, Group, channel_graph
from daar.pruning.plan import SCOPES, Plan
from daar.pruning.planning import make_plan
from tests.networks import one_thread  # noqa: F401  # it acts on this module

TARGETS = (0.5, 0.7, 0.841)


def uniform(
    graph: ChannelGraph, scope: str, budget: int | None, shares: dict[str, Any] | None = None, policy: str = "uniform"
) -> dict[str, int]:
    groups = graph.in_scope(scope)
    equal = {g.name: np.full(g.size, 1 / g.size) for g in groups}
    return policies.get(policy)(groups, shares or equal, budget, macs=ClosedForm(graph), loss=lambda _: 0.0)


def global_(
    graph: ChannelGraph, scope: str, budget: int | None, shares: dict[str, Any] | None = None
) -> dict[str, int]:
    return uniform(graph, scope, budget, shares, "global")


def chain(*widths: int) -> ChannelGraph:
    """A chain of 3×3 convs of these widths on 8×8 images."""
    layers = [nn.Conv2d(read, made, 3, padding=1) for read, made in itertools.pairwise((3, *widths))]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
    return channel_graph(model, torch.zeros(1, 3, 8, 8))


def chain_macs(counts: list[int]) -> int:
    """MACs of such a chain, by hand."""
    return sum(64 * 9 * read * made for read, made in itertools.pairwise((3, *counts))) + 10 * counts[-1]


# budgets


def reachable(name: str, graph: ChannelGraph, scope: str) -> list[float]:
    """The targets that leave each group its least; what lies beyond is refused (tested below)."""
    macs = ClosedForm(graph)
    least = macs({g.name: g.min_kept for g in graph.in_scope(scope)})
    found = [target for target in TARGETS if least <= (1 - target) * macs({})]
    # all of DenseNet's channels reach a concatenation; GoogLeNet's branches end in one
    assert tuple(found) == {("densenet40", "inner"): (), ("googlenet", "inner"): TARGETS[:-1]}.get(
        (name, scope), TARGETS
    )
    return found


@functools.cache
def graph_of(name: str) -> ChannelGraph:
    network = models.get(name)
    graph = channel_graph(network.build(network.classes), torch.zeros(1, *network.input_shape))
    assert ClosedForm(graph)({}) == network.macs
    return graph


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_uniform_meets_its_targets_from_below_within_a_fifth_of_a_point(name: str) -> None:
    graph = graph_of(name)
    macs = ClosedForm(graph)
    dense = macs({})
    for scope, target in [(s, t) for s in SCOPES for t in reachable(name, graph, s)]:
        counts = uniform(graph, scope, int((1 - target) * dense))
        assert 0 <= 100 * (1 - macs(counts) / dense - target) <= 0.2, (scope, target)
        assert set(counts) == {g.name for g in graph.in_scope(scope)}
        assert all(g.min_kept <= counts[g.name] <= g.size for g in graph.in_scope(scope))


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(widths=st.lists(st.integers(3, 40), min_size=1, max_size=4), reduction=st.floats(0.02, 0.7))
def test_uniform_keeps_the_most_that_one_ratio_can(widths: list[int], reduction: float) -> None:
    """Brute force over all ratios at which any count changes; then one more channel nowhere fits, or it is close."""
    graph = chain(*widths)
    budget = int((1 - reduction) * chain_macs(widths))
    least = [max(2, math.ceil(width / 20)) for width in widths]
    ratios = sorted({1 - kept / width for width in widths for kept in range(width + 1)})
    at = {
        ratio: [max(low, math.floor((1 - ratio) * width + 1e-6)) for low, width in zip(least, widths, strict=True)]
        for ratio in ratios
    }
    within = [ratio for ratio in ratios if chain_macs(at[ratio]) <= budget]
    if not within:
        with pytest.raises(InputError, match="cannot be reached"):
            uniform(graph, "all", budget)
        return
    found = list(uniform(graph, "all", budget).values())
    assert chain_macs(found) <= budget
    assert all(kept >= low for kept, low in zip(found, at[within[0]], strict=True))
    if chain_macs(found) < budget - 0.002 * chain_macs(widths):
        for position in range(len(found)):
            more = [kept + (index == position) for index, kept in enumerate(found)]
            assert more[position] > widths[position] or chain_macs(more) > budget


def test_the_rest_goes_to_the_largest_fractional_remainder_first() -> None:
    """By hand: groups of 10, 4 and 7 channels at 100, 9 and 10 MACs each, none coupled; 1,106 in all.

    A ratio just above 0.3 keeps 6, 2 and 4: 658 MACs, and at 0.3 there would be 7 of the first: 758. The remainders are
    1, 0.8 and 0.9. Of what is left nothing fits the first; the third comes before the second.
    """
    graph = chain(10, 4, 7)
    groups = graph.in_scope("all")
    prices = dict(zip("012", (100, 9, 10), strict=True))

    def macs(counts: dict[str, int]) -> int:
        return sum(prices[name] * count for name, count in counts.items())

    def found(budget: int) -> list[int]:
        return list(policies.uniform(groups, {}, budget, macs=macs, loss=lambda _: 0.0).values())

    assert macs({"0": 10, "1": 4, "2": 7}) == 1106
    assert found(658) == [6, 2, 4]
    assert found(670) == [6, 2, 5]  # 2 are left, within 0.2 % of 1,106
    assert found(679) == [6, 3, 5]
    assert found(688) == [6, 3, 6]  # a second turn
    assert found(667) == [6, 3, 4]  # 10 do not fit, 9 do


def test_edges() -> None:
    graph = chain(6, 5)
    assert uniform(graph, "all", chain_macs([6, 5])) == {"0": 6, "1": 5}
    with pytest.raises(InputError, match="policy 'uniform' has no rate of its own"):
        uniform(graph, "all", None)
    with pytest.raises(InputError, match=r"unknown policy 'unifrom'; there are: .*uniform"):
        policies.get("unifrom")
    assert policies.names()["uniform"].startswith("One pruning ratio for all groups")


# one threshold


def drawn_shares(graph: ChannelGraph, seed: int, levels: int) -> dict[str, Any]:
    """Random shares of the groups; the fewer levels, the more equals and zeros."""
    dice = np.random.default_rng(seed)
    shares = {}
    for g in graph.in_scope("all"):
        drawn = dice.integers(0, levels, g.size)
        drawn[0] += 1  # a group of nothing but zeros has no shares
        shares[g.name] = drawn / drawn.sum()
    return shares


def at_threshold(widths: list[int], worth: list[list[float]], threshold: float) -> list[int]:
    return [
        max(2, math.ceil(width / 20), sum(value >= threshold for value in values))
        for width, values in zip(widths, worth, strict=True)
    ]


def best_of_all_thresholds(widths: list[int], worth: list[list[float]], budget: int) -> list[int] | None:
    """Try every threshold, then spend channel by channel, asking every group each time."""
    every = {math.inf, *(value for values in worth for value in values)}
    within = [t for t in every if chain_macs(at_threshold(widths, worth, t)) <= budget]
    if not within:
        return None
    counts = at_threshold(widths, worth, min(within))
    while budget - chain_macs(counts) > 0.002 * chain_macs(widths):
        best: tuple[float, int] | None = None
        for place, (kept, width) in enumerate(zip(counts, widths, strict=True)):
            more = [count + (index == place) for index, count in enumerate(counts)]
            if kept == width or chain_macs(more) > budget:
                continue
            per_mac = sorted(worth[place], reverse=True)[kept] / (chain_macs(more) - chain_macs(counts))
            if best is None or per_mac > best[0]:
                best = per_mac, place
        if best is None:
            break
        counts[best[1]] += 1
    return counts


WIDTHS = st.lists(st.integers(3, 30), min_size=1, max_size=4)


@settings(deadline=None, derandomize=True, max_examples=150, database=None)
@given(widths=WIDTHS, seed=st.integers(0, 99), levels=st.sampled_from([2, 3, 9, 1000]), reduction=st.floats(0.0, 0.8))
def test_global_is_the_best_of_all_thresholds(widths: list[int], seed: int, levels: int, reduction: float) -> None:
    graph = chain(*widths)
    shares = drawn_shares(graph, seed, levels)
    worth = [(len(share) * share).round(12).tolist() for share in shares.values()]
    budget = int((1 - reduction) * chain_macs(widths))
    expected = best_of_all_thresholds(widths, worth, budget)
    if expected is None:
        with pytest.raises(InputError, match="cannot be reached"):
            global_(graph, "all", budget, shares)
        return
    found = list(global_(graph, "all", budget, shares).values())
    assert found == expected
    assert chain_macs(found) <= budget
    assert all(max(2, math.ceil(w / 20)) <= kept <= w for kept, w in zip(found, widths, strict=True))
    if chain_macs(found) < budget - 0.002 * chain_macs(widths):
        for place in range(len(found)):
            more = [kept + (index == place) for index, kept in enumerate(found)]
            assert more[place] > widths[place] or chain_macs(more) > budget


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(widths=WIDTHS, seed=st.integers(0, 99), low=st.floats(0.1, 1), high=st.floats(0.1, 1))
def test_a_larger_budget_is_never_spent_less(widths: list[int], seed: int, low: float, high: float) -> None:
    graph = chain(*widths)
    shares = drawn_shares(graph, seed, 50)
    dense, least = chain_macs(widths), chain_macs([max(2, math.ceil(width / 20)) for width in widths])
    budgets = sorted(max(least, int(part * dense)) for part in (low, high))
    less, more = (chain_macs(list(global_(graph, "all", budget, shares).values())) for budget in budgets)
    assert less <= more


@settings(deadline=None, derandomize=True, max_examples=40, database=None)
@given(width=st.integers(4, 30), depth=st.integers(1, 4), seed=st.integers(0, 99), data=st.data())
def test_global_is_uniform_where_all_groups_are_alike(width: int, depth: int, seed: int, data: st.DataObject) -> None:
    """Equal sizes and the same shares, though in other places: each threshold leaves all groups the same count."""
    graph = chain(*[width] * depth)
    dice = np.random.default_rng(seed)
    profile = np.arange(1, width + 1) / (width * (width + 1) / 2)
    shares = {g.name: dice.permutation(profile) for g in graph.in_scope("all")}
    kept = data.draw(st.integers(max(2, math.ceil(width / 20)), width))
    budget = chain_macs([kept] * depth)
    expected = dict.fromkeys(shares, kept)
    assert global_(graph, "all", budget, shares) == uniform(graph, "all", budget, shares) == expected


def test_the_rest_goes_to_what_is_worth_most_per_mac() -> None:
    """By hand: 10, 4 and 7 channels at 100, 9 and 10 MACs each, none coupled; 1,106 in all.

    Of the first two stay 1.9 each and the rest is worth 0.775; of the second all are worth 1; of the third 1.4 four
    times, then 0.7, 0.4, 0.3. At a threshold of 1 there are 2, 4 and 4: 276 MACs. Below, 0.775 would bring 8 more.
    """
    graph = chain(10, 4, 7)
    groups = graph.in_scope("all")
    prices = dict(zip("012", (100, 9, 10), strict=True))
    shares = {"0": [1.9] * 2 + [0.775] * 8, "1": [1.0] * 4, "2": [0.3, 1.4, 1.4, 1.4, 1.4, 0.4, 0.7]}
    shares_of = {name: np.array(values) / len(values) for name, values in shares.items()}

    def macs(counts: dict[str, int]) -> int:
        return sum(prices[name] * count for name, count in counts.items())

    def found(budget: int) -> list[int]:
        return list(policies.get("global")(groups, shares_of, budget, macs=macs, loss=lambda _: 0.0).values())

    assert found(276) == [2, 4, 4]
    assert found(285) == [2, 4, 4]  # 10 do not fit
    assert found(286) == [2, 4, 5]
    assert found(390) == [2, 4, 7]  # 0.07, 0.04 and 0.03 per MAC, then nothing fits: 0.00775 was last in the queue
    assert found(406) == [3, 4, 7]
    assert found(275) == [2, 3, 4]  # at 1.4: 2, 2 and 4, 258 MACs; then 0.111 per MAC is first, and 8 are left
    assert macs({"0": 2, "1": 2, "2": 4}) == 258


def test_equal_shares_of_groups_of_unequal_size_are_equals() -> None:
    """49 × 1/49 is less than 1 in binary; still the earlier group comes first, as among equals."""
    assert 49 * (1 / 49) < 1
    groups = chain(49, 7).in_scope("all")
    shares = {g.name: np.full(g.size, 1 / g.size) for g in groups}
    found = policies.get("global")(groups, shares, 30, macs=lambda c: sum(c.values()), loss=lambda _: 0.0)
    assert found == {"0": 28, "1": 2}


def test_what_a_member_needs_stays_beside_what_reaches_the_threshold() -> None:
    """Of b two channels must stay, though they are worth less than a's third: at 1.2 five stay, not four."""
    members = {"a": np.array([0, 1, 2]), "b": np.array([3, 4, 5]), "c": np.arange(6)}
    joined = Group("a", np.arange(6), tuple(members), members, joins=False, frozen=None)
    single = Group("d", np.arange(6, 10), ("d",), {"d": np.arange(4)}, joins=False, frozen=None)
    shares = {"a": np.array([0.3, 0.25, 0.2, 0.12, 0.08, 0.05]), "d": np.array([0.4, 0.3, 0.2, 0.1])}
    plan = policies.get("global")
    found = plan((joined, single), shares, 7, macs=lambda c: sum(c.values()), loss=lambda _: 0.0)
    assert found == {"a": 5, "d": 2}  # d is worth 1.6, 1.2, 0.8, 0.4


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_global_meets_its_targets_from_below_and_in_time(name: str, scope: str) -> None:
    graph = graph_of(name)
    dice = np.random.default_rng(1)
    shares = {g.name: dice.dirichlet(np.ones(g.size)) for g in graph.in_scope(scope)}
    macs = ClosedForm(graph)
    for target in reachable(name, graph, scope):
        budget = int((1 - target) * macs({}))
        start = time.process_time()
        counts = global_(graph, scope, budget, shares)
        assert time.process_time() - start < 1
        assert all(g.min_kept <= counts[g.name] <= g.size for g in graph.in_scope(scope))
        assert macs(counts) <= budget
        if macs(counts) < budget - 0.002 * macs({}):
            for g in graph.in_scope(scope):
                more = {**counts, g.name: counts[g.name] + 1}
                assert more[g.name] > g.size or macs(more) > budget, g.name


def test_edges_of_global() -> None:
    graph = chain(40, 40)
    assert global_(graph, "all", chain_macs([40, 40])) == {"0": 40, "1": 40}
    with pytest.raises(InputError, match=r"policy 'global' has no rate of its own. Give a target: a macs_reduction"):
        global_(graph, "all", None)
    assert policies.names()["global"].startswith("One threshold on size × share for all groups")


# plans


def planned(graph: ChannelGraph, scores: dict[str, Any], policy: Any, **changes: Any) -> Plan:
    usual: dict[str, Any] = {"options": {}, "method": "x", "policy_name": "odd", "scope": "all", "target": None}
    return make_plan(graph, scores, policy, loss=lambda _: 7.0, **{**usual, **changes})


def test_a_plan_keeps_the_most_important() -> None:
    scores = {"0": torch.tensor([0.6, 0.1, 0.5, 0.1, 0.4, 0.1]), "1": torch.tensor([5.0, 5.0, 5.0, 5.0, 5.0])}
    plan = planned(chain(6, 5), scores, lambda *_, **__: {"0": 4, "1": 3})
    assert {g.name: g.kept for g in plan.groups} == {"0": (0, 2, 4, 5), "1": (2, 3, 4)}
    assert (plan.macs_dense, plan.macs) == (chain_macs([6, 5]), chain_macs([4, 3]))


@pytest.mark.parametrize("counts", [{"0": 1, "1": 3}, {"0": 7, "1": 3}, {"0": 4}])
def test_a_policy_that_breaks_its_contract_is_refused(counts: dict[str, int]) -> None:
    said = r"keeps [17] channels of '0'; it must keep 2 to 6|returns no count for group '1'; it must return one"
    with pytest.raises(InputError, match=rf"policy 'odd' ({said}).* Correct the policy"):
        planned(chain(6, 5), {"0": torch.ones(6), "1": torch.ones(5)}, lambda *_, **__: counts, target=0.5)


def test_a_policy_gets_what_the_contract_says() -> None:
    seen: dict[str, Any] = {}

    def policy(groups: Any, importance: Any, macs_target: Any, *, macs: Any, loss: Any, tilt: int) -> dict[str, int]:
        seen.update(locals())
        return {"0": 4, "1": 4}

    scores = {"0": torch.ones(6), "1": torch.ones(5)}
    planned(chain(6, 5), scores, policy, target=0.25, options={"tilt": 3})
    assert [g.name for g in seen["groups"]] == ["0", "1"]
    assert {name: vector.sum() for name, vector in seen["importance"].items()} == pytest.approx({"0": 1, "1": 1})
    assert seen["macs_target"] == int(0.75 * chain_macs([6, 5]))
    assert seen["macs"]({"0": 2, "1": 3}) == chain_macs([2, 3])
    assert (seen["loss"]({}), seen["tilt"]) == (7.0, 3)


def test_a_policy_that_misses_its_target_is_told_so() -> None:
    scores = {"0": torch.ones(6), "1": torch.ones(5)}
    with pytest.raises(InputError, match=r"policy 'odd' misses the target: .* [\d,]+ or fewer were .*\. Correct"):
        planned(chain(6, 5), scores, lambda *_, **__: {"0": 6, "1": 5}, target=0.25)
    assert planned(chain(6, 5), scores, lambda *_, **__: {"0": 6, "1": 5}, target=None).macs == chain_macs([6, 5])
