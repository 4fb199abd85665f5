"""Architectures beyond classification, at small sizes: pruned by half, or the reason named."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection, segmentation, video

from tests.cases.halving import cbr, halved, images
from tests.cases.test_calls import C2f
from tests.networks import one_thread  # noqa: F401  # acts on this module


class UNet(nn.Module):
    def __init__(self, width: int = 8, depth: int = 3) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(cbr(i, o), cbr(o, o)) for i, o in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(cbr(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        return self.head(x)


class TemporalBlock(nn.Module):
    """Of a TCN: causal convs, cut by `Chomp`, around a shortcut."""

    def __init__(self, ins: int, outs: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv1 = nn.Conv1d(ins, outs, 3, padding=self.cut, dilation=dilation)
        self.conv2 = nn.Conv1d(outs, outs, 3, padding=self.cut, dilation=dilation)
        self.shortcut = nn.Conv1d(ins, outs, 1) if ins != outs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x)[:, :, : -self.cut].contiguous())
        y = F.relu(self.conv2(y)[:, :, : -self.cut].contiguous())
        return F.relu(y + self.shortcut(x))


class TCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(TemporalBlock(i, 24, 1 << n) for n, i in enumerate((3, 24, 24))))
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x)[:, :, -1])


class SPPF(nn.Module):
    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cbr(ins, ins // 2, 1), cbr(ins * 2, outs, 1), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        return self.cv2(torch.cat(y, 1))


class Detect(nn.Module):
    """YOLOv8's head: boxes as distributions, read by a conv of fixed weights."""

    def __init__(self, widths: tuple[int, ...], classes: int = 3, bins: int = 4) -> None:
        super().__init__()
        self.no, self.bins = classes + 4 * bins, bins
        self.boxes = nn.ModuleList(nn.Sequential(cbr(w, 16), nn.Conv2d(16, 4 * bins, 1)) for w in widths)
        self.classes = nn.ModuleList(nn.Sequential(cbr(w, 16), nn.Conv2d(16, classes, 1)) for w in widths)
        self.dfl = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)

    def forward(self, scales: list[Tensor]) -> Tensor:
        made = [
            torch.cat((b(x), c(x)), 1).view(x.shape[0], self.no, -1)
            for x, b, c in zip(scales, self.boxes, self.classes, strict=True)
        ]
        box, classes = torch.cat(made, 2).split((4 * self.bins, self.no - 4 * self.bins), 1)
        count, _, anchors = box.shape
        box = self.dfl(box.view(count, 4, self.bins, anchors).transpose(2, 1).softmax(1)).view(count, 4, anchors)
        return torch.cat((box, classes.sigmoid()), 1)


class Yolo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c2, self.sppf, self.neck = cbr(3, 16), C2f(16, 32), SPPF(32, 32), C2f(64, 32)
        self.head = Detect((32, 32))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.c2(F.max_pool2d(self.stem(x), 2))
        p4 = self.sppf(F.max_pool2d(p3, 2))
        n3 = self.neck(torch.cat((F.interpolate(p4, scale_factor=2.0), p3), 1))
        return self.head([n3, p4])


class SuperResolution(nn.Module):
    """EDSR's body and ESPCN's tail."""

    def __init__(self, width: int = 24, scale: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Sequential(cbr(width, width), nn.Conv2d(width, width, 3, 1, 1)) for _ in range(2))
        self.up = nn.Sequential(nn.Conv2d(width, width * scale**2, 3, 1, 1), nn.PixelShuffle(scale))
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.head(x)
        for block in self.body:
            y = y + 0.1 * block(y)
        return self.tail(self.up(x + y))


class Styled(nn.Module):
    """A conv whose input a style scales, with noise and a normalised output (StyleGAN)."""

    def __init__(self, ins: int, outs: int, style: int = 16) -> None:
        super().__init__()
        self.conv, self.affine = nn.Conv2d(ins, outs, 3, 1, 1), nn.Linear(style, ins)
        self.noise = nn.Parameter(torch.rand(outs, 1, 1))
        self.register_buffer("plane", torch.randn(1, 1, 8, 8))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.conv(x * (1 + self.affine(style))[..., None, None])
        plane = F.interpolate(self.plane, x.shape[-2:])  # type: ignore[arg-type]
        return F.leaky_relu(F.instance_norm(x + self.noise * plane), 0.2)


