"""Fresh weights for a network that is already slim: each family's own initialisation, at the widths that are left.

The families initialise where they are built, dense; a copy of those weights would have the variance of dense fans.
"""

from torch import nn

from daar import models
from daar.errors import InputError


def initialise(model: nn.Module, network: str) -> None:
    """Draw all weights anew, in place, from torch's global generator; BN as new.

    Args:
        model: dense or slim.
        network: its name in the registry, whose family says how.

    Raises:
        InputError: nothing is known of the family's initialisation.
    """
    family = models.get(network).module.rsplit(".", 1)[1]
    if family not in _FAMILIES:
        raise InputError(f"no initialisation is known for {network}; there are: {', '.join(_FAMILIES)}. Add it here.")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    _FAMILIES[family](model)


def _resnet_cifar(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def _vgg_cifar(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # these convs have one


_FAMILIES = {"resnet_cifar": _resnet_cifar, "vgg_cifar": _vgg_cifar}
