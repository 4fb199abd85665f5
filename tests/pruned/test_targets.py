"""Targets of parameters, time and own ratios, on networks that report them by themselves."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import daar
from daar.errors import InputError
from daar.measure import timed
from daar.measure.timed import Latency
from daar.pruned import timing
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, made

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def zoo(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = enliven(getattr(torchvision.models, name)())
    return network


@pytest.mark.parametrize("policy", ["uniform", "global"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_target_of_parameters_is_met_as_closely_as_one_of_macs(name: str, policy: str) -> None:
    model = zoo(name)
    pruned = daar.prune(model, X, method="l1", params_reduction=0.4, policy=policy)
    counted = [sum(value.numel() for value in network.parameters()) for network in (model, pruned.model)]
    assert [pruned.report.params_dense, pruned.report.params] == counted
    assert 0.4 <= 1 - counted[1] / counted[0] < 0.41
    assert (pruned.plan.target, pruned.plan.target_of) == (0.4, "params")
    by_macs = daar.prune(model, X, method="l1", macs_reduction=pruned.report.macs_reduction, policy=policy)
    assert by_macs.plan.target_of == "macs"


def test_tied_parameters_count_once() -> None:
    torch.manual_seed(0)
    middle = [nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1)]
    middle[2].weight = middle[0].weight
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), *middle, nn.ReLU(), nn.Conv2d(16, 4, 1))
    pruned = daar.prune(model, torch.randn(4, 3, 12, 12), method="l1", params_reduction=0.3)
    assert pruned.report.params == sum(value.numel() for value in pruned.model.parameters())
    assert "(all else, less what layers share)" in str(pruned.report)
    assert pruned.report.notes == ("tied: 2.weight and 4.weight are one parameter, cut for all of them.",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"macs_reduction": 0.5, "params_reduction": 0.5}, "macs_reduction and params_reduction are given; .* one of"),
        ({"params_reduction": 0.5, "latency_reduction": 0.5}, "params_reduction and latency_reduction are given"),
        ({"latency_reduction": 0.5, "ratios": {"0": 0.5}}, "latency_reduction and ratios are given"),
        ({"params_reduction": 0.999}, r"a target of [\d,]+ parameters cannot be reached: .* params_reduction is 0\.\d"),
        ({"params_reduction": 1.0}, r"params_reduction is 1.0; it must lie in \[0, 1\), as the fraction of parameters"),
        (
            {"latency_reduction": -0.1},
            r"latency_reduction is -0.1; it must lie in \[0, 1\), as the fraction of the time",
        ),
        ({"params_reduction": float("nan")}, "params_reduction is nan; it must lie in"),
        ({"macs_reduction": None}, "policy 'uniform' has no rate of its own. .* not None, or another"),
    ],
)
def test_there_is_one_target(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", **given)


def test_half_is_said_as_well_as_left_out() -> None:
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert (
        daar.prune(made(Line), x, method="l1").plan == daar.prune(made(Line), x, method="l1", macs_reduction=0.5).plan
    )
    with pytest.raises(InputError, match="Give one of them"):
        daar.prune(made(Line), x, method="l1", macs_reduction=0.5, params_reduction=0.5)


def as_macs(monkeypatch: pytest.MonkeyPatch, floor: float) -> list[int]:
    """Have every network take as long as its first conv is wide, over a floor; gives the rounds asked for."""
    asked: list[int] = []

    def fake(model: nn.Module, images: Any, against: nn.Module | None = None, *, rounds: int = 9, **_: Any) -> Latency:
        asked.append(rounds)
        assert against is not None
        one, other = (floor + network[0].weight.shape[0] for network in (model, against))  # type: ignore[index]
        return Latency(one, (one,) * rounds, other, 1 - one / other, len(images), 1, "cpu")

    monkeypatch.setattr(timed, "timed", fake)
    return asked


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5])
def test_time_is_bisected_over_macs(target: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = as_macs(monkeypatch, floor=10.0)
    torch.manual_seed(0)
    model = enliven(Line(64))
    pruned = daar.prune(model, torch.randn(20, 3, 12, 12), method="l1", latency_reduction=target)
    latency = pruned.report.latency
    assert latency is not None
    assert target <= (latency.reduction or 0) < target + 0.05
    assert latency.batch_size == timing.BATCH
    assert len(asked) <= 9
    assert len(latency.windows_ms) == asked[-1] == 15
    assert f"latency {latency}" in str(pruned.report)


def test_time_that_cannot_be_saved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_macs(monkeypatch, floor=200.0)
    with pytest.raises(InputError, match=r"latency_reduction is 0.5; the fastest network .* saves 0\.0\d+ of the time"):
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", latency_reduction=0.5)


def test_time_that_a_limit_keeps_from_being_saved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger batches save nothing where nothing may go."""
    as_macs(monkeypatch, floor=200.0)
    with pytest.raises(
        InputError, match=r"up to 0\.000 of the MACs removed\. Give a lower one, or a larger max_ratio\."
    ):
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", latency_reduction=0.5, max_ratio=0.0)
    with pytest.raises(InputError, match=r"or a larger max_ratio, or larger batches, for which MACs count more\."):
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", latency_reduction=0.5, max_ratio=0.3)


