"""Fresh weights for a slim network: its family's initialisation, at the slim widths.

Weights copied from a fresh dense network would have the variance for the dense network's fans.
"""

from torch import nn

from daar import models


def initialise(model: nn.Module, network: str) -> None:
    """Draw all weights again, in place, from torch's global generator; reset BN.

    Args:
        model: dense or slim.
        network: its name in the registry.

    Raises:
        InputError: there is no such network.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    models.get(network).initialise(model)
