"""Shapes of the weights of a network's layers, for policies that read them."""

from torch import nn

from daar.program.inputs import Images
from daar.pruning import weights
from daar.pruning.groups import ChannelGraph
from daar.pruning.policy_arguments import Shapes

RESULT_NEUTRAL = "tells what the network has"


def shapes_of(model: nn.Module, graph: ChannelGraph, images: Images) -> Shapes:
    """Layer → shape of the weight that it ran with, (c_out, c_in/groups, k, k) of a conv.

    Args:
        model: the network.
        graph: its channel groups.
        images: that it runs on; only their size matters.
    """
    kinds = ("conv", "linear")
    layers = [layer.name for layer in graph.layers.values() if layer.kind in kinds]
    return {name: tuple(weights.ran_with(model, graph, images, name).shape) for name in layers}
