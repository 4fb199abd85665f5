"""What a proof keeps is as little as can be, and what it compares is what the network computes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from benchmarks.hook_check import checked
from daar.pruned import Pruned
from tests.cases.halving import cbr, images
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module


def around(part: nn.Module) -> nn.Module:
    """A conv with BN before a part of 32 channels and behind it."""
    torch.manual_seed(0)
    return enliven(
        nn.Sequential(cbr(3, 32), part, cbr(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    )


def pruned(model: nn.Module, target: float = 0.3) -> Pruned:
    made = daar.prune(model, images(4), method="l1", macs_reduction=target)
    assert made.report.macs_reduction >= target
    verdict = checked(model, made.model, images(4))
    assert verdict.error <= 1e-10
    assert not verdict.skipped
    return made


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), ((1, 3), (0, 1)), ((3, 1), (1, 0))])
def test_all_ways_to_pad_are_pruned(mode: Any, kernel: Any, padding: Any) -> None:
    """Circular padding fills memory piece by piece, and what a piece does not fill is compared too."""
    made = pruned(around(nn.Conv2d(32, 32, kernel, padding=padding, padding_mode=mode)), 0.5)
    assert made.report.repairs == ()


class Tokens(nn.Module):
    """Positions as tokens; the number of channels is written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        return x + tokens.transpose(1, 2).reshape(-1, 32, *x.shape[2:])


class SizeOfInput(nn.Module):
    """As timm's lambda layer: what it returns has as many channels as it makes, by a size of what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16)
        self.scale, self.shift = nn.Parameter(torch.rand(1, 2, 1, 1, 1) + 0.5), nn.Parameter(torch.rand(1, 1, 16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.one(x)).relu().mul(2).add(1).tanh().mul(3).sub(1).sigmoid().mul(2).relu()
        y = y[:, None] * self.scale + self.shift.sigmoid().mul(2).tanh()
        return y.reshape(x.shape)


def test_what_a_module_reads_stays_where_its_size_is_that_of_what_it_makes() -> None:
    made = pruned(around(SizeOfInput()), 0.3)
    kept = {layer.name: layer.filters for layer in made.report.layers}
    assert (kept["0.0"], kept["1.one"], kept["2.0"] < 32) == (32, 16, True)
    assert any("enters a module that relies on a number of channels" in said for said in made.report.repairs)


class Attention(nn.Module):
    """Of torch, on a map."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("part", [Tokens, Attention])
@pytest.mark.parametrize("trained", [True, False])
def test_what_needs_gradients_runs_other_operations_and_is_proven(part: type[nn.Module], trained: bool) -> None:
    """Torch multiplies weights that need gradients by other operations, also where none are taken."""
    made = daar.prune(around(part()).requires_grad_(trained), images(4), method="l1", macs_reduction=0.2)
    assert made.report.macs_reduction >= 0.2
    assert all(parameter.requires_grad == trained for parameter in made.model.parameters())


class Stem(nn.Module):
    """A number of channels is asked for behind one conv, whose line or whose Sequential runs others."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.stem, self.blocks, self.fc = cbr(3, 32), nn.Sequential(*[cbr(32, 32) for _ in range(4)]), nn.Linear(32, 10)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if x.shape[1] != 32:
            raise AssertionError  # as `assert` does, whose message pytest rewrites
        if self.way == "sequential":
            x = self.blocks(x)
        elif self.way == "line":
            x = self.blocks[3](self.blocks[2](self.blocks[1](self.blocks[0](x))))
        else:
            for block in self.blocks:
                x = block(x)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("way", ["sequential", "line", "loop"])
def test_only_what_relies_on_a_number_stays_of_a_line_that_runs_several(way: str) -> None:
    made = pruned(Stem(way))
    widths = {layer.name: layer.filters for layer in made.report.layers}
    assert widths["stem.0"] == 32
    assert all(widths[f"blocks.{index}.0"] < 32 for index in range(4))
    assert "AssertionError" in made.report.frozen["stem.0"]


class Asking(nn.Module):
    """A conv whose block raises unless it gets 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = cbr(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 32:
            raise ValueError("32 channels, please")
        return self.conv(x)


def test_a_class_that_relies_on_a_number_everywhere_stays_everywhere() -> None:
    model = enliven(nn.Sequential(cbr(3, 32), *[Asking() for _ in range(12)], cbr(32, 32), cbr(32, 8),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)))  # fmt: skip
    made = daar.prune(model, images(4), method="l1", macs_reduction=0.03)
    widths = [layer.filters for layer in made.report.layers]
    assert widths[:12] == [32] * 12
    assert widths[13] < 32
