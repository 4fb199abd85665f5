"""The networks, by name. Importing this package is light: a family's module is imported when one is built."""

from typing import Any

from daar.errors import InputError, unknown
from daar.models import libraries, own
from daar.models.network import Network

RESULT_NEUTRAL = "a registry; the module of the network itself counts"


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
    """Look a network up: of the registry, of a folder of one's own, or of a library (`timm:NAME`, `torchvision:NAME`).

    Raises:
        InputError: there is none of that name; the message lists the known ones.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if libraries.is_one(name):
        return libraries.get(name)
    found = of_folders()
    if name not in found:
        own_ones = "in a file of its name in a folder that --networks-dir, or networks_dirs in a suite, names"
        hint = f"See: daar list networks. One of your own is {own_ones}."
        raise unknown("network", name, [*NETWORKS, *found], hint)
    return found[name]


def title(name: str) -> str:
    """How tables print a network; of one that is not there any more its name."""
    try:
        return get(name).title
    except InputError:
        return name


def of_folders() -> dict[str, own.OwnNetwork]:
    """The networks of one's own, by name.

    Raises:
        InputError: as of `own.find`; or one has the name of a network of the registry.
    """
    found = own.find()
    for name, network in found.items():
        if name in NETWORKS:
            raise InputError(f"{network.file} has the name of a network that daar has already. Rename the file.")
    return found


__all__ = ["NETWORKS", "Network", "get", "of_folders", "title"]
