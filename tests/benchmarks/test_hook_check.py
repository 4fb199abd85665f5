"""The check by hooks sees what is wrong in a slim network, and nothing in one that is right."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.hook_check import EXACT, checked
from tests.networks import one_thread  # noqa: F401  # acts on this module


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), norm, nn.Conv2d(8, 6, 3, groups=2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.norm(self.a(x)).relu()).mean((2, 3)))


def cut(model: Net, rows: list[int], columns: list[int]) -> Net:
    """By hand: filters `rows` of a stay, and b reads its inputs `columns`, per group."""
    thin = copy.deepcopy(model)
    with torch.no_grad():
        thin.a.weight = nn.Parameter(model.a.weight[rows])
        thin.a.bias = nn.Parameter(model.a.bias[rows])  # type: ignore[index]
        thin.b.weight = nn.Parameter(model.b.weight[:, columns])
    if isinstance(thin.norm, nn.LayerNorm | nn.BatchNorm2d):
        for name in ("weight", "bias"):
            setattr(thin.norm, name, nn.Parameter(getattr(model.norm, name)[rows]))
    if isinstance(thin.norm, nn.BatchNorm2d):
        assert thin.norm.running_mean is not None
        assert thin.norm.running_var is not None
        thin.norm.running_mean, thin.norm.running_var = thin.norm.running_mean[rows], thin.norm.running_var[rows]
    return thin


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.bias)
    return Net(norm).eval()


def test_what_is_cut_right_passes(model: Net) -> None:
    verdict = checked(model, cut(model, [0, 1, 3, 4, 5, 7], [0, 1, 3]), IMAGES)
    assert verdict.error <= EXACT
    assert verdict.skipped == []


def test_columns_of_other_channels_are_seen(model: Net) -> None:
    assert checked(model, cut(model, [0, 1, 2, 4, 5, 6], [0, 1, 3]), IMAGES).error > 1e-3


def test_a_norm_over_what_went_is_seen() -> None:
    torch.manual_seed(0)
    model = Net(nn.GroupNorm(1, 8, affine=False)).eval()
    assert checked(model, cut(model, [0, 1, 3, 4, 5, 7], [0, 1, 3]), IMAGES).error > 1e-3


def test_weights_that_are_no_part_of_the_dense_ones_are_named(model: Net) -> None:
    thin = cut(model, [0, 1, 3, 4, 5, 7], [0, 1, 3])
    with torch.no_grad():
        thin.b.weight[0, 0] += 1
    assert checked(model, thin, IMAGES).skipped == ["b"]
