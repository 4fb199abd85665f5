"""What weights may be: counted by hand, and on networks of a user's own."""

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import daar
from daar.errors import InputError
from daar.models.weights import FLOATS, require_sound, types_of
from daar.pruned import once
from daar.pruning.slim import slim

NAN, INF = float("nan"), float("inf")


def refusal(**tensors: torch.Tensor) -> str:
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    with pytest.raises(InputError) as caught:
        require_sound(named, types_of(named), "net")
    return str(caught.value)


def test_values_are_counted_by_kind() -> None:
    weight = torch.ones(2, 3, 200)
    weight[0, 0, :3] = NAN
    assert refusal(a__weight=weight).startswith("net: a.weight has 3 NaN values of 1,200. The training failed")
    weight[1, 2, 7] = -INF
    assert "a.weight has 3 NaN and 1 infinite values of 1,200." in refusal(a__weight=weight)
    variance = torch.tensor([-1.0, 0.0, 1e-45, NAN, -2.0])
    expected = "bn.running_var has 1 NaN and 2 negative values of 5."
    assert expected in refusal(bn__running_var=variance)
    assert "(and 1 more tensors are not sound)" in refusal(a__weight=weight, bn__running_var=variance)


@pytest.mark.parametrize(
    "tensors",
    [
        {"bn.running_var": torch.tensor([0.0, -0.0, 1e-45, 3e38])},
        {"bn.running_mean": torch.tensor([-3e38, 3e38]), "bn.bias": torch.zeros(0)},
        {"conv.weight": torch.zeros(2, 2), "bn.num_batches_tracked": torch.tensor(0)},
        {"conv.weight": torch.ones(1).expand(3, 3), "other.weight": torch.randn(4, 4).t()},
    ],
    ids=["dead and tiny variances", "large and none", "zeros", "strided"],
)
def test_what_a_network_can_have_is_sound(tensors: dict[str, torch.Tensor]) -> None:
    require_sound(tensors, types_of(tensors), "net")


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=9),
    st.sampled_from(FLOATS),
    st.sampled_from(["bn.running_var", "bn.running_mean"]),
)
def test_sound_are_exactly_finite_values_and_no_negative_variance(
    values: list[float], kind: torch.dtype, name: str
) -> None:
    tensor = torch.tensor(values).to(kind)
    bad = [v for v in tensor.double().tolist() if not math.isfinite(v) or (name.endswith("var") and v < 0)]
    if not bad:
        require_sound({name: tensor}, {name: kind}, "net")
        return
    with pytest.raises(InputError) as caught:
        require_sound({name: tensor}, {name: kind}, "net")
    counts = [int(n) for n in re.findall(r"(?:has|and) (\d+) ", str(caught.value))]
    assert sum(counts) == len(bad)


@pytest.mark.parametrize("kind", [torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2])
def test_complex_numbers_and_8_bit_floats_are_compared_too(kind: torch.dtype) -> None:
    """Buffers of a network of one's own; torch finds no least and no greatest of them."""
    sound = torch.ones(3, dtype=torch.float32).to(kind)
    require_sound({"turn": sound}, {"turn": kind}, "net")
    if kind.is_complex:
        sound = torch.conj(sound)
        require_sound({"turn": sound}, {"turn": kind}, "net")
        assert "turn has 1 infinite value of 3." in refusal(turn=torch.tensor([1, complex(1, INF), 1j], dtype=kind))
    assert "turn has 1 NaN value of 3." in refusal(turn=torch.tensor([0.0, NAN, 1.0]).to(kind))


# a user's own network


class Masking(nn.Module):
    """Adds a mask of -inf where pruning has no business, as attention does."""

    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -INF]))
        self.phase = nn.Parameter(torch.ones(1, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (x.mean() + self.mask).softmax(0).sum() * self.phase.abs()


def own(kind: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*model, nn.LazyLinear(4)).to(kind).eval()


IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def prune_refusal(model: nn.Module) -> str:
    with pytest.raises(InputError) as caught:
        daar.prune(model, IMAGES, method="l1", macs_reduction=0.3)
    assert "coupled" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_one_weight_that_is_not_finite_is_named(value: float) -> None:
    model = own()
    model(IMAGES)
    with torch.no_grad():
        model[3].weight[2, 1, 0, 0] = value
    assert prune_refusal(model).startswith("the model: 3.weight has 1 ")


def test_a_negative_variance_is_named() -> None:
    model = own()
    model(IMAGES)
    model[1].running_var[5] = -1
    assert prune_refusal(model).startswith("the model: 1.running_var has 1 negative value of 8.")


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_layers_of_other_types_are_named(kind: torch.dtype) -> None:
    model = own()
    model(IMAGES)
    model[3].weight = nn.Parameter(model[3].weight.detach().to(kind), requires_grad=False)
    assert prune_refusal(model).startswith(f"the model: 3.weight is of {kind}, expected torch.float32.")


def test_sparse_layers_are_named() -> None:
    model = own()
    model(IMAGES)
    model[3].weight = nn.Parameter(model[3].weight.detach().to_sparse())
    assert prune_refusal(model).startswith("the model: 3.weight is sparse_coo, expected torch.strided.")


class Masked(nn.Conv2d):
    """A conv with buffers of its own, as those of autoregressive or quantisation-aware networks."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3)
        self.register_buffer("mask", torch.ones_like(self.weight, dtype=torch.bool))
        self.register_buffer("limit", torch.tensor(INF))
        self.register_buffer("calls", torch.tensor(0, dtype=torch.int32))
        self.register_buffer("log_running_var", torch.tensor(-1.0))


def test_further_buffers_of_layers_are_their_own_affair() -> None:
    model = own()
    model(IMAGES)
    model[3] = Masked()
    model[1].num_batches_tracked = torch.tensor(2.5)  # of weights that were averaged
    assert daar.prune(model, IMAGES, method="l1", macs_reduction=0.3).report.slim_error < 1e-10


def test_finite_weights_that_overflow_are_told_as_that() -> None:
    model = own()
    model(IMAGES)
    with torch.no_grad():
        for conv in (model[0], model[3]):
            conv.weight.mul_(1e30)
    said = prune_refusal(model)
    assert said.startswith("the network's output should be finite, but is NaN or infinite for 2 of 2 images")


def test_what_is_in_other_modules_is_their_own_affair() -> None:
    model = nn.Sequential(own(), Masking())
    model(IMAGES)
    pruned = daar.prune(model, IMAGES, method="l1", macs_reduction=0.3)
    assert pruned.report.slim_error < 1e-10


def test_where_the_output_is_zero_what_every_operation_returns_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that begins at zero, as some do: of outputs alone, any slim network would be equal."""
    model = own()
    model(IMAGES)
    nn.init.zeros_(model[6].weight)
    nn.init.zeros_(model[6].bias)
    pruned = daar.prune(model, IMAGES, method="l1", macs_reduction=0.3)
    assert pruned.report.slim_error == 0
    assert pruned.report.macs_reduction >= 0.3

    def wrong(*given: Any) -> nn.Module:
        made = slim(*given)
        made.get_submodule("0").get_parameter("weight").data.mul_(1.01)
        return made

    monkeypatch.setattr(once, "slim", wrong)
    with pytest.raises(InputError, match=r"but does not\. From convolution in 0 on its values differ"):
        daar.prune(model, IMAGES, method="l1", macs_reduction=0.3)
