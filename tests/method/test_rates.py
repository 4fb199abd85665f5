"""DAAR's adaptive pruning rate: the worked example of docs/method.md, and brute force on small cases."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
EVEN = dict.fromkeys(SHARES, 1.0)


def rule(weights: dict[str, float] | None = None) -> Any:
    return rates().Cumulative(EXAMPLE, SHARES, weights or EVEN)


def test_the_worked_example() -> None:
    """Three fourths of the attention: two of the sharp group's maps have 0.8 of it, of the flat one's all three."""
    assert rule().counts(0.75) == {"sharp": 2, "flat": 3, "dominated": 2}
    assert rule().counts(0.85) == {"sharp": 3, "flat": 3, "dominated": 3}
    # a group twice as sensitive: 0.75^(1/2) = 0.866
    assert rule({**EVEN, "sharp": 2.0}).counts(0.75)["sharp"] == 3
    # one half as sensitive: 0.85^2 = 0.7225
    assert rule({**EVEN, "sharp": 0.5}).counts(0.85)["sharp"] == 2


def test_ends_and_minimum() -> None:
    assert rule().counts(1.0) == {"sharp": 3, "flat": 3, "dominated": 8}
    assert rule().counts(0.0) == {g.name: g.min_kept for g in EXAMPLE}


def test_without_a_target_what_is_below_the_mean_goes() -> None:
    """1/3 is the mean of three: 28/60 and 20/60 are not below it, nor is any share of the flat group."""
    assert rule().above_mean() == {"sharp": 2, "flat": 3, "dominated": 2}
    # a sensitive group keeps what is above half of the mean: 12/60 ≥ 1/6
    assert rule({**EVEN, "sharp": 2.0}).above_mean()["sharp"] == 3


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_counts_are_the_fewest_whose_shares_suffice(values: list[float], t: float, weight: float) -> None:
    total = sum(values)
    shares = np.array(values) / total if total > 1e-6 else np.full(len(values), 1 / len(values))
    one = group("g", len(values))
    found = rates().Cumulative([one], {"g": shares}, {"g": weight}).counts(t)["g"]
    best_first = sorted(shares, reverse=True)
    enough = [k for k in range(1, len(values) + 1) if sum(best_first[:k]) >= t ** (1 / weight) - 1e-9]
    expected = max(one.min_kept, enough[0] if enough else len(values))
    near = any(abs(sum(best_first[:k]) - t ** (1 / weight)) < 1e-8 for k in range(len(values) + 1))
    assert found == expected or near  # at the step itself rounding decides


def test_what_is_masked_is_what_is_pruned() -> None:
    assert rule().removed("dominated", 3) == {"dominated": [0, 2, 4, 6, 7]}
    # of equals the lower index goes first
    assert rule().removed("flat", 2) == {"flat": [0]}


def test_weights_follow_the_loss_that_a_group_adds_alone() -> None:
    """e = 0.1, 0.4 and 10 above the dense loss: median 0.4, √(e/0.4) = 0.5, 1 and 5, the last held at 2."""
    asked: list[dict[str, list[int]]] = []
    added = {"sharp": 0.1, "flat": 0.4, "dominated": 10.0}

    def loss(removed: dict[str, list[int]]) -> float:
        asked.append(removed)
        return 1.0 + sum(added[name] for name in removed)

    found = rates().sensitivities(rule(), {"sharp": 2, "flat": 2, "dominated": 3}, loss)
    assert found == {"sharp": pytest.approx(0.5), "flat": pytest.approx(1.0), "dominated": 2.0}
    assert asked == [{}, {"sharp": [2]}, {"flat": [0]}, {"dominated": [0, 2, 4, 6, 7]}]


def test_weights_are_even_where_half_of_the_groups_add_nothing() -> None:
    found = rates().sensitivities(rule(), {"sharp": 2, "flat": 2, "dominated": 3}, lambda gone: float("flat" in gone))
    assert found == EVEN


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
    cumulative = rates().Cumulative(groups, shares, {g.name: 1.0 for g in groups})
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

    def loss(removed: dict[str, list[int]]) -> float:
        return 1.0 + sum(16.0 if name in sensitive else 1.0 for name in removed)

    plain = daar().plan(groups, shares, budget, macs=macs, loss=no_loss, adjust=False)
    found = daar().plan(groups, shares, budget, macs=macs, loss=loss)
    assert macs(found) <= budget
    assert all(found[name] > plain[name] for name in sensitive)


def test_adjustment_holds_without_a_target_too() -> None:
    found = daar().plan(EXAMPLE, SHARES, None, macs=lambda _: 0, loss=lambda gone: float(len(gone)), adjust=True)
    assert found == rule().above_mean(), "all groups equally sensitive: nothing to adjust"
    uneven = daar().plan(
        EXAMPLE, SHARES, None, macs=lambda _: 0, loss=lambda gone: 4.0 * ("sharp" in gone) + len(gone), adjust=True
    )
    assert uneven["sharp"] == 3