def test_time_is_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daar.measure.latency.WINDOW_SECONDS", 0.02)
    torch.manual_seed(0)
    model = enliven(Line(64)).train()
    x = torch.randn(4, 3, 24, 24)
    pruned = daar.prune(model, x, method="l1", latency_reduction=0.2)
    assert pruned.report.latency is not None
    assert pruned.report.latency.threads == torch.get_num_threads()
    for measured in (
        daar.latency(pruned.model, x, model, rounds=2),
        pruned.latency(against=model, batch_size=3, rounds=2),
    ):
        assert measured.median_ms > 0
        assert measured.reduction is not None
    alone = daar.latency(nn.DataParallel(model), x, rounds=3, threads=1)
    assert (alone.batch_size, alone.threads, alone.reduction, len(alone.windows_ms)) == (4, 1, None, 3)
    assert "median of 3 windows, 4 images at once, 1 thread, cpu" in str(alone)
    assert model.training
    assert pruned.model.training
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"rounds": 1}, "rounds are 1"),
        ({"threads": 0}, "threads are 0; it must"),
    ]
    for arguments, said in wrong:
        with pytest.raises(InputError, match=said):
            daar.latency(model, x, **arguments)
    assert pruned.latency(x, against=model, rounds=2).batch_size == 4
    assert pruned.latency(x, model, rounds=2).reduction is not None
    assert pruned.latency(rounds=2).batch_size == 1
    for arguments, said in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"images": x, "batch_size": 2}, "images and batch_size are given"),
        ({"images": model}, "images are a Line; a network to compare with is given as against="),
    ):
        with pytest.raises(InputError, match=said):
            pruned.latency(**arguments)


def test_ratios_remove_a_fraction_of_each_group_that_they_name() -> None:
    model = zoo("resnet18")
    pruned = daar.prune(model, X, method="l1", ratios={"layer3.*": 0.5, "layer3.0.conv1": 0.25, "layer4.?.conv1": 0.7})
    widths = {layer.name: layer.filters for layer in pruned.report.layers}
    dense = {layer.name: layer.filters_dense for layer in pruned.report.layers}
    expected = {name: width // 2 if name.startswith("layer3") else width for name, width in dense.items()}
    expected |= {"layer3.0.conv1": 192, "layer4.0.conv1": 153, "layer4.1.conv1": 153}  # 0.3 · 512 = 153.6
    assert widths == expected
    assert pruned.plan.policy.startswith("ratios-")
    assert str(pruned.report).startswith("l1, own ratios, scope all: MACs ")
    assert pruned.plan.target is None


def test_a_paper_s_text_has_a_ratio_for_each_conv() -> None:
    x = torch.randn(4, 3, 12, 12)
    by_text = daar.prune(made(Line), x, method="l1", ratios="[0.5]+[0.25]*1")
    by_name = daar.prune(made(Line), x, method="l1", ratios={"0": 0.5, "3": 0.25})
    assert by_text.plan.groups == by_name.plan.groups
    assert [len(group.kept) for group in by_text.plan.groups] == [8, 12]
    assert by_text.plan.policy != by_name.plan.policy


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        (
            {"layer": 0.5},
            r"ratios names 'layer', but the network has no such layer with filters of its own; at its top are",
        ),
        ({"0": 1.0}, r"ratios\['0'\] is 1.0; it must lie in \[0, 1\), as the fraction of filters removed"),
        ({"0": -0.1}, r"must lie in \[0, 1\)"),
        ({"0": float("nan")}, r"must lie in \[0, 1\)"),
        ({"0": "half"}, r"ratios\['0'\] is half; it must lie"),
        ({"0": True}, r"ratios\['0'\] is True"),
        ({1: 0.5}, "ratios has the pattern 1; it must be the name of a module"),
        ({}, "ratios should map glob patterns to fractions"),
        ([0.5], "ratios should map glob patterns to fractions"),
        ({"0*": 0.5, "*0": 0.25}, r"ratios names '0' by '0\*' and '\*0', with different fractions. Make one more"),
        ("[0.5]*3", "ratios has 3 values; the network runs 2 convs, in the order 0, 3 …, and each takes one"),
        ("0.5*2", r"ratios has the part '0.5\*2'; a paper's text is lists joined by \+"),
        ("[0.5]+", "ratios has the part ''"),
        ("[a]*2", "ratios is a; it must lie"),
        ("[0.1]*9999+[0.1]*9999+[0.1]", "ratios has the part"),
    ],
)
def test_ratios_that_cannot_be_are_said(ratios: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", ratios=ratios)
    assert "\n" not in str(error.value)


def test_ratios_for_what_stays_whole_are_refused() -> None:
    with pytest.raises(InputError, match=r"ratios names '3', but all of it stays whole: 3 excluded by '3'"):
        daar.prune(made(Line), torch.randn(4, 3, 12, 12), method="l1", ratios={"3": 0.5}, exclude=["3"])


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_multiples_come_as_close_as_their_steps_allow(target: float) -> None:
    """No exchange of a step between two layers comes closer; MACs are counted by the network."""
    pruned = daar.prune(zoo("resnet18"), X, method="l1", macs_reduction=target, round_to=8)
    assert all(len(group.kept) % 8 == 0 or len(group.kept) == group.size for group in pruned.plan.groups)
    assert target <= pruned.report.macs_reduction < target + 0.005
