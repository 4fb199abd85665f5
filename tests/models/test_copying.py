"""Copies of networks: what is one parameter stays one, and what a module holds by itself comes along."""

import pytest
import torch
from torch import Tensor, nn

from daar.models.copying import copied, doubled, lent


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


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_lent_network_comes_back_to_the_bit(kind: torch.dtype) -> None:
    model = Holder().to(kind)
    model.one.to(memory_format=torch.channels_last)
    model.get_parameter("one.bias").requires_grad = False
    model.views = torch.nn.ParameterList([torch.arange(6, dtype=kind)[:3]])  # of a larger one
    held = dict(model.named_parameters())
    before = {name: (value.clone(), value.stride(), value.requires_grad) for name, value in held.items()}
    expected = doubled(model)
    x = torch.randn(2, 3, 4, 4).double()
    with lent(model) as double:
        assert model.one.weight.numel() == 0, "the values lie in the double alone"
        assert double.get_parameter("two.weight") is double.get_parameter("one.weight")
        assert {value.dtype for value in double.parameters()} == {torch.float64}
        assert torch.equal(double(x), expected(x))
    after = dict(model.named_parameters())
    assert all(after[name] is value for name, value in held.items())
    for name, (value, stride, requires_grad) in before.items():
        assert after[name].dtype == kind
        assert (after[name].stride(), after[name].requires_grad) == (stride, requires_grad)
        assert torch.equal(after[name], value)


def test_a_lent_network_comes_back_when_what_uses_it_fails() -> None:
    model = Holder()
    before = model.one.weight.clone()
    with pytest.raises(ZeroDivisionError), lent(model):
        raise ZeroDivisionError
    assert torch.equal(model.one.weight, before)


def test_a_copy_holds_what_is_given_instead() -> None:
    model = Holder()
    instead = nn.Parameter(torch.zeros(2, 3, 1, 1))
    other = copied(model, {id(model.one.weight): instead})
    assert other.get_parameter("one.weight") is other.get_parameter("two.weight") is instead
