"""ResNets for 32×32 images: "Deep Residual Learning for Image Recognition", He et al., CVPR 2016, section 4.2.

Parameters are named as in akamaster/pytorch_resnet_cifar10, whose published weights therefore load unchanged.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from daar.models.shortcut import PaddedShortcut


class BasicBlock(nn.Module):
    """Two 3×3 convs and a shortcut; post-activation, as in the paper's Fig. 2."""

    def __init__(self, in_planes: int, planes: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = (
                PaddedShortcut(in_planes, planes, stride)
                if option == "A"
                else nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_planes, H, W) to (N, planes, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stem, three stages of 16, 32 and 64 channels at 32², 16² and 8², global average, linear.

    Args:
        blocks: blocks per stage, n in the paper's 6n + 2 layers.
        num_classes: length of the logits.
        option: "A" pads the shortcut with zeros (no parameters), "B" projects it by a 1×1 conv.
    """

    def __init__(self, blocks: int, num_classes: int, option: str = "A") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1, option)
        self.layer2 = self._stage(16, 32, blocks, 2, option)
        self.layer3 = self._stage(32, 64, blocks, 2, option)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        initialise(self)

    @staticmethod
    def _stage(in_planes: int, planes: int, blocks: int, stride: int, option: str) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride, option)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1, option) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to logits (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))  # type: ignore[no-any-return]  # a module's call is untyped


def initialise(model: nn.Module) -> None:
    """Draw the weights that do not have torch's default: all convs and the classifier as in He et al. 2015."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def build(name: str, num_classes: int) -> ResNet:
    """Build `resnet<depth>` (option A) or `resnet<depth>_b` (option B); depth is 6n + 2."""
    match = re.fullmatch(r"resnet(\d+)(_b)?", name)
    assert match, name
    return ResNet((int(match[1]) - 2) // 6, num_classes, option="B" if match[2] else "A")
