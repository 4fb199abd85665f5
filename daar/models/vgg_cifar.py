"""VGG-16 with batch normalisation for 32×32 images, as in HRank (Lin et al., CVPR 2020): a head of 512 units.

Layer names are those of lmbxmu/HRank, convs with bias included, so that its state dicts load.
"""

from collections import OrderedDict

from torch import Tensor, nn

# output channels of the 13 convs; "M" halves the feature map
_LAYOUT: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


class VGG16(nn.Module):
    """Thirteen 3×3 convs with BN and ReLU, four max-pools, average pool, 512-unit hidden layer, linear."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        features: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for position, width in enumerate(_LAYOUT):
            if isinstance(width, str):
                features[f"pool{position}"] = nn.MaxPool2d(2)
                continue
            features[f"conv{position}"] = nn.Conv2d(channels, width, 3, padding=1)
            features[f"norm{position}"] = nn.BatchNorm2d(width)
            features[f"relu{position}"] = nn.ReLU(inplace=True)
            channels = width
        self.features = nn.Sequential(features)
        self.pool = nn.AvgPool2d(2)
        self.classifier = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(512, 512),
                norm1=nn.BatchNorm1d(512),
                relu1=nn.ReLU(inplace=True),
                linear2=nn.Linear(512, num_classes),
            )
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to logits (N, num_classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))  # type: ignore[no-any-return]  # a module's call is untyped


def initialise(model: nn.Module) -> None:
    """Draw the weights that do not have torch's default: convs as in He et al. 2015, with fan-out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # these convs have one


def build(name: str, num_classes: int) -> VGG16:
    """Build `vgg16_bn`."""
    assert name == "vgg16_bn", name
    return VGG16(num_classes)
