"""Networks as they are called: optional arguments, several inputs, branches on shapes, outputs of any structure."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.cases.halving import Net, cbr, halved, images
from tests.networks import one_thread  # noqa: F401  # acts on this module


def network(forward: Callable[..., Any], *parts: tuple[str, nn.Module]) -> Net:
    """A network with a forward of its own."""
    kind = type("Own", (Net,), {"forward": forward})
    net: Net = kind()
    for name, part in parts:
        setattr(net, name, part)
    return net


# arguments


def _targets(net: Net, x: Tensor, targets: Tensor | None = None) -> Tensor:
    out = net.classified(x)
    return out if targets is None else F.cross_entropy(out, targets)


def _mode(net: Net, x: Tensor, mode: str = "predict") -> Tensor:
    return net.classified(x) if mode == "predict" else net.features(x)


def _flags(net: Net, x: Tensor, *, return_features: bool = False, scale: float = 1.0) -> Any:
    features = net.features(x)
    out = net.fc(features.mean((2, 3)) * scale)
    return (out, features) if return_features else out


def _several(net: Net, *inputs: Tensor) -> Tensor:
    return net.classified(inputs[0])


def _any_keywords(net: Net, x: Tensor, **options: Any) -> Tensor:
    return net.classified(x * options.get("scale", 1.0))


def _dict_or_tensor(net: Net, x: Any) -> Tensor:
    return net.classified(x if isinstance(x, Tensor) else x["image"])


def _keyword_calls(net: Net, x: Tensor) -> Tensor:
    return net.fc(input=net.c(input=net.b(input=net.a(input=x))).mean(dim=(2, 3)))


def _mask(net: Net, x: Tensor, mask: Tensor | None = None) -> Tensor:
    features = net.features(x)
    return net.fc((features if mask is None else features * mask).mean((2, 3)))


@pytest.mark.parametrize(
    "forward",
    [_targets, _mode, _flags, _several, _any_keywords, _dict_or_tensor, _keyword_calls, _mask],
)
def test_optional_arguments_stand_at_their_defaults(forward: Any) -> None:
    assert halved(network(forward)).reduction >= 0.5


def test_an_averaged_model_is_pruned() -> None:
    assert halved(torch.optim.swa_utils.AveragedModel(Net())).reduction >= 0.5


# more than one image


def _squeeze(net: Net, x: Tensor) -> Tensor:
    return F.log_softmax(net.fc(F.adaptive_avg_pool2d(net.features(x), 1).squeeze()), dim=1)


def _pairs(net: Net, x: Tensor) -> Tensor:
    one, other = net.features(x).chunk(2, 0)
    return net.fc((one * other).mean((2, 3)))


def _segments(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    count, channels, height, width = x.shape
    return net.fc(net.c(x.view(count // 2, 2, channels, height, width).mean(1)).mean((2, 3)))


def _every_other(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(x[::2] - x[1::2]).mean((2, 3)))


def _batch_mean(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(x - x.mean(0, keepdim=True)).mean((2, 3)))


def _views(net: Net, x: Tensor) -> Tensor:
    return net.classified(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(0)


def _rolled(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(torch.roll(x, 1, 0)).mean((2, 3)))


def _similarity(net: Net, x: Tensor) -> Tensor:
    embedded = F.normalize(net.classified(x), dim=1)
    return embedded @ embedded.t()


@pytest.mark.parametrize(
    "forward", [_squeeze, _pairs, _segments, _every_other, _batch_mean, _views, _rolled, _similarity]
)
def test_networks_run_on_the_images_given(forward: Any) -> None:
    assert halved(network(forward)).reduction >= 0.5


# outputs


@dataclasses.dataclass
class Out:
    logits: Tensor
    stride: int = 8


class Named(NamedTuple):
    logits: Tensor
    aux: Tensor | None


class Holder:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "with None": lambda o: (o, None),
    "dict with None": lambda o: {"aux": None, "out": o},
    "with a number": lambda o: {"out": o, "stride": 8},
    "with a text": lambda o: {"out": o, "name": "x"},
    "with a mask": lambda o: (o, o > 0),
    "with classes": lambda o: (o, o.argmax(1)),
    "dataclass": Out,
    "named tuple": lambda o: Named(o, None),
    "object": Holder,
    "score": lambda o: o[:, 0],
    "mean": lambda o: o.mean(1),
    "one number": lambda o: o.mean(),
    "nested": lambda o: [{"a": [o, (o * 2,)]}, None],
    "empty list": lambda o: (o, []),
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_outputs_have_any_structure(what: str) -> None:
    made = OUTPUTS[what]
    assert halved(network(lambda net, x: made(net.classified(x)))).reduction >= 0.5


# branches on shapes


class Same(nn.Module):
    """Padding that depends on the size of the images (efficientnet_pytorch, timm's tf_*)."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv, self.stride = nn.Conv2d(ins, outs, 3, stride, bias=False), stride

    def forward(self, x: Tensor) -> Tensor:
        pad = max((math.ceil(x.shape[-1] / self.stride) - 1) * self.stride + 3 - x.shape[-1], 0)
        return self.conv(F.pad(x, [pad // 2, pad - pad // 2] * 2) if pad > 0 else x)


def _same() -> nn.Module:
    layers = [layer for ins, stride in ((3, 2), (32, 1)) for layer in (Same(ins, 32, stride), nn.BatchNorm2d(32))]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def _assert(net: Net, x: Tensor) -> Tensor:
    assert x.shape[1] == 3
    return net.classified(x)


def _resized(net: Net, x: Tensor) -> Tensor:
    y = net.b(net.a(F.interpolate(x, scale_factor=0.5)))
    if y.shape[-2:] != x.shape[-2:]:
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return net.fc(net.c(y).mean((2, 3)))


def _loop(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    while x.shape[-1] > 4:
        x = F.max_pool2d(x, 2)
    return net.fc(net.c(net.b(x)).mean((2, 3)))


def _asserts_its_width(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    assert x.shape[1] == net.b[0].in_channels
    return net.fc(net.c(net.b(x)).mean((2, 3)))


def _flattened_by_width(net: Net, x: Tensor) -> Tensor:
    x = net.features(x)
    return net.fc(x.view(x.size(0), x.size(1), -1).mean(-1).view(-1, net.fc.in_features))


def _odd(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    return net.fc(net.c(net.b(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "model",
    [_same(), *map(network, (_assert, _resized, _loop, _asserts_its_width, _flattened_by_width, _odd))],
)
def test_branches_on_shapes_are_taken_as_they_run(model: nn.Module) -> None:
    assert halved(model).reduction >= 0.5


# operations by keyword, numbers in the code


def _cat(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc(net.c(net.d(torch.cat(tensors=[x, net.b(x)], dim=1))).mean((2, 3)))  # type: ignore[operator]


def _expanded(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    gate = net.b[0](x.mean((2, 3), keepdim=True))
    return net.fc(net.c(net.d(torch.cat([x, gate.expand_as(x)], 1))).mean((2, 3)))  # type: ignore[operator]


def _by_width(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(x * x.shape[1] ** -0.5).mean((2, 3)))


def _stacked(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc(net.c(torch.stack(tensors=(x, net.b(x)), dim=1).sum(dim=1)).mean((2, 3)))


def _unflattened(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(x.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)).mean((2, 3)))


def _einsum(net: Net, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return net.fc(net.c(x * torch.einsum("nchw->nc", x)[..., None, None].sigmoid()).mean((2, 3)))


def _added_in_place(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    y = net.b(x)
    y += x
    y[:, :, 0] = 0
    return net.fc(net.c(y.mul_(0.5)).mean((2, 3)))


@pytest.mark.parametrize("forward", [_cat, _expanded, _by_width, _stacked, _unflattened, _einsum, _added_in_place])
def test_operations_are_followed_however_they_are_written(forward: Any) -> None:
    wide = forward in (_cat, _expanded)
    model = network(forward, *([("d", cbr(64, 32))] if wide else []))
    assert halved(model, target=0.3 if forward in (_expanded, _unflattened) else 0.5).reduction >= 0.3


def test_parts_cut_at_written_places_stay() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c, self.fc = cbr(3, 48), cbr(48, 32), nn.Linear(32, 10)
            self.parts = nn.ModuleList(cbr(16, 16) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            pieces = self.a(x).tensor_split((16, 32), 1)
            joined = torch.cat([part(piece) for part, piece in zip(self.parts, pieces, strict=True)], 1)
            return self.fc(self.c(joined).mean((2, 3)))

    found = halved(Split())
    assert found.width("a.0") == 48
    reasons = [group.frozen for group in found.graph.groups if group.frozen]
    assert any("written in the code" in reason and "test_calls.py" in reason for reason in reasons)


# several inputs, other ranks


class Two(Net):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return self.classified(x + y)


class Late(Net):
    """The second input is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 32)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:  # type: ignore[override]
        x = self.b(self.a(image)) * self.embed(features)[..., None, None].sigmoid()
        return self.fc(self.c(x).mean((2, 3)))


class Siamese(Net):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
        return (self.classified(left) - self.classified(right)).abs()


class Nested(Net):
    def forward(self, pair: tuple[Tensor, Tensor], scale: Tensor) -> Tensor:  # type: ignore[override]
        return self.classified(pair[0] * scale[:, None, None, None] + pair[1])


SEQUENCES, VIDEOS = images(4, 3, 40), images(2, 3, 6, 8, 8)
RANKS: list[tuple[nn.Module, Any]] = [
    (Two(), (images(), images(4, 3, 16, 16))),
    (Late(), {"image": images(), "features": torch.ones(4, 5)}),
    (Siamese(), [images(), images() + 1]),
    (Nested(), ((images(), images()), torch.ones(4))),
    (nn.Sequential(nn.Conv1d(3, 32, 3), nn.ReLU(), nn.Conv1d(32, 32, 3), nn.ReLU(), nn.Conv1d(32, 3, 3)), SEQUENCES),
    (nn.Sequential(nn.Conv3d(3, 32, 3), nn.BatchNorm3d(32), nn.ReLU(), nn.Conv3d(32, 4, 3)), VIDEOS),
    (nn.Sequential(nn.Conv1d(3, 32, 3, dilation=2), nn.BatchNorm1d(32), nn.ConvTranspose1d(32, 4, 4, 2)), SEQUENCES),
    (nn.Sequential(nn.ConvTranspose3d(3, 32, 2, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(32, 4, 3)), VIDEOS),
    (nn.Sequential(nn.Conv1d(3, 32, 3), nn.Conv1d(32, 32, 3, groups=32), nn.PReLU(32), nn.Conv1d(32, 4, 1)), SEQUENCES),
]


@pytest.mark.parametrize(("model", "given"), RANKS)
def test_inputs_are_several_and_of_any_rank(model: nn.Module, given: Any) -> None:
    assert halved(model, given).reduction >= 0.45


# lists of parts


class C2f(nn.Module):
    """YOLOv8's block."""

    def __init__(self, ins: int, outs: int, count: int = 2) -> None:
        super().__init__()
        self.width = outs // 2
        self.cv1, self.cv2 = cbr(ins, outs, 1), cbr((2 + count) * self.width, outs, 1)
        self.m = nn.ModuleList(cbr(self.width, self.width) for _ in range(count))

    def parts(self, x: Tensor) -> list[Tensor]:
        return list(self.cv1(x).chunk(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.parts(x)
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class BySplit(C2f):
    """Ultralytics' forward_split."""

    def parts(self, x: Tensor) -> list[Tensor]:
        return list(self.cv1(x).split((self.width, self.width), 1))


class BySlices(C2f):
    def parts(self, x: Tensor) -> list[Tensor]:
        y = self.cv1(x)
        return [y[:, : self.width], y[:, self.width :]]


class ByHalf(C2f):
    def parts(self, x: Tensor) -> list[Tensor]:
        y = self.cv1(x)
        half = y.shape[1] // 2
        return [y[:, :half], y[:, half:]]


class ByView(C2f):
    def parts(self, x: Tensor) -> list[Tensor]:
        y = self.cv1(x)
        return list(y.view(y.shape[0], 2, -1, *y.shape[2:]).unbind(1))


class ByTensorSplit(C2f):
    def parts(self, x: Tensor) -> list[Tensor]:
        return list(torch.tensor_split(self.cv1(x), 2, dim=1))


@pytest.mark.parametrize("kind", [C2f, BySplit, BySlices, ByHalf, ByView, ByTensorSplit])
def test_parts_of_channels_are_pruned(kind: type[C2f]) -> None:
    model = nn.Sequential(
        cbr(3, 16), kind(16, 32), kind(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    found = halved(model)
    assert found.reduction >= 0.5
    assert found.width("1.cv1.0") < 32
