"""Rounds of pruning and tuning, and the one plan that they come to."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import daar
from daar.errors import InputError
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, Two, made

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def shift(network: nn.Module) -> None:
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(1.1)


def test_rounds_remove_equal_parts_and_the_network_is_tuned_after_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = enliven(torchvision.models.resnet18()), torch.randn(2, 3, 64, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    left: list[int] = []

    def tune(network: nn.Module) -> None:
        left.append(sum(value.numel() for value in network.parameters()))
        network.train()
        network(x).sum().backward()  # it can be trained
        network.zero_grad()
        network.eval()
        shift(network)

    pruned = daar.prune_gradually(model, x, tune, macs_reduction=0.6, rounds=3, method="l1", exclude=iter(["conv1"]))
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 3
    assert 0.6 <= pruned.report.macs_reduction < 0.61
    assert pruned.report.params == left[-1]
    macs = [int(part.replace(",", "")) for part in pruned.report.notes[0].split(": ")[1].split(" MACs")[0].split(" → ")]
    removed = [1 - count / pruned.report.macs_dense for count in macs]
    assert removed == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = daar.slim_by(torchvision.models.resnet18().eval(), x[:1], pruned.plan)
    again.load_state_dict(pruned.model.state_dict())
    assert torch.equal(again(x), pruned.model(x))
    daar.save(pruned, tmp_path)
    assert torch.equal(daar.load(torchvision.models.resnet18().eval(), tmp_path)(x), pruned.model(x))


def test_rounds_of_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = enliven(torchvision.models.resnet18()), torch.randn(2, 3, 64, 64)
    left: list[int] = []

    def tune(network: nn.Module) -> None:
        left.append(sum(value.numel() for value in network.parameters()))
        shift(network)

    pruned = daar.prune_gradually(model, x, tune, params_reduction=0.6, rounds=3, method="l1")
    dense = sum(value.numel() for value in model.parameters())
    assert [1 - count / dense for count in left] == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    assert (pruned.plan.target, pruned.plan.target_of) == (0.6, "params")
    assert pruned.report.params == left[-1]
    daar.save(pruned, tmp_path)
    again = daar.load(torchvision.models.resnet18().eval(), tmp_path)
    assert torch.equal(again(x), pruned.model.eval()(x))


def test_one_round_without_tuning_is_one_pruning() -> None:
    once = daar.prune(made(Line), X, method="hrank", macs_reduction=0.4)
    rounds = daar.prune_gradually(made(Line), X, lambda _: None, macs_reduction=0.4, rounds=1, method="hrank")
    assert rounds.plan == once.plan
    assert all(torch.equal(a, b) for a, b in zip(rounds.model.parameters(), once.model.parameters(), strict=True))


def test_a_loader_and_what_tuning_returns_are_used() -> None:
    images = DataLoader(TensorDataset(X, torch.randn(8, 1, 12, 12)), batch_size=4)
    tuned: list[nn.Module] = []

    def tune(network: nn.Module) -> nn.Module:
        average = torch.optim.swa_utils.AveragedModel(network).module
        shift(average)
        tuned.append(average)
        return average

    pruned = daar.prune_gradually(made(Two), iter(images), tune, macs_reduction=0.4, rounds=2, method="daar")
    assert pruned.model is tuned[-1]
    assert len(tuned) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rounds": 0}, "rounds is 0; it must be 1 or more"),
        ({"rounds": 1.5}, "rounds is 1.5; it must be an integer"),
        ({"macs_reduction": 1.0}, r"macs_reduction is 1.0; it must lie in \[0, 1\)"),
        ({"macs_reduction": None}, r"macs_reduction is None; it must lie in \[0, 1\)"),
        ({"macs_reduction": 0.5, "params_reduction": 0.5}, "macs_reduction and params_reduction are given"),
        ({"params_reduction": -0.5}, r"params_reduction is -0.5; it must lie in \[0, 1\)"),
        ({"latency_reduction": 0.5}, "latency_reduction is given; rounds remove MACs or parameters. Give macs_red"),
        ({"ratios": {"0": 0.5}}, "ratios is given; rounds remove MACs or parameters"),
        ({"tune": None}, "tune is a NoneType; it must be a function"),
        ({"tune": lambda _: made(Line)}, "tune returned a network of another shape"),
        ({"method": "magnitude"}, "unknown method 'magnitude'; .* Or give a function score"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {"tune": lambda _: None, "method": "l1", **given}
    with pytest.raises(InputError, match=said):
        daar.prune_gradually(made(Line), X, arguments.pop("tune"), **arguments)
