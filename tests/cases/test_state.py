"""What modules hold besides parameters, networks that fix float32 inside, and outputs of nothing but zeros."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as masks
from torch import Tensor, nn

from daar.models.copying import copied
from tests.cases.halving import Net, halved, images
from tests.networks import one_thread  # noqa: F401  # acts on this module


class Keeps(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.last = self.features(x)
        return self.fc(self.last.mean((2, 3)))


class KeepsBuffer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_map", torch.zeros(32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        self.mean_map = y.mean((0, 2, 3)).detach()
        return self.fc(self.c(y - self.mean_map[:, None, None]).mean((2, 3)))


@pytest.mark.parametrize("kind", [Keeps, KeepsBuffer])
def test_tensors_of_the_last_run_are_no_obstacle(kind: type[Net]) -> None:
    net = kind()
    net(images()).sum().backward()
    assert halved(net).reduction >= 0.5


MASKS: dict[str, Callable[[nn.Module], Any]] = {
    "unstructured": lambda conv: masks.l1_unstructured(conv, "weight", 0.5),
    "random": lambda conv: masks.random_unstructured(conv, "weight", 0.2),
    "filters": lambda conv: masks.ln_structured(conv, "weight", 0.25, n=1, dim=0),
    "inputs": lambda conv: masks.random_structured(conv, "weight", 0.25, dim=1),
    "twice": lambda conv: [masks.l1_unstructured(conv, "weight", 0.3) for _ in range(2)],
    "bias": lambda conv: masks.identity(conv, "weight"),
}


@pytest.mark.parametrize("what", MASKS)
def test_masks_of_torch_are_cut_with_their_weights(what: str) -> None:
    net = Net()
    MASKS[what](net.b[0])
    slimmed = halved(net, unseen=None).slimmed
    conv = slimmed.get_submodule("b.0")
    assert conv.weight_mask.shape == conv.weight_orig.shape
    assert conv.weight_orig.shape[0] < 32  # type: ignore[index]


class Cast(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classified(x.float())


class Kernel(Net):
    """No buffer: it follows neither `.to` nor `.double`."""

    def __init__(self) -> None:
        super().__init__()
        self.k = torch.ones(3, 1, 3, 3) / 9

    def forward(self, x: Tensor) -> Tensor:
        return self.classified(F.conv2d(x, self.k, padding=1, groups=3))


class Grid(Net):
    """Made in float32 in the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classified(x + torch.linspace(0, 1, x.shape[-1], dtype=torch.float32))


class CastLater(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)).to(torch.float32))


class Rounded(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classified(x.to(torch.float32) * torch.tensor([0.5, 1, 2], dtype=torch.float32)[:, None, None])


@pytest.mark.parametrize("kind", [Cast, Kernel, Grid, CastLater, Rounded])
def test_networks_that_fix_float32_are_proven(kind: type[Net]) -> None:
    assert halved(kind()).reduction >= 0.5


class Offsets(Net):
    """A second head that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(32, 2, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return self.fc(features.mean((2, 3))), self.offset(features)


class Silent(Net):
    """Nothing passes the last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.classified(x) - 1e6)


class ZeroLast(Net):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)


class Residual(Net):
    """A branch whose last scale is zero, as at initialisation."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(32, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.fc(self.c(x + self.gamma * self.b(x)).mean((2, 3)))


@pytest.mark.parametrize("kind", [Offsets, Silent, ZeroLast, Residual])
def test_outputs_may_be_zero(kind: type[Net]) -> None:
    assert halved(kind()).reduction >= 0.5


def test_a_copy_shares_nothing() -> None:
    net = Keeps()
    net(images())
    copy = copied(net)
    assert copy.a[0].weight is not net.a[0].weight  # type: ignore[index, union-attr]


class InfinitePadding(Net):
    """Pools with zeros that are no values, as timm's `MaxPool2dSame`."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(self.a(x), (0, 1, 0, 1), value=-float("inf")), 3, 2)
        return self.fc(self.c(self.b(x)).mean((2, 3)))


class MaskedFill(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return self.fc(self.c(y * y.masked_fill(x[:, :1] > 1, -torch.inf).sigmoid()).mean((2, 3)))


@pytest.mark.parametrize("kind", [InfinitePadding, MaskedFill])
def test_infinite_values_in_between_are_equal(kind: type[Net]) -> None:
    found = halved(kind())
    assert found.reduction >= 0.5
    assert not found.graph.repairs.kept
