"""The networks, by name. Importing this package is light: a family's module is imported when one is built."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daar.errors import unknown

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """One network of the registry.

    Attributes:
        name: as the suite and the command line know it.
        title: as tables print it.
        module: the module of its family; `build(name, num_classes)` there makes it.
        input_shape: (C, H, W) of one image.
        macs: multiply-accumulates of conv and linear layers for one image, with 10 classes. Here as
            a fact, so that a suite's cost can be estimated without importing torch; a test counts it.
        source: where the definition comes from.
    """

    name: str
    title: str
    module: str
    input_shape: tuple[int, int, int]
    macs: int
    source: str

    def build(self, num_classes: int) -> "nn.Module":
        """The network with freshly initialised weights, drawn from torch's global generator."""
        return importlib.import_module(self.module).build(self.name, num_classes)


def _cifar(name: str, title: str, family: str, macs: int, source: str) -> Network:
    return Network(name, title, f"daar.models.{family}", (3, 32, 32), macs, source)


_HE = "He et al. 2016, section 4.2; option {} shortcuts"
_OPTION_A_MACS = {20: 40_551_040, 32: 68_862_592, 44: 97_174_144, 56: 125_485_696, 110: 252_887_680}
# the two 1x1 projections of option B: 16->32 at 16x16 and 32->64 at 8x8
_OPTION_B_EXTRA = 16 * 32 * 16 * 16 + 32 * 64 * 8 * 8

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in [
        *(_cifar(f"resnet{d}", f"ResNet-{d}", "resnet_cifar", m, _HE.format("A")) for d, m in _OPTION_A_MACS.items()),
        *(
            _cifar(f"resnet{d}_b", f"ResNet-{d} (B)", "resnet_cifar", m + _OPTION_B_EXTRA, _HE.format("B"))
            for d, m in _OPTION_A_MACS.items()
        ),
        _cifar("vgg16_bn", "VGG-16-BN", "vgg_cifar", 313_463_808, "Lin et al. 2020 (HRank): 512-unit head"),
    ]
}


def get(name: str) -> Network:
    """Look a network up.

    Raises:
        InputError: there is none of that name; the message lists those there are.
    """
    if name not in NETWORKS:
        raise unknown("network", name, list(NETWORKS), "See: daar list networks")
    return NETWORKS[name]
