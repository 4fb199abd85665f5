"""Shapes of the weights of a network's layers, for policies that read them."""

from daar.pruning.groups import ChannelGraph
from daar.pruning.layer import Layer
from daar.pruning.policy_arguments import Shapes

RESULT_NEUTRAL = "tells what the network has"


def shapes_of(graph: ChannelGraph) -> Shapes:
    """Layer → shape of the weight that it runs with, filters first: (c_out, c_in/groups, k, k) of a conv.

    Those of convs over sequences have one k, over volumes three, of linear layers none.

    Args:
        graph: of the network.
    """
    layers = [layer for layer in graph.layers.values() if layer.kind in ("conv", "linear")]
    return {layer.name: _shape(graph, layer) for layer in layers}


def _shape(graph: ChannelGraph, layer: Layer) -> tuple[int, ...]:
    read = 1 if layer.is_depthwise else len(layer.inputs) // layer.parts
    if layer.kind != "conv":
        return len(layer.outputs), read
    weight = graph.program.operations[graph.calls[layer.name][0]].args[1]
    return len(layer.outputs), read, *graph.program.shapes[weight.number][2:]
