"""What runs in training mode only is followed, kept or named, and what never ran is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import daar
from daar.pruned import Pruned
from daar.pruning.training_mode import asks_for_mode, unread
from tests.cases.halving import Net, cbr, images
from tests.networks import one_thread  # noqa: F401  # acts on this module

CLASSES = torch.zeros(4, dtype=torch.int64)


def pruned(model: nn.Module, **given: Any) -> Pruned:
    return daar.prune(model, images(4), method="l1", macs_reduction=0.3, **given)


def said(made: Pruned, start: str) -> list[str]:
    return [note for note in made.report.notes if note.startswith(start)]


class WithTargets(Net):
    """The training mode of torchvision: it wants targets and returns a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Conv2d(32, 10, 1)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        y = self.b(self.a(x))
        out = self.fc(self.c(y).mean((2, 3)))
        if not self.training:
            return out
        assert targets is not None, "targets should not be None in training"
        return F.cross_entropy(out, targets) + F.cross_entropy(self.aux(y).mean((2, 3)), targets)


class Written(Net):
    """No parameter of its own, but a number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 32

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        if self.training:
            y = y * F.dropout(torch.ones(len(y), self.width, 1, 1, dtype=y.dtype), 0.1)
        return self.fc(self.c(y).mean((2, 3)))


class Bank(Net):
    """A buffer that training fills with features."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(100, 32))

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x).mean((2, 3))
        if self.training:
            self.get_buffer("bank")[: len(x)] = features.detach()
        return self.fc(features)


class Reshaped(Net):
    """A reshape that says how many channels there are."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        if self.training:
            y = y.reshape(len(y), 32, -1).roll(1, 2).reshape(y.shape)
        return self.fc(self.c(y).mean((2, 3)))


class Helper(Net):
    """The mode is read by a function of the module, not by forward."""

    def noisy(self, y: Tensor) -> Tensor:
        return y + torch.zeros(32, 1, 1, dtype=y.dtype) if self.training else y

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c(self.noisy(self.b(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize("kind", [Written, Bank, Reshaped, Helper])
def test_a_slim_network_trains_whatever_only_training_runs(kind: type[Net], tmp_path: Path) -> None:
    made = pruned(kind())
    loss = made.model.train()(images(4)).square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in made.model.parameters())
    assert not said(made, "training")
    daar.save(made, tmp_path)  # which another process has to follow in training mode too
    again = daar.load(kind(), tmp_path)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in made.model.state_dict().items()
    }


def test_heads_that_want_targets_are_cut_along() -> None:
    made = pruned(WithTargets())
    loss = made.model.train()(images(4), CLASSES)
    loss.backward()
    assert all(parameter.grad is not None for parameter in made.model.parameters())
    assert len(made.model.get_submodule("b.0").get_parameter("weight")) < 32
    assert not said(made, "not run")


class Unused(Net):
    """A branch that no image of these takes, and a head that another method runs."""

    def __init__(self) -> None:
        super().__init__()
        self.rare, self.head2 = cbr(32, 32), nn.Conv2d(32, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return self.fc(self.c(self.rare(y) if x.abs().max() > 100 else y).mean((2, 3)))


def test_parts_that_never_ran_are_named() -> None:
    (note,) = said(pruned(Unused()), "not run")
    assert note.startswith("not run: rare.0, rare.1, head2, neither on these images nor in training mode.")
    assert not said(pruned(Net()), "not run")


def test_the_mode_is_looked_for_in_own_code_alone() -> None:
    assert not asks_for_mode(nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)))
    assert not asks_for_mode(Net())
    assert all(asks_for_mode(kind()) for kind in (WithTargets, Written, Bank, Reshaped, Helper))
    patched = Net()
    patched.a.forward = lambda x: x if patched.training else x + 1  # type: ignore[method-assign]
    assert asks_for_mode(patched)
    assert unread(Unused()) == [name for name, _ in Unused().named_parameters()]
