"""What a report says stays, and what a refusal says is within reach: each is tried."""

import re

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.errors import InputError
from tests.networks import one_thread  # noqa: F401  # acts on this module
from tests.pruned.networks import Line, Two, made

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Hidden(nn.Sequential):
    """A conv, and linear layers of which one is hidden."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5),
        )  # fmt: skip


def refusal(model: nn.Module, **given: object) -> str:
    with pytest.raises(InputError) as refused:
        daar.prune(model, X, method="l1", **given)  # type: ignore[arg-type]
    return str(refused.value)


@pytest.mark.parametrize("least", [4, 12])
def test_the_closest_target_is_within_reach_whatever_is_kept(least: int) -> None:
    model = made(Line)
    said = refusal(model, macs_reduction=0.97, min_channels=least)
    closest = float(re.search(r"closest macs_reduction is ([\d.]+)", said)[1])  # type: ignore[index]
    assert f"at least {least} filters" in said
    pruned = daar.prune(model, X, method="l1", macs_reduction=closest, min_channels=least)
    assert [layer.filters for layer in pruned.report.layers[:2]] == [least, least]
    refusal(model, macs_reduction=closest + 0.002, min_channels=least)
    fewer = float(re.search(r"smaller min_channels, with which ([\d.]+) is", said)[1])  # type: ignore[index]
    daar.prune(model, X, method="l1", macs_reduction=fewer - 0.001)


def test_what_another_scope_opens_is_named() -> None:
    images = (X, X[:, :1])
    inner = daar.prune(made(Two), images, method="l1", macs_reduction=0.1, scope="inner").report
    assert (
        inner.frozen["colour"]
        == "reaches an addition or a concatenation, which scope 'inner' leaves out; so does depth"
    )
    assert "inner" not in str(daar.prune(made(Two), images, method="l1").report.frozen)
    assert "scope 'units' prunes" in daar.prune(made(Hidden), X, method="l1").report.frozen["4"]
    assert daar.prune(made(Hidden), X, method="l1", scope="units").report.frozen == {"6": "network output"}


def test_all_layers_that_stay_with_an_excluded_one_are_named() -> None:
    kept = daar.prune(made(Two), (X, X[:, :1]), method="l1", macs_reduction=0.1, exclude=["depth"]).report.frozen
    assert kept["colour"] == "excluded by 'depth'; so does depth"


def test_ratios_name_hidden_units_in_their_scope() -> None:
    model = made(Hidden)
    pruned = daar.prune(model, X, method="l1", macs_reduction=None, scope="units", ratios={"4": 0.5})
    assert {layer.name: layer.filters for layer in pruned.report.layers} == {"0": 16, "4": 16, "6": 5}
    assert "only scope 'units' prunes. Take the pattern out" in refusal(model, macs_reduction=None, ratios={"4": 0.5})


def test_ratios_outside_the_scope_are_refused() -> None:
    with pytest.raises(InputError, match=r"'colour', but all of it stays whole: .* scope 'inner' leaves out"):
        daar.prune(made(Two), (X, X[:, :1]), method="l1", scope="inner", macs_reduction=None, ratios={"colour": 0.5})


def test_time_is_saved_within_what_min_channels_leaves() -> None:
    said = refusal(made(Line), latency_reduction=0.9, min_channels=16)
    assert "MACs cannot be reached" not in said


class Written(nn.Module):
    """A number of channels is written in its code, which a proof alone shows."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(x)).relu()).mean((2, 3)).view(-1, 16))


@pytest.mark.parametrize("method", ["l1", "daar"])
def test_the_closest_target_is_of_proven_groups_whatever_the_method_reads(method: str) -> None:
    model = made(Written)
    reached = daar.groups(model, X).reachable["all"]
    with pytest.raises(InputError, match=f"closest macs_reduction is {reached:.3f} in scope 'all'"):
        daar.prune(model, X, method=method, policy="uniform", macs_reduction=0.95)
    pruned = daar.prune(model, X, method=method, policy="uniform", macs_reduction=reached)
    assert pruned.report.slim_error <= 1e-10


class Joined(nn.Module):
    """Something is added to a concatenation, a part of which is read on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.d = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 22, 1)
        self.c, self.e, self.head = nn.Conv2d(22, 12, 3), nn.Conv2d(6, 12, 3), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        b = self.b(x)
        y = torch.cat([self.a(x), b], 1) + self.d(x)
        return self.head((self.c(y.relu()) + self.e(b)).mean((2, 3)))


def test_where_the_choice_of_channels_counts_a_figure_is_said_to_be_near() -> None:
    said = refusal(made(Joined), policy="uniform", macs_reduction=0.95, max_ratio=0.3)
    near = float(re.search(r"a larger max_ratio, with which up to about ([\d.]+) is reached", said)[1])  # type: ignore[index]
    free = refusal(made(Joined), policy="uniform", macs_reduction=0.95)
    assert near == pytest.approx(float(re.search(r"closest macs_reduction is ([\d.]+)", free)[1]), abs=0.02)  # type: ignore[index]
