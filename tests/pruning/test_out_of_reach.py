"""What a refused target is told to do: followed, each advice reaches what it says; none was followed already."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from daar import api
from daar.errors import InputError
from daar.pruning import policies
from daar.pruning.groups import ChannelGraph, Group, channel_graph
from daar.pruning.plan import SCOPES, Plan
from daar.pruning.planning import OutOfReachError, make_plan
from daar.pruning.rounding import round_counts
from daar.pruning.target import closest, most_left
from tests.networks import one_thread  # noqa: F401  # it acts on this module
from tests.pruning.test_policies import chain, chain_macs


class Stages(nn.Module):
    """Channels that each wider scope opens: b is of no addition, a is, and so is a linear layer's unit."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(read, 40, 3, padding=1) for read in (3, 40, 40))
        self.d, self.e = nn.Linear(40, 60), nn.Linear(60, 60)
        self.head = nn.Linear(60, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.d((x + self.c(self.b(x).relu())).mean((2, 3)))
        return self.head(x + self.e(x.relu()))


def stages() -> ChannelGraph:
    return channel_graph(Stages(), torch.zeros(2, 3, 4, 4))


def stages_cost(stream: int, inner: int, units: int, *, of: str) -> int:
    """MACs or parameters by hand; the head's bias stays."""
    places, biases = (16, 0) if of == "macs" else (1, stream + inner + stream + 2 * units + 10)
    convs = 9 * (3 * stream + stream * inner + inner * stream)
    return places * convs + stream * units + units * units + 10 * units + biases


def make(
    graph: ChannelGraph, target: float, scope: str = "all", of: str = "macs", policy: Any = None, **given: Any
) -> Plan:
    scores = {name: torch.rand(len(graph.layers[name].outputs)) for name in graph.scored_layers("units")}
    names = [name for name in graph.leaves if name.endswith(("weight", "bias"))]
    return make_plan(
        graph, scores, policy or policies.uniform, loss=lambda _: 0.0, options={}, method="l1", policy_name="mine",
        scope=scope, target=target, params=names if of == "params" else None, **given,
    )  # fmt: skip


def refused(graph: ChannelGraph, target: float, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        make(graph, target, **given)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def reduction(said: str) -> float:
    return float(re.findall(r"_reduction (?:is|of) (0\.\d{3})", said)[0])


def advised(said: str) -> list[tuple[str, float]]:
    """Each scope, and a smaller min_channels, with what it is said to reach."""
    scopes = re.findall(r"scope '(\w+)'(?: of daar\.prune)?, which reaches (0\.\d{3})", said)
    return [(name, float(value)) for name, value in scopes + re.findall(r"(min_channels), with which (0\.\d+)", said)]


@pytest.mark.parametrize("least", [2, 12])
@pytest.mark.parametrize("of", ["macs", "params"])
@pytest.mark.parametrize("scope", SCOPES)
def test_each_advice_reaches_what_it_says_and_none_was_followed_already(scope: str, of: str, least: int) -> None:
    def reach(scope: str, least: int) -> float:
        conv = max(least, 2)
        widths = (40 if scope == "inner" else conv, conv, max(least, 3) if scope == "units" else 60)
        return 1 - stages_cost(*widths, of=of) / stages_cost(40, 40, 60, of=of)

    def floored(value: float) -> float:
        return math.floor(1000 * value) / 1000

    graph = stages()
    said = refused(graph, 0.999, scope=scope, of=of, min_channels=least)
    assert ("MACs cannot" if of == "macs" else "parameters cannot") in said
    assert f"{most_left(0.999, stages_cost(40, 40, 60, of=of)):,}" in said
    assert reduction(said) == floored(reach(scope, least))
    expected = {wider: floored(reach(wider, least)) for wider in SCOPES[SCOPES.index(scope) + 1 :]}
    if least > 2:
        expected["min_channels"] = floored(reach(scope, 2))
    assert dict(advised(said)) == expected
    assert f"Take a smaller {of}_reduction" in said
    for name, value in [(scope, reduction(said)), *advised(said)]:
        way = {"min_channels": 2} if name == "min_channels" else {"scope": name}
        full: dict[str, Any] = {"scope": scope, "of": of, "min_channels": least, **way}
        assert make(graph, value, **full).target == value
        with pytest.raises(OutOfReachError):
            make(graph, value + 0.001, **full)


@pytest.mark.parametrize("round_to", [8, 16])
def test_the_closest_target_counts_multiples(round_to: int) -> None:
    graph = stages()
    said = refused(graph, 0.999, scope="units", round_to=round_to)
    reached = 1 - stages_cost(round_to, round_to, round_to, of="macs") / stages_cost(40, 40, 60, of="macs")
    assert reduction(said) == math.floor(1000 * reached) / 1000
    plan = make(graph, reduction(said), scope="units", round_to=round_to)
    assert {len(group.kept) for group in plan.groups} == {round_to}


def test_a_scope_that_gains_nothing_is_not_named() -> None:
    """A chain of convs and a head: what 'inner' prunes is all there is."""
    graph = chain(40, 40)
    for scope in SCOPES:
        said = refused(graph, 0.9999, scope=scope)
        assert reduction(said) == math.floor(1000 * (1 - chain_macs([2, 2]) / chain_macs([40, 40]))) / 1000
        assert said.endswith("Take a smaller macs_reduction.")


def test_what_nothing_opens_is_said_so() -> None:
    assert refused(chain(2, 2), 0.5).endswith("No setting removes more: choose another network.")


def test_units_that_are_added_are_told_of_their_scope() -> None:
    """Not of 'inner', which is not what leaves them out."""

    class Units(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(48, 60), nn.Linear(60, 60), nn.Linear(60, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x.flatten(1))
            return self.head(x + self.b(x.relu()))

    graph = channel_graph(Units(), torch.zeros(2, 3, 4, 4))
    for scope in ("inner", "all"):
        said = refused(graph, 0.5, scope=scope)
        assert "a and 1 more: is a linear layer, whose hidden units only scope 'units' prunes" in said
        assert "inner' leaves out" not in said
        reach = 1 - (48 * 3 + 3 * 3 + 3 * 10) / (48 * 60 + 60 * 60 + 60 * 10)
        assert advised(said) == [("units", math.floor(1000 * reach) / 1000)]


@pytest.mark.parametrize("of", ["macs", "params"])
def test_a_scope_without_groups_is_told_of_those_that_have_some(of: str) -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 40, 3), nn.Conv2d(3, 40, 3), nn.Linear(40, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.a(x) + self.b(x)).mean((2, 3)))

    def cost(width: int) -> int:
        return 4 * 2 * 27 * width + 10 * width if of == "macs" else 2 * 28 * width + 10 * width + 10

    graph = channel_graph(Added(), torch.zeros(2, 3, 4, 4))
    said = refused(graph, 0.5, scope="inner", of=of)
    assert said.startswith("no group of this network may be pruned in scope 'inner'. ")
    reach = math.floor(1000 * (1 - cost(2) / cost(40))) / 1000
    assert said.endswith(f" Take scope 'all', which reaches {reach:.3f}.")
    assert make(graph, reach, of=of).groups


# what a policy cannot meet, though its groups can


def half(groups: Any, importance: Any, macs_target: int, *, macs: Any, loss: Any) -> dict[str, int]:
    """It never keeps less than half."""

    def counts(ratio: float) -> dict[str, int]:
        return {g.name: math.ceil(g.size * (1 - ratio / 2)) for g in groups}

    return counts(api.smallest_ratio(counts, macs, macs_target))


@pytest.mark.parametrize("of", ["macs", "params"])
def test_what_a_policy_cannot_meet_is_told_by_its_own_limit(of: str) -> None:
    graph = stages()
    dense, least = stages_cost(40, 40, 60, of=of), stages_cost(20, 20, 60, of=of)
    said = refused(graph, 0.8, of=of, policy=half)
    unit = "MACs" if of == "macs" else "parameters"
    assert said.startswith(
        f"policy 'mine' cannot reach the target: the fewest {unit} that it leaves are {least:,}, and "
    )
    assert f"{most_left(0.8, dense):,} or fewer were asked for. Take a {of}_reduction of " in said
    assert reduction(said) == math.floor(1000 * (1 - least / dense)) / 1000
    assert make(graph, reduction(said), of=of, policy=half).groups
    with pytest.raises(InputError, match="cannot reach the target"):
        make(graph, reduction(said) + 0.001, of=of, policy=half)
    other = float(re.findall(r"another policy: of these groups up to (0\.\d{3}) can go\.", said)[0])
    assert make(graph, other, of=of).groups
    with pytest.raises(OutOfReachError):
        make(graph, other + 0.001, of=of)


def test_a_policy_that_removes_nothing_is_not_told_of_a_smaller_target() -> None:
    def stubborn(groups: Any, _: Any, macs_target: int, *, macs: Any, loss: Any) -> dict[str, int]:
        return api.smallest_ratio(lambda _: {g.name: g.size for g in groups}, macs, macs_target)  # type: ignore[return-value]

    assert "were asked for. Take another policy: of these" in refused(stages(), 0.5, policy=stubborn)


def test_what_a_policy_asks_of_a_part_is_left_as_it_is() -> None:
    def parted(groups: Any, _: Any, macs_target: int, *, macs: Any, loss: Any) -> dict[str, int]:
        return api.smallest_ratio(lambda _: {g.name: g.size for g in groups}, macs, macs_target // 2)  # type: ignore[return-value]

    assert refused(stages(), 0.5, policy=parted).startswith("a target of ")


@pytest.mark.parametrize("policy", ["uniform", "global"])
def test_a_policy_that_is_called_by_itself_names_what_it_leaves(policy: str) -> None:
    graph = chain(40, 40)
    groups, shares = graph.in_scope("all"), {"0": torch.ones(40).numpy() / 40, "1": torch.ones(40).numpy() / 40}

    def counts(target: int) -> dict[str, int]:
        macs: Callable[[dict[str, int]], int] = lambda kept: chain_macs(list(kept.values()))  # noqa: E731
        return policies.get(policy)(groups, shares, target, macs=macs, loss=lambda _: 0.0)

    least = chain_macs([2, 2])
    with pytest.raises(
        policies.TargetError, match=rf"there are {least:,}\. Give a target of {least:,} or more"
    ) as caught:
        counts(least - 1)
    assert (caught.value.target, caught.value.least) == (least - 1, least)
    assert counts(least) == {"0": 2, "1": 2}


# multiples


@pytest.mark.parametrize("of", ["macs", "params"])
@pytest.mark.parametrize(("multiple", "target"), [(16, 0.85), (24, 0.8), (40, 0.5), (64, 0.3), (10**9, 0.3)])
def test_of_multiples_both_advices_hold(multiple: int, target: float, of: str) -> None:
    graph = stages()

    def least(multiple: int) -> int:
        width = min(40, -(-2 // multiple) * multiple)
        return stages_cost(width, width, 60, of=of)

    dense = stages_cost(40, 40, 60, of=of)
    said = refused(graph, target, of=of, round_to=multiple)
    assert ("MACs or fewer" if of == "macs" else "parameters or fewer") in said
    assert f"at the least there are {least(multiple):,}. Take a round_to of " in said
    fits = int(re.findall(r"Take a round_to of (\d+)", said)[0])
    assert fits == next(some for some in range(min(multiple, 41) - 1, 0, -1) if least(some) <= most_left(target, dense))
    assert make(graph, target, of=of, round_to=fits).round_to == fits
    if multiple >= 40:  # whole sizes alone: no smaller target helps
        assert "_reduction" not in said
        return
    assert reduction(said) == math.floor(1000 * (1 - least(multiple) / dense)) / 1000
    assert make(graph, reduction(said), of=of, round_to=multiple).round_to == multiple


def test_smaller_multiples_that_do_not_fit_are_not_named() -> None:
    """With 9 to be kept at least, multiples of 6 and of 4 leave 12, and of 5 leave 10."""
    groups = [of_one_layer(9)]
    said = r"at the least there are 12\. Take a round_to of 5, or a macs_reduction of 0\.700 or less\."
    with pytest.raises(InputError, match=said):
        round_counts({"0": 10}, groups, 6, lambda kept: sum(kept.values()), 10)
    with pytest.raises(InputError, match=r"at the least there are 12\. Take a round_to of 3, or"):
        round_counts({"0": 10}, groups, 4, lambda kept: sum(kept.values()), 10)
    assert round_counts({"0": 10}, groups, 5, lambda kept: sum(kept.values()), 10) == {"0": 10}


def of_one_layer(least: int) -> Group:
    (group,) = chain(40).in_scope("all")
    return replace(group, least=least)


# the closest


@settings(deadline=None, derandomize=True, max_examples=400, database=None)
@given(dense=st.integers(1, 10**10), data=st.data())
def test_the_closest_target_allows_the_least_and_the_next_does_not(dense: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(0, dense))
    found = closest(least, dense)
    assert 0 <= found <= 1
    assert found == 0 or most_left(found, dense) >= least
    assert least == 0 or most_left(round(found + 0.001, 3), dense) < least


def test_the_closest_target_is_one_that_binary_numbers_reach() -> None:
    assert int((1 - 0.9) * 1000) == 99  # so 0.9 would be refused
    assert closest(100, 1000) == 0.899
    assert closest(1000, 1000) == closest(0, 0) == 0
    for dense, part in itertools.product((1000, 3000, 40_551_040), range(0, 1000, 7)):
        least = dense * part // 1000
        assert most_left(closest(least, dense), dense) >= least
