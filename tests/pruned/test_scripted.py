"""Parts that torch.jit made keep what they had: types, gradients, modes, and nothing of the dense network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

pytestmark = [pytest.mark.filterwarnings("ignore:.*torch.jit:"), pytest.mark.filterwarnings("ignore:The .grad")]
C = 12


def block(ins: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, C, 3, padding=1), nn.BatchNorm2d(C), nn.ReLU())


def partly_frozen(part: nn.Sequential) -> Any:
    part[0].requires_grad_(requires_grad=False)
    return torch.jit.script(part)


MADE: dict[str, Callable[[nn.Sequential], Any]] = {
    "script": torch.jit.script,
    "trace": lambda part: torch.jit.trace(part.eval(), torch.zeros(2, C, 8, 8)),
    "partly frozen": partly_frozen,
    "channels last": lambda part: torch.jit.script(part.to(memory_format=torch.channels_last)),
    "bfloat16": lambda part: torch.jit.script(part.to(torch.bfloat16)),
}


def network(made: str, *, training: bool = True) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(block(3), block(C), block(C), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 5))
    enliven(net)
    kind = torch.bfloat16 if made == "bfloat16" else torch.float32
    net.to(kind).train(training)
    net[1] = MADE[made](net[1])  # type: ignore[arg-type]  # a Sequential
    return net, torch.randn(4, 3, 8, 8).to(kind)


@pytest.mark.parametrize("made", MADE)
def test_a_scripted_part_is_pruned_and_keeps_what_it_had(made: str, tmp_path: Path) -> None:
    net, x = network(made)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    pruned = daar.prune(net, x, method="l1", macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-12
    thin, dense = dict(pruned.model.named_parameters()), dict(net.named_parameters())
    assert thin.keys() == dense.keys()
    assert thin["1.0.weight"].shape < (C, C)
    for name, value in thin.items():
        assert isinstance(value, nn.Parameter)
        assert value.is_leaf
        assert (value.requires_grad, value.dtype) == (dense[name].requires_grad, dense[name].dtype), name
        if value.dim() == 4 and made == "channels last":
            wanted = not dense[name].is_contiguous()
            assert value.is_contiguous(memory_format=torch.channels_last) >= wanted
    modes = {path: module.training for path, module in net.named_modules()}
    assert {path: module.training for path, module in pruned.model.named_modules()} == modes
    pruned.model.train()(x).sum().backward()
    assert all((value.grad is not None) == value.requires_grad for value in thin.values())
    assert all(value.grad is None for value in dense.values()), "nothing leads to the dense network"
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    daar.save(pruned, tmp_path / "slim")
    again = daar.load(network(made)[0], tmp_path / "slim")
    assert torch.equal(again.eval()(x), pruned.model.eval()(x))


def test_a_frozen_part_stays_whole_and_the_rest_is_pruned() -> None:
    net, x = network("script", training=False)
    net[1] = torch.jit.freeze(net[1])
    pruned = daar.prune(net, x, method="l1", macs_reduction=0.1)
    assert pruned.report.slim_error <= 1e-6, "what it froze is float32"
    assert len(pruned.model.get_parameter("2.0.weight")) < C
