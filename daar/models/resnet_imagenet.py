"""ResNets for 224×224 images, torchvision's own: He et al., CVPR 2016, Table 1.

ResNet-50 has the stride in the 3×3 conv of a bottleneck ("v1.5"), as torchvision's weights have it.
"""

from torch import nn
from torchvision.models import get_model


def initialise(model: nn.Module) -> None:
    """Draw the weights that do not have torch's default, as torchvision's constructor does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build(name: str, num_classes: int) -> nn.Module:
    """Build `resnet18`, `resnet34` or `resnet50`."""
    assert name in ("resnet18", "resnet34", "resnet50"), name
    return get_model(name, weights=None, num_classes=num_classes)  # type: ignore[no-any-return]  # torchvision is untyped
