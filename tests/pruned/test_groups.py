"""`daar.groups`: figures by hand and by pruning one group alone, reasons as the report of a pruning has them."""

import json
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import daar
from daar.errors import InputError
from daar.pruning.group_report import GroupReport
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, made

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def counted(model: nn.Module, image: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    return counter.get_total_flops() // 2


def test_the_groups_of_two_convs_and_a_head() -> None:
    """On 12 × 12: 100 · 27 · a, 64 · 9 · a · b and 5 b MACs."""
    groups = daar.groups(made(Line), X)
    dense = 100 * 27 * 16 + 64 * 9 * 16 * 16 + 5 * 16
    assert groups.macs == dense
    first, second, head = groups
    gone = (100 * 27 + 64 * 9 * 16) * 14
    scopes = ("inner", "all", "units")
    assert first == GroupReport("0", 16, 2, ("0",), ("3",), gone, gone / dense, scopes, None)
    assert first.macs_per_channel == 100 * 27 + 64 * 9 * 16
    assert (second.members, second.readers, second.macs) == (("3",), ("8",), (64 * 9 * 16 + 5) * 14)
    assert (head.name, head.size, head.scopes, head.why) == ("8", 5, (), "network output")
    reached = 1 - (100 * 27 * 2 + 64 * 9 * 4 + 5 * 2) / dense
    assert groups.reachable == dict.fromkeys(scopes, int(reached * 1000) / 1000)
    assert len(groups) == 3
    assert groups["3"] is second
    with pytest.raises(KeyError, match="conv1"):
        groups["conv1"]


def test_print_and_json() -> None:
    groups = daar.groups(made(Line), X)
    lines = str(groups).splitlines()
    assert lines[0].startswith(
        "3 groups, 2 of which can be pruned; 190,736 MACs; largest macs_reduction by scope: inner"
    )
    assert lines[4].split() == ["0", "16", "2", "11,916", "87.5%", "inner,", "all,", "units", "0", "3"]
    assert lines[-1] == "8 stays whole: network output"
    content = json.loads(json.dumps(groups.to_json()))
    assert content["groups"][0] == {
        "name": "0", "size": 16, "min_kept": 2, "members": ["0"], "readers": ["3"], "macs": 166_824,
        "share": 166_824 / 190_736, "scopes": ["inner", "all", "units"], "why": None, "macs_per_channel": 11_916.0,
    }  # fmt: skip
    assert (content["macs"], content["notes"], content["repairs"]) == (190_736, [], [])


# excitations, depthwise convs and hidden units; concatenations; grouped convs
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf"])
def test_what_goes_with_a_group_is_what_pruning_it_alone_removes(name: str) -> None:
    torch.manual_seed(0)
    model, x = enliven(getattr(torchvision.models, name)()), torch.randn(1, 3, 64, 64)
    groups = daar.groups(model, x)
    assert groups.macs == counted(model, x)
    free = [group for group in groups if group.scopes]
    for group in free[:: len(free) // 4]:
        pruned = daar.prune(model, x, method="l1", ratios={group.name: 0.999}, scope="units")
        assert groups.macs - counted(pruned.model, x) == group.macs
        widths = {layer.name: layer.filters for layer in pruned.report.layers if layer.filters < layer.filters_dense}
        assert set(group.members) <= set(widths) <= {*group.members, *group.readers}


@pytest.mark.parametrize("scope", ["inner", "all", "units"])
def test_scopes_and_reasons_are_those_of_a_pruning(scope: str) -> None:
    torch.manual_seed(0)
    model, x = enliven(torchvision.models.mobilenet_v3_small()), torch.randn(2, 3, 64, 64)
    groups = daar.groups(model, x)
    pruned = daar.prune(model, x, method="l1", scope=scope, macs_reduction=groups.reachable[scope])
    assert {group.name for group in groups if scope in group.scopes} == {group.name for group in pruned.plan.groups}
    for group in groups:
        if not group.scopes:
            assert group.why is not None
            assert group.name not in pruned.report.frozen or pruned.report.frozen[group.name].startswith(group.why)
    with pytest.raises(InputError, match="cannot be reached"):
        daar.prune(model, x, method="l1", scope=scope, macs_reduction=groups.reachable[scope] + 0.002)


class Written(nn.Module):
    """Takes a number of channels from its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu())
        return self.head(self.three(x.view(-1, 16, *x.shape[2:])).relu().mean((2, 3)))


def test_what_stays_is_said_with_module_and_line() -> None:
    groups = daar.groups(made(Written), X, exclude=["three"])
    assert groups["one"].why is None
    assert groups["three"].why == "excluded by 'three'"
    why = groups["two"].why or ""
    assert "test_groups.py:" in why
    assert f"two stays whole: {why}" in str(groups)
    report = daar.prune(made(Written), X, method="l1", macs_reduction=0.2, exclude=["three"]).report
    assert report.frozen["two"] == why


def test_folded_weights_and_wrappers() -> None:
    """A conv with weight norm keeps what it reads, until its weight is folded."""
    model = made(Line)
    nn.utils.parametrizations.weight_norm(model.get_submodule("3"))
    assert not daar.groups(model, X)["0"].scopes
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert daar.groups(model, X, fold=True)["0"].scopes == ("inner", "all", "units")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert daar.groups(nn.DataParallel(made(Line)), X).notes[0].startswith("taken out of DataParallel")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"exclude": "3"}, "exclude is '3'; it must be a list of texts"),
        ({"exclude": ["stem"]}, "exclude names 'stem', but the network has no such module"),
        ({"fold": 1}, "fold is 1; it must be True or False"),
        ({"images": X[:, :1]}, "the model fails on images of shape"),
        ({"images": None}, "images are a NoneType"),
        ({"model": 3}, "model is a int; it must be a torch.nn.Module"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {"model": made(Line), "images": X, **given}
    with pytest.raises(InputError, match=said) as error:
        daar.groups(arguments.pop("model"), arguments.pop("images"), **arguments)
    assert "\n" not in str(error.value)


class Gated(nn.Module):
    """A linear layer multiplies what a conv makes, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.gate = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Linear(8, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((self.body(x) * self.gate(x.mean((2, 3)))[:, :, None, None]).mean((2, 3)))


def test_a_gate_that_is_cut_with_a_conv_is_listed() -> None:
    groups = daar.groups(made(Gated), X)
    assert groups["body"].members == ("body", "gate")
    assert groups["gate"] is groups["body"]
    pruned = daar.prune(made(Gated), X, method="l1", ratios={"body": 0.5})
    assert pruned.model.get_submodule("gate").out_features == 5
    with pytest.raises(InputError, match="ratios names 'gate', but the network has no such layer with filters of its"):
        daar.prune(made(Gated), X, method="l1", ratios={"gate": 0.5})


def test_a_network_without_layers_has_no_groups() -> None:
    groups = daar.groups(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).eval(), X)
    assert (len(groups), groups.macs, set(groups.reachable.values())) == (0, 0, {0.0})


def test_what_can_lose_no_channel_is_in_no_scope() -> None:
    """A group norm of two groups ties four filters each to a channel, and two such stay at least."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
    groups = daar.groups(model.eval(), X)
    assert (groups["0"].size, groups["0"].min_kept, groups["0"].scopes) == (2, 2, ())
    assert "1 of which can be pruned" in str(groups)
