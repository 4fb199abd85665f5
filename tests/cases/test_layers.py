"""Layers as users write them: what counts is which operations read which parameters, not which class a module has."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from daar.pruning.folding import folded
from tests.cases.halving import Net, cbr, halved, images
from tests.networks import one_thread  # noqa: F401  # acts on this module


class BatchNormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return F.relu(y)


class PaddingConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, [1, 1, 1, 1]), self.weight, self.bias, self.stride)


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (std + 1e-5), self.bias)


class Affine(nn.Module):
    """Scale and shift as parameters of another shape than a norm's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(1, width, 1, 1)), nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift[:, None, None]


class Blur(nn.Module):
    """A fixed kernel, expanded to as many channels as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])  # type: ignore[operator]


def stack(conv: Callable[..., nn.Module], norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        *(layer for ins in (3, 32, 32) for layer in (conv(ins, 32, 3), norm(32), nn.ReLU())),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


@pytest.mark.parametrize(
    ("conv", "norm"),
    [
        (nn.Conv2d, BatchNormAct),
        (PaddingConv, nn.BatchNorm2d),
        (nn.Conv2d, FrozenBatchNorm2d),
        (nn.Conv2d, nn.SyncBatchNorm),
        (nn.Conv2d, LayerScale),
        (nn.Conv2d, Affine),
        (nn.Conv2d, nn.PReLU),
        (nn.Conv2d, nn.InstanceNorm2d),
        (nn.Conv2d, lambda width: nn.BatchNorm2d(width, affine=False)),
        (nn.Conv2d, lambda _: Blur()),
        (nn.Conv2d, lambda width: nn.GroupNorm(8, width)),
        (nn.Conv2d, lambda width: nn.GroupNorm(width, width)),
    ],
)  # fmt: skip
def test_a_layer_of_another_class_is_pruned(conv: Any, norm: Any) -> None:
    found = halved(stack(conv, norm))
    assert found.reduction >= 0.5
    assert found.width("0") < 32


def test_a_group_of_a_norm_goes_whole() -> None:
    found = halved(stack(nn.Conv2d, lambda width: nn.GroupNorm(8, width)))
    norm = found.slimmed.get_submodule("1")
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups < 8
    assert norm.num_channels == 4 * norm.num_groups


class FunctionalConv(nn.Module):
    """A conv on parameters of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc = cbr(3, 32), nn.Linear(32, 10)
        self.kernel, self.shift = nn.Parameter(torch.randn(32, 32, 3, 3) * 0.1), nn.Parameter(torch.randn(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(F.conv2d(self.first(x), self.kernel, self.shift)).mean((2, 3)))


def test_a_conv_on_a_parameter_is_pruned() -> None:
    found = halved(FunctionalConv(), unseen=("kernel",))
    assert found.slimmed.get_parameter("kernel").shape[0] < 32
    assert found.slimmed.get_parameter("kernel").shape[1] < 32


class Tied(nn.Module):
    """One parameter in two convs, such as weight-shared heads have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.d, self.fc = cbr(3, 32), cbr(32, 32), nn.Linear(32, 10)
        self.b, self.c = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.c.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.d(F.relu(self.c(F.relu(self.b(self.a(x)))))).mean((2, 3)))


class TiedAcross(Tied):
    """The tied convs lie side by side."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.fc(self.d(F.relu(self.b(x)) + F.relu(self.c(x.flip(2)))).mean((2, 3)))


class TiedNorms(Tied):
    """Norms that share their scale."""

    def __init__(self) -> None:
        super().__init__()
        self.c.weight = nn.Parameter(torch.randn(32, 32, 3, 3) * 0.1)
        self.m, self.n = nn.BatchNorm2d(32), nn.BatchNorm2d(32)
        self.n.weight = self.m.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.d(F.relu(self.n(self.c(F.relu(self.m(self.b(self.a(x)))))))).mean((2, 3)))