class Generator(nn.Module):
    """From a learned constant; the style is the only input."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, width, 4, 4))
        self.mapping = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
        self.blocks = nn.ModuleList(Styled(width, width) for _ in range(3))
        self.colour = nn.Conv2d(width, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        style = self.mapping(z)
        x = self.start.expand(len(z), -1, -1, -1)
        for block in self.blocks:
            x = F.interpolate(block(x, style), scale_factor=2.0)
        return self.colour(x)


class ModulatedConv(nn.Module):
    """StyleGAN2's: weights scaled and normalised for each image, as one grouped conv."""

    def __init__(self, ins: int, outs: int, style: int = 8) -> None:
        super().__init__()
        self.weight, self.affine = nn.Parameter(torch.randn(1, outs, ins, 3, 3)), nn.Linear(style, ins)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        count, ins, height, width = x.shape
        weight = self.weight * (1 + self.affine(style)).view(count, 1, ins, 1, 1)
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        weight = weight.view(-1, *weight.shape[2:])
        made = F.conv2d(x.reshape(1, count * ins, height, width), weight, padding=1, groups=count)
        return made.view(count, -1, height, width)


class Modulated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.last = cbr(3, 24), ModulatedConv(24, 24), nn.Sequential(cbr(24, 24), cbr(24, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(self.first(x), x.mean((2, 3)).repeat(1, 3)[:, :8]))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (UNet, images(2, 3, 16, 16)),
        (TCN, images(4, 3, 30)),
        (Yolo, images(2, 3, 32, 32)),
        (SuperResolution, images(2, 3, 8, 8)),
        (Generator, images(2, 8)),
    ],
)
def test_an_architecture_is_halved(kind: Callable[[], nn.Module], given: Tensor) -> None:
    torch.manual_seed(0)
    assert halved(kind(), given).reduction >= 0.5


def test_weights_made_for_each_image_keep_what_they_mix_and_the_rest_is_pruned() -> None:
    torch.manual_seed(0)
    found = halved(Modulated(), images(2, 3, 16, 16), target=0.1, unseen=None)
    assert found.width("last.0.0") < 24


RANDOM = {"weights": None, "weights_backbone": None}
TORCHVISION: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "lraspp": (lambda: segmentation.lraspp_mobilenet_v3_large(num_classes=5, **RANDOM), images(2, 3, 64, 64)),
    "deeplabv3": (lambda: segmentation.deeplabv3_mobilenet_v3_large(num_classes=5, **RANDOM), images(2, 3, 64, 64)),
    "fcn": (lambda: segmentation.fcn_resnet50(num_classes=5, **RANDOM), images(2, 3, 64, 64)),
    "fpn": (
        lambda: detection.backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, trainable_layers=5
        ),
        images(2, 3, 64, 64),
    ),
    "r3d_18": (lambda: video.r3d_18(num_classes=5), images(2, 3, 4, 32, 32)),
    "r2plus1d_18": (lambda: video.r2plus1d_18(num_classes=5), images(2, 3, 4, 32, 32)),
    "s3d": (lambda: video.s3d(num_classes=5), images(2, 3, 16, 224, 224)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_beyond_classification_is_halved(name: str) -> None:
    torch.manual_seed(0)
    make, given = TORCHVISION[name]
    assert halved(make(), given).reduction >= 0.5


class Heads(nn.Module):
    """A detector up to its heads: what follows chooses boxes by their values."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.backbone = net.backbone
        self.head = net.rpn.head if hasattr(net, "rpn") else net.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "retinanet": lambda: detection.retinanet_resnet50_fpn(num_classes=5, **RANDOM),
    "ssd": lambda: detection.ssd300_vgg16(num_classes=5, **RANDOM),
    "ssdlite": lambda: detection.ssdlite320_mobilenet_v3_large(num_classes=5, **RANDOM),
    "fasterrcnn": lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(num_classes=5, **RANDOM),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_up_to_its_heads_is_halved(name: str) -> None:
    torch.manual_seed(0)
    model, given = Heads(DETECTORS[name]()), images(2, 3, *(2 * [300 if name == "ssd" else 64]))
    if name == "ssd":
        check_by_zeroed_filters(model, given)
    else:
        assert halved(model, given).reduction >= 0.5


def check_by_zeroed_filters(model: nn.Module, given: Tensor) -> None:
    """Of convs without BN: a filter whose weights and bias are zero makes zeros, as if it were not there.

    Hooks in front of the readers cannot zero what a norm over channels has read before. Biases, all of which differ,
    tell which filters went.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias)  # type: ignore[arg-type]  # each has one
    made = halved(model, given, unseen=None)
    assert made.reduction >= 0.5
    dense, slim = copy.deepcopy(model).double(), made.slimmed.double()
    for name, module in dense.named_modules():
        if isinstance(module, nn.Conv2d):
            gone = ~torch.isin(dense.get_parameter(f"{name}.bias"), slim.get_parameter(f"{name}.bias"))
            for parameter in module.parameters():
                parameter.data[gone] = 0
    with torch.no_grad():
        outputs, expected = slim(given.double()), dense(given.double())
    assert outputs.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(outputs[name], expected[name], atol=1e-10, rtol=0)
