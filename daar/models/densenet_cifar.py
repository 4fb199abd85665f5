"""DenseNet-40 for 32×32 images: "Densely Connected Convolutional Networks", Huang et al., CVPR 2017, growth rate 12.

The variant without bottleneck and without compression, as in HRank (Lin et al., CVPR 2020). Parameters are named as in
lmbxmu/HRankPlus, whose dense weights therefore load unchanged.
"""

import torch
from torch import Tensor, nn

_GROWTH = 12
_STEM = 2 * _GROWTH
_BLOCK_LAYERS = 12


class DenseLayer(nn.Module):
    """BN, ReLU and a 3×3 conv, whose output is concatenated to the layer's input."""

    def __init__(self, in_planes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_planes, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_planes, H, W) to (N, in_planes + 12, H, W)."""
        return torch.cat((x, self.conv1(self.relu(self.bn1(x)))), 1)


class Transition(nn.Module):
    """BN, ReLU and a 1×1 conv that keeps the number of channels; then the feature map is halved."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(planes, planes, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, planes, H, W) to (N, planes, H/2, W/2)."""
        return self.pool(self.conv1(self.relu(self.bn1(x))))  # type: ignore[no-any-return]  # a module's call is untyped


class DenseNet(nn.Module):
    """A 3×3 stem, three dense blocks of 12 layers at 32², 16² and 8², BN and ReLU, global average, linear."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM, 3, padding=1, bias=False)
        widths = [_STEM + block * _BLOCK_LAYERS * _GROWTH for block in range(4)]
        self.dense1 = self._block(widths[0])
        self.trans1 = Transition(widths[1])
        self.dense2 = self._block(widths[1])
        self.trans2 = Transition(widths[2])
        self.dense3 = self._block(widths[2])
        self.bn = nn.BatchNorm2d(widths[3])
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)

    @staticmethod
    def _block(in_planes: int) -> nn.Sequential:
        return nn.Sequential(*(DenseLayer(in_planes + layer * _GROWTH) for layer in range(_BLOCK_LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to logits (N, num_classes)."""
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        return self.fc(self.pool(self.relu(self.bn(x))).flatten(1))  # type: ignore[no-any-return]  # a module's call is untyped


def initialise(model: nn.Module) -> None:
    """Draw the weights that do not have torch's default: He et al. 2015 with fan-out, as in the paper's code."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def build(name: str, num_classes: int) -> DenseNet:
    """Build `densenet40`."""
    assert name == "densenet40", name
    return DenseNet(num_classes)
