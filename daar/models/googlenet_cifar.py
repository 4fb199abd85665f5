"""GoogLeNet for 32×32 images, as in HRank (Lin et al., CVPR 2020): the nine inception modules after a single conv.

Follows "Going Deeper with Convolutions", Szegedy et al., CVPR 2015, with batch normalisation, and two 3×3 convs in
place of each 5×5. Parameters are named as in lmbxmu/HRankPlus, convs with bias included, so its dense weights load.
"""

import torch
from torch import Tensor, nn

_STEM = 192
# output channels of each module: 1×1; before the 3×3, 3×3; before the 5×5, 5×5; after the max-pool
_LAYOUT: dict[str, tuple[int, int, int, int, int, int]] = {
    "a3": (64, 96, 128, 16, 32, 32),
    "b3": (128, 128, 192, 32, 96, 64),
    "a4": (192, 96, 208, 16, 48, 64),
    "b4": (160, 112, 224, 24, 64, 64),
    "c4": (128, 128, 256, 24, 64, 64),
    "d4": (112, 144, 288, 32, 64, 64),
    "e4": (256, 160, 320, 32, 128, 128),
    "a5": (256, 160, 320, 32, 128, 128),
    "b5": (384, 192, 384, 48, 128, 128),
}


def _conv(read: int, made: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(read, made, size, padding=size // 2), nn.BatchNorm2d(made), nn.ReLU(inplace=True)]


class Inception(nn.Module):
    """Four branches over the same input, concatenated."""

    def __init__(self, in_planes: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, three_read, three, five_read, five, pooled = widths
        self.branch1x1 = nn.Sequential(*_conv(in_planes, one, 1))
        self.branch3x3 = nn.Sequential(*_conv(in_planes, three_read, 1), *_conv(three_read, three, 3))
        self.branch5x5 = nn.Sequential(
            *_conv(in_planes, five_read, 1), *_conv(five_read, five, 3), *_conv(five, five, 3)
        )
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_conv(in_planes, pooled, 1))
        self.out_planes = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_planes, H, W) to (N, out_planes, H, W)."""
        return torch.cat((self.branch1x1(x), self.branch3x3(x), self.branch5x5(x), self.branch_pool(x)), 1)


class GoogLeNet(nn.Module):
    """A 3×3 stem of 192 channels, modules of 32², 16² and 8² with max-pools between, global average, linear."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.pre_layers = nn.Sequential(*_conv(3, _STEM, 3))
        channels = _STEM
        for name, widths in _LAYOUT.items():
            module = Inception(channels, widths)
            self.add_module(f"inception_{name}", module)
            channels = module.out_planes
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to logits (N, num_classes)."""
        x = self.pre_layers(x)
        for name in _LAYOUT:
            if name in ("a4", "a5"):
                x = self.maxpool(x)
            x = self.get_submodule(f"inception_{name}")(x)
        return self.linear(self.pool(x).flatten(1))  # type: ignore[no-any-return]  # a module's call is untyped


def initialise(model: nn.Module) -> None:
    """Draw nothing: HRank's code leaves all layers with torch's default."""


def build(name: str, num_classes: int) -> GoogLeNet:
    """Build `googlenet`."""
    assert name == "googlenet", name
    return GoogLeNet(num_classes)
