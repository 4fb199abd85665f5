"""Networks with parts of float16 or bfloat16: cut as their float32 twins, proven in float64, types as they were."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import daar
from daar.errors import InputError
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
HALVES = [torch.float16, torch.bfloat16]


class Parts(nn.Module):
    """A head that stands first, two convs and a residual one; some parts in a type of few digits."""

    def __init__(self, half: torch.dtype = torch.float32, where: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.head, self.one = nn.Linear(16, 5), nn.Conv2d(3, 16, 3)
        self.norm, self.two, self.three = nn.BatchNorm2d(16), nn.Conv2d(16, 24, 3), nn.Conv2d(24, 16, 1)
        enliven(self)
        self.half_type = half
        for name in where:
            self.get_submodule(name).to(half)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x)).relu()
        return self.head((x[:, :, 1:-1, 1:-1] + self.three(self.two(x).relu())).mean((2, 3)))


class Follows(Parts):
    """Casts to the type of the weights that come next, as code does that is written for any type."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x.to(self.one.weight.dtype)).to(self.norm.weight.dtype)).relu()
        y = self.two(x.to(self.two.weight.dtype)).relu().to(self.three.weight.dtype)
        y = x[:, :, 1:-1, 1:-1] + self.three(y)
        return self.head(y.mean((2, 3)).to(self.head.weight.dtype)).float()


class Fixed(Parts):
    """Casts to types that the code names."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x)).relu()
        y = self.two(x.to(self.half_type)).relu().float()
        scale = torch.tensor([0.5], dtype=torch.float32) + torch.zeros(1)
        return self.head((x[:, :, 1:-1, 1:-1] + self.three(y) * scale * 2).mean((2, 3)))


def made(kind: type[Parts], *given: Any) -> Parts:
    torch.manual_seed(0)
    return kind(*given).eval()


CASES = [
    *((Follows, where) for where in (("one",), ("two",), ("one", "norm"), ("three", "head"), ("one", "two", "three"))),
    (Fixed, ("two",)),
]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("kind", "where"), CASES)
def test_such_a_network_is_cut_as_its_twin_in_float32(kind: type[Parts], where: tuple[str, ...], half: Any) -> None:
    model = made(kind, half, where)
    twin = made(Parts)
    twin.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    types = {name: value.dtype for name, value in model.state_dict().items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pruned = daar.prune(model, X, method="l1", macs_reduction=0.5)
    plain = daar.prune(twin, X, method="l1", macs_reduction=0.5)
    assert pruned.plan.groups == plain.plan.groups
    assert pruned.report.slim_error <= 1e-10
    assert {name: value.dtype for name, value in pruned.model.state_dict().items()} == types
    state = plain.model.state_dict()
    assert all(torch.equal(value.float(), state[name]) for name, value in pruned.model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(pruned.model(X), plain.model(X), atol=0.3, rtol=0.1)  # it runs as it is


@pytest.mark.parametrize("method", ["daar", "fpgm", "taylor"])
def test_methods_and_policies_that_run_it(method: str) -> None:
    pruned = daar.prune(made(Fixed, torch.bfloat16, ("two",)), X, method=method, policy="adaptive", macs_reduction=0.4)
    assert 0.4 <= pruned.report.macs_reduction < 0.45
    assert pruned.report.slim_error <= 1e-10


def test_what_is_saved_comes_back_in_its_types(tmp_path: Path) -> None:
    pruned = daar.prune_gradually(
        made(Fixed, torch.float16, ("two",)), X, lambda _: None, method="l1", macs_reduction=0.4, rounds=2
    )
    daar.save(pruned, tmp_path)
    again = daar.load(made(Fixed, torch.float16, ("two",)), tmp_path)
    assert again.get_parameter("two.weight").dtype == torch.float16
    with torch.no_grad():
        assert torch.equal(again(X), pruned.model(X))
    slim = daar.slim_by(made(Fixed, torch.float16, ("two",)), X, pruned.plan)
    assert slim.get_parameter("two.weight").dtype == torch.float16
    assert daar.groups(made(Fixed, torch.float16, ("two",)), X)["two"].scopes == ("inner", "all", "units")


class Numbered(Fixed):
    """Code that takes the first channels by their number is found in any type."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x)).relu()
        y = self.two(x.to(self.half_type)).relu().float()
        y = self.three(torch.cat([y[:, :8] * 2, y[:, 8:]], 1).reshape(-1, 24, *y.shape[2:]))
        return self.head((x[:, :, 1:-1, 1:-1] + y).mean((2, 3)))


def test_code_that_relies_on_a_number_of_channels_is_found() -> None:
    groups = daar.groups(made(Numbered, torch.bfloat16, ("two",)), X)
    assert (groups["two"].scopes, groups["one"].scopes) == ((), ("all", "units"))
    pruned = daar.prune(made(Numbered, torch.bfloat16, ("two",)), X, method="l1", macs_reduction=0.2)
    assert pruned.report.frozen["two"] == groups["two"].why
    assert pruned.report.slim_error <= 1e-10


def half_body(name: str, kind: torch.dtype) -> nn.Module:
    """A network of torchvision with convs of few digits and norms of float32, as mixed training leaves it."""
    torch.manual_seed(0)
    model: nn.Module = enliven(getattr(torchvision.models, name)()).to(kind)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    return model.eval()


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_norms_of_float32_in_a_network_of_half(name: str, kind: torch.dtype) -> None:
    model, x = half_body(name, kind), torch.randn(2, 3, 64, 64)
    pruned = daar.prune(model, x, method="l1", macs_reduction=0.5)
    assert pruned.report.slim_error <= 1e-10
    assert {value.dtype for value in pruned.model.parameters()} == {kind, torch.float32}
    with torch.no_grad():
        assert bool(pruned.model(x.to(kind)).isfinite().all())


class Strict(Fixed):
    """Insists on a type."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x).to(self.half_type)
        if x.dtype != self.half_type:
            raise TypeError(f"got {x.dtype}")
        return x


def test_what_runs_in_no_other_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"in float64 or in float32, .* Give it in float32, with no part in") as error:
        daar.prune(made(Strict, torch.float16, ("two",)), X, method="l1")
    assert "\n" not in str(error.value)


class Checked(nn.Module):
    """Its code asks for the type that it is used in, and says so in its own way."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Linear(10, 5)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise self.error(x.dtype)
        return self.head(self.two(self.one(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("error", [AssertionError, KeyError, AttributeError, NotImplementedError, RuntimeError])
@pytest.mark.parametrize("method", ["l1", "daar"])
def test_code_that_asks_for_float32_is_proven_in_it(error: type[Exception], method: str) -> None:
    torch.manual_seed(0)
    model, x = Checked(error).eval(), torch.randn(8, 3, 10, 10)
    pruned = daar.prune(model, x, method=method, macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-4
    assert pruned.report.macs < 0.7 * pruned.report.macs_dense


def test_code_that_fails_in_every_type_but_its_own_is_refused_in_one_line() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.bfloat16, "give bfloat16"
            return self.two(self.one(x).relu())

    with pytest.raises(InputError, match="give bfloat16"):
        daar.prune(Half().bfloat16().eval(), torch.randn(4, 3, 10, 10), method="l1", macs_reduction=0.3)
