"""The networks, by name. Importing this package is light: a family's module is imported when one is built."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daar.errors import unknown

if TYPE_CHECKING:
    from torch import nn

RESULT_NEUTRAL = "a registry; the module of the network itself counts"


@dataclass(frozen=True)
class Network:
    """One network of the registry.

    Attributes:
        name: as the suite and the command line know it.
        title: as tables print it.
        module: the module of its family, with `build(name, num_classes)` and `initialise(model)`, which draws the
            weights that do not have torch's default initialisation.
        input_shape: (C, H, W) of one image.
        classes: its usual number of classes: 10 for CIFAR-10, 1000 for ImageNet.
        macs: multiply-accumulates of conv and linear layers for one image, with `classes` classes. Written down here,
            so that a suite's cost can be estimated without importing torch; a test compares it with the counter.
        source: of the definition.
        renamed: prefix of layer names in published weights → prefix of the same layers here.
    """

    name: str
    title: str
    module: str
    input_shape: tuple[int, int, int]
    classes: int
    macs: int
    source: str
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)

    def build(self, num_classes: int) -> "nn.Module":
        """Build the network with fresh weights, drawn from torch's global generator."""
        model: nn.Module = self._family().build(self.name, num_classes)
        return model

    def initialise(self, model: "nn.Module") -> None:
        """Draw the weights that the family initialises in its own way, from torch's global generator.

        Args:
            model: this network, dense or slim, right after torch's default initialisation of its layers.
        """
        self._family().initialise(model)

    def _family(self) -> Any:
        return importlib.import_module(self.module)


def _cifar(name: str, title: str, family: str, macs: int, source: str, **more: Any) -> Network:
    return Network(name, title, f"daar.models.{family}", (3, 32, 32), 10, macs, source, **more)


def _imagenet(name: str, title: str, family: str, macs: int, source: str) -> Network:
    return Network(name, title, f"daar.models.{family}", (3, 224, 224), 1000, macs, source)


_HE = "He et al. 2016, section 4.2; option {} shortcuts"
_OPTION_A_MACS = {20: 40_551_040, 32: 68_862_592, 44: 97_174_144, 56: 125_485_696, 110: 252_887_680}
# the two 1x1 projections of option B: 16->32 at 16x16 and 32->64 at 8x8
_OPTION_B_EXTRA = 16 * 32 * 16 * 16 + 32 * 64 * 8 * 8
# the classifier of lmbxmu/HRankPlus's ResNets
_RENAMED = {"fc.": "linear."}
_HE_IMAGENET = "He et al. 2016, Table 1, as in torchvision"
_IMAGENET_MACS = {18: 1_814_073_344, 34: 3_663_761_408, 50: 4_089_184_256}

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in [
        *(
            _cifar(f"resnet{d}", f"ResNet-{d}", "resnet_cifar", m, _HE.format("A"), renamed=_RENAMED)
            for d, m in _OPTION_A_MACS.items()
        ),
        *(
            _cifar(f"resnet{d}_b", f"ResNet-{d} (B)", "resnet_cifar", m + _OPTION_B_EXTRA, _HE.format("B"))
            for d, m in _OPTION_A_MACS.items()
        ),
        _cifar("vgg16_bn", "VGG-16-BN", "vgg_cifar", 313_463_808, "Lin et al. 2020 (HRank): 512-unit head"),
        _cifar("densenet40", "DenseNet-40", "densenet_cifar", 282_917_328, "Huang et al. 2017: growth rate 12"),
        _cifar("googlenet", "GoogLeNet", "googlenet_cifar", 1_521_756_160, "Lin et al. 2020 (HRank)"),
        _cifar("mobilenetv2", "MobileNetV2", "mobilenet", 87_976_448, "Sandler et al. 2018, two strides fewer"),
        *(
            _imagenet(f"resnet{d}", f"ResNet-{d}", "resnet_imagenet", m, _HE_IMAGENET)
            for d, m in _IMAGENET_MACS.items()
        ),
        _imagenet("mobilenet_v2", "MobileNetV2", "mobilenet", 300_774_272, "Sandler et al. 2018, as in torchvision"),
    ]
}


def get(name: str) -> Network:
    """Look a network up.

    Raises:
        InputError: there is none of that name; the message lists the known ones.
    """
    if name not in NETWORKS:
        raise unknown("network", name, list(NETWORKS), "See: daar list networks")
    return NETWORKS[name]
