"""Scores of filters as shares of a group's channels, and their order: arithmetic by hand, and what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daar.errors import InputError
from daar.pruning.groups import Group
from daar.pruning.importance import check, group_importance, load, ranking, save

SCORES = st.floats(-(2.0**100), 2.0**100, width=32)


def group(size: int = 4, **members: list[int]) -> Group:
    """A group of convs by name and positions; one conv that makes all channels where none is given."""
    positions = {name: np.array(where) for name, where in (members or {"a": list(range(size))}).items()}
    return Group("a", np.arange(size), tuple(positions), positions, joins=False, frozen=None)


@pytest.mark.parametrize(("size", "least"), [(1, 1), (2, 2), (3, 2), (40, 2), (41, 3), (60, 3), (64, 4), (512, 26)])
def test_the_least_that_stays(size: int, least: int) -> None:
    assert group(size).min_kept == least == min(size, max(2, math.ceil(0.05 * size)))


def test_group_importance_by_hand() -> None:
    """A: (1, 3) of 4 and B: (2, 0) of 2 give (0.25, 0.75) and (1, 0): mean (0.625, 0.375)."""
    both = group(2, a=[0, 1], b=[0, 1])
    found = group_importance((both,), {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([2.0, 0.0])})
    assert found["a"].tolist() == [0.625, 0.375]


def test_a_negative_minimum_is_subtracted_and_a_positive_one_is_not() -> None:
    negative = group_importance((group(3),), {"a": torch.tensor([-1.0, 0.0, 2.0])})["a"]
    assert negative.tolist() == [0, 0.25, 0.75]
    positive = group_importance((group(2),), {"a": torch.tensor([1.0, 3.0])})["a"]
    assert positive.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("unit", [1e-30, 2.0**-40, 0.1, 2.0**40])
def test_shares_do_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    found = group_importance((group(2),), {"a": torch.tensor([1.0, 3.0]) * unit})["a"]
    assert np.allclose(found, [0.25, 0.75], rtol=1e-6)  # the scores are float32


@pytest.mark.parametrize("value", [0.0, -3.0, 2.0])
def test_equal_scores_are_equal_shares(value: float) -> None:
    assert group_importance((group(4),), {"a": torch.full((4,), value)})["a"].tolist() == [0.25] * 4


def test_a_member_of_zeros_counts_as_equal_shares() -> None:
    """By hand: the mean of 1/2, 1/2 and 1/4, 3/4."""
    scores = {"a": torch.zeros(2), "b": torch.tensor([1.0, 3.0])}
    found = group_importance((group(2, a=[0, 1], b=[0, 1]),), scores)["a"]
    assert np.allclose(found, [3 / 8, 5 / 8], rtol=1e-12)


def test_a_member_counts_only_for_the_channels_it_makes() -> None:
    """Sides of a concatenation, (0.5, 0.5) and (1, 0), under a conv of (0.1, 0.2, 0.3, 0.4): means, over their sum."""
    joined = group(4, a=[0, 1], b=[2, 3], c=[0, 1, 2, 3])
    scores = {"a": torch.tensor([5.0, 5.0]), "b": torch.tensor([7.0, 0.0]), "c": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    means = np.array([(0.5 + 0.1) / 2, (0.5 + 0.2) / 2, (1 + 0.3) / 2, (0 + 0.4) / 2])
    assert np.allclose(group_importance((joined,), scores)["a"], means / means.sum(), rtol=1e-12)


def test_a_channel_of_more_members_is_worth_no_more() -> None:
    """Only two of four channels have a second member: (0.5, 0.5) and (0.1, 0.2, 0.3, 0.4), means over their sum."""
    scores = {"a": torch.tensor([5.0, 5.0]), "c": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    found = group_importance((group(4, a=[0, 1], c=[0, 1, 2, 3]),), scores)["a"]
    assert np.allclose(found, np.array([0.3, 0.35, 0.3, 0.4]) / 1.35, rtol=1e-12)


def test_a_grouped_conv_gives_a_channel_the_mean_of_its_filters() -> None:
    """Scores (1, 2 | 3, 4) of 10, tied across two groups: means 0.2 and 0.3, over their sum."""
    found = group_importance((group(2, a=[0, 1, 0, 1]),), {"a": torch.tensor([1.0, 2.0, 3.0, 4.0])})["a"]
    assert np.allclose(found, [0.4, 0.6], rtol=1e-12)


@settings(deadline=None, derandomize=True, database=None)
@given(
    scores=st.lists(st.lists(SCORES, min_size=5, max_size=5).map(torch.tensor), min_size=1, max_size=3),
)
def test_importance_is_a_share(scores: list[torch.Tensor]) -> None:
    names = "abc"[: len(scores)]
    stream = group(5, **{name: list(range(5)) for name in names})
    found = group_importance((stream,), dict(zip(names, scores, strict=True)))["a"]
    assert (found >= 0).all()
    assert math.isclose(found.sum(), 1, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": torch.tensor([1.0, torch.nan])}, "x scores filter 1 of 'a' as nan; scores must be finite"),
        ({"a": torch.tensor([torch.inf, 1.0])}, "x scores filter 0 of 'a' as inf; scores must be finite"),
        ({"a": torch.ones(3)}, r"x scores 'a' by torch.float32 \(3,\) on cpu; it must be torch.float32 \(2,\) on cpu"),
        ({"a": torch.ones(2).double()}, r"x scores 'a' by torch.float64 \(2,\)"),
        ({"a": torch.ones(2, device="meta")}, "on meta; it must be"),
        ({}, "x scores no layer 'a'; it must score every layer it is given"),
        ({"a": torch.ones(2), "b": torch.ones(2)}, "x scores 'b', which it was not asked for"),
    ],
)
def test_scores_that_break_the_contract_are_refused(scores: dict[str, Any], message: str) -> None:
    check({"a": torch.ones(2)}, {"a": 2}, "x")
    with pytest.raises(InputError, match=message):
        check(scores, {"a": 2}, "x")


def test_the_first_of_several_wrong_layers_is_named() -> None:
    with pytest.raises(InputError, match="scores no layer 'a'"):
        check({}, {"b": 2, "a": 2}, "x")
    with pytest.raises(InputError, match="scores 'a', which"):
        check({"b": torch.ones(2), "a": torch.ones(2)}, {}, "x")


@pytest.mark.parametrize("scores", [{}, {"a": torch.ones(3)}, {"a": torch.tensor([1.0, torch.nan])}])
def test_of_a_file_it_is_said_what_makes_it(scores: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^i\.safetensors scores .*\. Score this network: daar score$"):
        check(scores, {"a": 2}, "i.safetensors", "Score this network: daar score")


def test_scores_are_read_as_written_also_one_tensor_of_several_layers(tmp_path: Path) -> None:
    both = torch.tensor([0.5, -2.0, 3.0, 0.25])
    scores = {"a": both, "b": both, "c": both[::2]}
    save(tmp_path / "importance.safetensors", scores)
    read = load(tmp_path / "importance.safetensors")
    assert {name: vector.tolist() for name, vector in read.items()} == {n: v.tolist() for n, v in scores.items()}
    assert all(vector.dtype == torch.float32 for vector in read.values())
    with pytest.raises(InputError, match="should hold importances, but there is no such file"):
        load(tmp_path / "none.safetensors")


def test_of_equals_the_lower_index_is_removed_first() -> None:
    assert ranking(group(5), np.array([0.1, 0.3, 0.1, 0.3, 0.2])) == [3, 1, 4, 2, 0]
    assert ranking(group(4), np.full(4, 0.25)) == [3, 2, 1, 0]


def test_every_conv_of_a_group_keeps_its_least() -> None:
    """All of b's channels are worth less than any of a's; still b keeps its best two, and they stand in front."""
    joined = group(6, a=[0, 1, 2], b=[3, 4, 5], c=[0, 1, 2, 3, 4, 5])
    assert joined.min_kept == 4
    order = ranking(joined, np.array([0.3, 0.25, 0.2, 0.12, 0.08, 0.05]))
    assert set(order[:4]) == {0, 1, 3, 4}
    assert order[4:] == [2, 5]
    nested = group(60, a=list(range(3)), c=list(range(60)))
    assert nested.min_kept == 3  # 5 % of 60; the two of a are among them


def test_a_channel_that_is_fixed_is_all_that_its_conv_has_to_keep() -> None:
    """Of six channels a makes the first, which is fixed, b the fourth and the fifth, c all: those three stay."""
    positions = {"a": np.array([0]), "b": np.array([3, 4]), "c": np.arange(6)}
    some = Group("a", np.arange(6), tuple(positions), positions, joins=False, frozen=None, fixed={0: "why"})
    assert some.min_kept == 3
    assert ranking(some, np.array([0.01, 0.3, 0.3, 0.02, 0.02, 0.35])) == [4, 3, 0, 5, 2, 1]