class CalledTwice(Tied):
    """One module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.c = self.b


class TransposedTwin(Tied):
    """A decoder that uses the encoder's weight the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(self.a(x)))
        return self.fc(self.d(F.relu(F.conv_transpose2d(x, self.b.weight, padding=1))).mean((2, 3)))


class SharedHead(Tied):
    """One head for two scales."""

    def forward(self, x: Tensor) -> Any:
        large = self.d(self.a(x))
        small = F.max_pool2d(large, 2)
        return self.b(large).mean((2, 3)), self.c(small).mean((2, 3))


@pytest.mark.parametrize("kind", [Tied, TiedAcross, TiedNorms, CalledTwice, SharedHead])
def test_parameters_that_are_one_stay_one(kind: type[Tied]) -> None:
    found = halved(kind())
    pairs = [("b", "c")] if kind is not TiedNorms else [("m", "n")]
    for one, other in pairs:
        assert found.slimmed.get_submodule(one).weight is found.slimmed.get_submodule(other).weight


def test_a_weight_that_functions_read_too_is_cut_once() -> None:
    found = halved(TransposedTwin(), unseen=None)
    assert found.width("b") < 32


COMPUTED: dict[str, Callable[[Net], Any]] = {
    "weight_norm": lambda net: nn.utils.weight_norm(net.b[0]),
    "spectral_norm": lambda net: nn.utils.spectral_norm(net.b[0]),
    "parametrizations.weight_norm": lambda net: nn.utils.parametrizations.weight_norm(net.b[0]),
    "parametrizations.spectral_norm": lambda net: nn.utils.parametrizations.spectral_norm(net.b[0]),
    "standardized": lambda net: net.b.__setitem__(0, Standardized(32, 32, 3, padding=1)),
    "all": lambda net: [part.__setitem__(0, Standardized(*part[0].weight.shape[1::-1], 3)) for part in (net.a, net.b)],  # type: ignore[call-arg, func-returns-value, index]
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("what", COMPUTED)
def test_what_a_computed_weight_reads_stays_until_it_is_folded(what: str) -> None:
    net = Net()
    COMPUTED[what](net)
    net.eval()
    found = halved(copy.deepcopy(net) if "norm" not in what or "param" in what else net, target=0.1, unseen=None)
    assert found.width("c.0") < 32
    plain, names = folded(net, images())
    assert "b.0" in names
    with torch.no_grad():
        torch.testing.assert_close(plain(images()), net(images()))
    opened = halved(plain)
    assert opened.reduction >= 0.5
    assert opened.width("b.0") < 32


def test_nothing_is_folded_where_weights_are_parameters() -> None:
    net = Net().eval()
    assert folded(net, images()) == (net, ())


class Deconvs(nn.Module):
    def __init__(self, *options: dict[str, Any]) -> None:
        super().__init__()
        self.e, self.o = cbr(3, 64), nn.Conv2d(64, 5, 1)
        self.t = nn.ModuleList(nn.ConvTranspose2d(64, 64, **option) for option in options)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        for layer in self.t:
            x = F.relu(layer(x))
        return self.o(x)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3)),
        Deconvs(*[{"kernel_size": 4, "stride": 2, "padding": 1}] * 2),
        Deconvs({"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "stride": 2, "output_padding": 1}),
        Deconvs({"kernel_size": 3, "groups": 64}, {"kernel_size": 3}),
        Deconvs({"kernel_size": 3, "groups": 4}, {"kernel_size": 3, "bias": False}),
        Deconvs({"kernel_size": 3, "dilation": 2}, {"kernel_size": 1, "groups": 2}),
        nn.Sequential(nn.ConvTranspose2d(3, 32, 2, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 3, 2, 2)),
    ],
)  # fmt: skip
def test_transposed_convs_are_pruned(model: nn.Module) -> None:
    assert halved(model, images(2, 3, 8, 8)).reduction >= 0.5
