"""Copies of networks: what is one parameter stays one, and what a module holds by itself comes along."""

import pytest
import torch
from torch import Tensor, nn

from daar.pruning.copying import copied, doubled


class Holder(nn.Module):
    """Parameters, a buffer, plain tensors, a dict of tensors, and one parameter in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.tensor([3]))
        self.register_buffer("scale", torch.full((1,), 0.1))
        self.kernel = torch.full((3, 1, 3, 3), 1 / 9)
        self.by_device = {"cpu": torch.full((2,), 0.3), "count": 2}
        self.made = self.one.weight * 2  # no leaf, as torch.nn.utils.prune keeps one

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.one(x)) * self.get_buffer("scale")
        return y


@pytest.mark.parametrize("copy", [copied, doubled])
def test_a_copy_shares_nothing_and_keeps_what_is_tied(copy: object) -> None:
    model = Holder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = copy(model)  # type: ignore[operator]
    assert other.two.weight is other.one.weight
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    for value in (*other.parameters(), *other.buffers(), other.kernel, other.made):
        with torch.no_grad():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert float(model.kernel.max()) == pytest.approx(1 / 9)


def test_a_doubled_copy_is_in_float64_but_for_counts() -> None:
    model = Holder()
    double = doubled(model)
    assert {value.dtype for value in double.parameters()} == {torch.float64}
    assert double.get_buffer("steps").dtype == torch.int64
    assert double.get_buffer("scale").dtype == torch.float64
    assert double.kernel.dtype == double.made.dtype == double.by_device["cpu"].dtype == torch.float64  # type: ignore
    assert double.by_device["count"] == 2  # type: ignore[index]
    assert torch.equal(double.one.weight.float(), model.one.weight)  # type: ignore[union-attr, arg-type]
