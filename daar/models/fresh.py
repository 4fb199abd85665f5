"""Fresh weights for a network that is already slim: its family's own initialisation, at the widths that are left.

A copy of weights that were drawn for the dense network would have the variance of dense fans.
"""

from torch import nn

from daar import models


def initialise(model: nn.Module, network: str) -> None:
    """Draw all weights anew, in place, from torch's global generator; BN as new.

    Args:
        model: dense or slim.
        network: its name in the registry, whose family says how.

    Raises:
        InputError: there is no such network.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    models.get(network).initialise(model)
