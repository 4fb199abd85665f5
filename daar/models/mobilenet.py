"""MobileNetV2: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", Sandler et al., CVPR 2018, at width 1.0.

Both networks are torchvision's, which gives the layer names: `mobilenet_v2` as it is, for 224×224 images, and
`mobilenetv2` for 32×32 images, the same but for two strides of 1 instead of 2, in the stem and in the stage of 24
channels, so that the last maps are 4×4.
"""

from torch import nn
from torchvision.models import MobileNetV2, get_model

# expansion, output channels, blocks and first stride of each stage
_STAGES_32 = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


def initialise(model: nn.Module) -> None:
    """Draw the weights that do not have torch's default, as torchvision's constructor does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


def build(name: str, num_classes: int) -> nn.Module:
    """Build `mobilenet_v2` (224×224) or `mobilenetv2` (32×32)."""
    if name == "mobilenet_v2":
        return get_model(name, weights=None, num_classes=num_classes)  # type: ignore[no-any-return]  # torchvision is untyped
    assert name == "mobilenetv2", name
    model = MobileNetV2(num_classes, inverted_residual_setting=_STAGES_32)
    # torchvision has no argument for the stride of the stem
    model.features[0][0].stride = (1, 1)
    return model  # type: ignore[no-any-return]  # torchvision is untyped
