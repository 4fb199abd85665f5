"""Heads and branches that exist in training mode only: the pruned network trains."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import daar
from tests.cases.halving import Net, cbr, halved, images
from tests.networks import one_thread  # noqa: F401  # acts on this module


def head(width: int = 32) -> nn.Sequential:
    return nn.Sequential(cbr(width, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class Aux(Net):
    def __init__(self) -> None:
        super().__init__()
        self.aux = head()

    def forward(self, x: Tensor) -> Any:
        y = self.b(self.a(x))
        out = self.fc(self.c(y).mean((2, 3)))
        return (out, self.aux(y)) if self.training else out


class AuxDict(Aux):
    def forward(self, x: Tensor) -> Any:
        y = self.a(x)
        out = {"out": self.fc(self.c(self.b(y)).mean((2, 3)))}
        return {**out, "aux": self.aux(y)} if self.training else out


class Deep(Aux):
    """Supervised at every depth by one shared head."""

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        y = self.b(x)
        z = self.c(y)
        out = self.fc(z.mean((2, 3)))
        return [out, *(self.aux(part) for part in (x, y, z))] if self.training else out


class Projection(Net):
    """A linear head on pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Any:
        y = self.features(x).mean((2, 3))
        return (self.fc(y), F.normalize(self.aux(y), dim=1)) if self.training else self.fc(y)


class Reconstruction(Net):
    """A decoder that only trains."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2), nn.ReLU(), nn.Conv2d(16, 3, 3, 2, 1))

    def forward(self, x: Tensor) -> Any:
        y = self.features(x)
        out = self.fc(y.mean((2, 3)))
        return (out, (self.aux(y) - x).abs().mean()) if self.training else out


class Dropped(Net):
    """Another branch in training: dropout, noise, stochastic depth."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.training:
            y = F.dropout2d(y, 0.3) + 0.1 * torch.randn_like(y)
        return self.fc((self.c(y) if self.training and torch.rand(()) < 0 else self.c(self.b(y))).mean((2, 3)))


@pytest.mark.parametrize("kind", [Aux, AuxDict, Deep, Projection, Reconstruction, Dropped])
def test_what_only_trains_is_cut_along(kind: type[Net]) -> None:
    found = halved(kind())
    assert found.reduction >= 0.5
    made = found.slimmed.train()(images())
    parts = made.values() if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else [made]
    sum(part.sum() for part in parts).backward()
    assert all(parameter.grad is not None for parameter in found.slimmed.parameters())


class Counted(Aux):
    """Nothing that stays whole makes its training code run."""

    def forward(self, x: Tensor) -> Any:
        if self.training and sum(parameter.numel() for parameter in self.parameters()) != 24_628:
            raise ValueError("expected 24,628 parameters")
        return super().forward(x)


def test_a_slim_network_that_cannot_train_is_told_so() -> None:
    model = Counted()
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_628
    (said,) = (note for note in daar.prune(model, images(), method="l1").report.notes if "training" in note)
    assert "in training mode it fails: expected 24,628 parameters" in said
    assert not [note for note in daar.prune(Aux(), images(), method="l1").report.notes if "training" in note]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("googlenet", 224), ("inception_v3", 299)])
def test_auxiliary_heads_of_torchvision_train(name: str, size: int) -> None:
    torch.manual_seed(0)
    found = halved(torchvision.models.get_model(name, weights=None, init_weights=False), images(2, 3, size, size))
    assert found.reduction >= 0.5
    made = found.slimmed.train()(images(2, 3, size, size))
    sum(part.sum() for part in made if part is not None).backward()
