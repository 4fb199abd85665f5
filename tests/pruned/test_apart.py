"""A network whose code reaches its layers past the model cannot be copied apart from it, and is refused unchanged."""

import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.errors import InputError
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

C = 12


class Weakly(nn.Module):
    """Runs a module that another holds."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.other = weakref.ref(other)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.other()(x)  # type: ignore[misc]  # alive
        return y


class Itself(nn.Conv2d):
    """Copies are itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Itself":
        return self


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, C, 3), nn.BatchNorm2d(C), nn.ReLU(), nn.Conv2d(C, C, 3), nn.BatchNorm2d(C), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 5),
    )  # fmt: skip


def patched(net: nn.Sequential) -> None:
    norm = net[4]
    inner = norm.forward
    norm.forward = lambda x: inner(x) * 2


def closed_over(net: nn.Sequential) -> None:
    net[3].register_forward_hook(lambda *called: net[4](called[2]))


def read_only(net: nn.Sequential) -> None:
    net[3].register_forward_hook(lambda *called: called[2] * net[1].weight.mean())  # type: ignore[operator]


def weakly(net: nn.Sequential) -> None:
    norm = net[4]
    net[4] = Weakly(norm)
    net.norm = norm
    net.forward = types.MethodType(lambda self, x: self[:9](x), net)  # type: ignore[method-assign]


def not_copied(net: nn.Sequential) -> None:
    net[3] = Itself(C, C, 3)


BOUND: dict[str, tuple[Callable[[nn.Sequential], None], str]] = {
    "a patched forward": (patched, "4"),
    "a closure that runs a module": (closed_over, "4"),
    "a closure that reads a weight": (read_only, "1"),
    "a weak reference": (weakly, "norm"),
    "a module that is not copied": (not_copied, "3"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("bind", "name"), BOUND.values(), ids=BOUND)
def test_it_is_refused_by_name_and_nothing_is_changed(
    bind: Callable[[nn.Sequential], None], name: str, training: bool, tmp_path: Path
) -> None:
    x = torch.randn(4, 3, 8, 8)
    plain = daar.prune(enliven(network()), x, method="l1", macs_reduction=0.2)
    daar.save(plain, tmp_path / "slim")
    net = network()
    bind(net)
    net.train(training)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    for refused in (
        lambda: daar.prune(net, x, method="l1", macs_reduction=0.2),
        lambda: daar.prune(net, x, macs_reduction=0.2),
        lambda: daar.slim_by(net, x, plain.plan),
        lambda: daar.load(net, tmp_path / "slim"),
    ):
        with pytest.raises(InputError, match=rf"^{name!r} is reached past the model[^\n]*Reach it by self\.$"):
            refused()
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(module.training == training for module in net.modules())


def test_what_a_copy_takes_along_is_pruned() -> None:
    net = network()
    net[3].register_forward_hook(lambda module, _, made: made + module.bias[:, None, None])
    net[5].forward = types.MethodType(lambda _, x: x.clamp(min=0), net[5])
    pruned = daar.prune(enliven(net), torch.randn(4, 3, 8, 8), method="l1", macs_reduction=0.2)
    assert pruned.report.slim_error <= 1e-12
