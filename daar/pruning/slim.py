"""Build the really smaller network, and prove that it computes what the masked one computes."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.measure.finite import tensors
from daar.models.shortcut import PaddedShortcut
from daar.pruning.groups import ChannelGraph
from daar.pruning.trace import PER_CHANNEL, trace

Removed = dict[str, list[int]]

# largest |slim − masked| / largest |logit| that rounding in float64 explains
TOLERANCE = 1e-10
# images on which slim and masked network are compared
CHECKED_IMAGES = 16


def slim(model: nn.Module, graph: ChannelGraph, removed: Removed) -> nn.Module:
    """Cut channels out of every layer that holds them.

    Args:
        model: the dense network; left as it is.
        graph: its channel graph.
        removed: group name → indices of the channels that go.

    Returns:
        A new network of the same class with smaller layers, on the same device and in the same mode.
    """
    alive = torch.from_numpy(graph.alive(removed))
    slimmed = copy.deepcopy(model)
    for layer in graph.layers.values():
        inputs, outputs = alive[layer.inputs], alive[layer.outputs]
        module = slimmed.get_submodule(layer.name)
        if isinstance(module, nn.Conv2d):
            _cut_conv(module, inputs, outputs)
        elif isinstance(module, nn.PReLU):
            if module.num_parameters > 1:  # one for all channels stays
                _cut(module, outputs, "weight")
                module.num_parameters = int(outputs.sum())
        elif isinstance(module, PER_CHANNEL):
            _cut(module, outputs, "weight", "bias", "running_mean", "running_var")
            module.num_features = int(outputs.sum())
        elif isinstance(module, nn.Linear):
            module.weight = _parameter(module.weight, module.weight[outputs][:, inputs])
            _cut(module, outputs, "bias")
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, PaddedShortcut):
            _cut_shortcut(module, inputs, outputs)
    return slimmed


def _parameter(old: Tensor, new: Tensor) -> nn.Parameter:
    return nn.Parameter(new.detach().clone(), requires_grad=old.requires_grad)


def _cut(module: nn.Module, left: Tensor, *names: str) -> None:
    """Cut parameters and buffers of shape (c,); absent ones are skipped."""
    for name in names:
        value = getattr(module, name)
        if isinstance(value, nn.Parameter):
            setattr(module, name, _parameter(value, value[left]))
        elif value is not None:
            setattr(module, name, value[left].clone())


def _cut_conv(conv: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> None:
    weight = conv.weight[outputs]
    if conv.groups == conv.in_channels and conv.groups > 1:
        conv.groups = int(inputs.sum())
    else:
        # the groups of a grouped conv keep the same positions, so those of the first say it all
        weight = weight[:, inputs[: conv.in_channels // conv.groups]]
    conv.weight = _parameter(conv.weight, weight)
    _cut(conv, outputs, "bias")
    conv.in_channels, conv.out_channels = int(inputs.sum()), int(outputs.sum())


def _cut_shortcut(shortcut: PaddedShortcut, inputs: Tensor, outputs: Tensor) -> None:
    """Renumber the inputs that are left; an output whose input is gone gets zeros."""
    renumbered = torch.where(inputs, inputs.cumsum(0) - 1, -1)
    source = shortcut.source.cpu()
    shortcut.set_source(
        torch.where(source >= 0, renumbered[source.clamp(min=0)], -1)[outputs].to(shortcut.source.device)
    )


class Masked(fx.Interpreter):
    """The dense network with removed channels zeroed in whatever a layer reads: the definition of pruning.

    Independent of `slim`: it runs the untouched weights. Zeroing what is read (and not the weights that produce it)
    is what makes BN's shift and pre-activation networks come out right.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, removed: Removed) -> None:
        super().__init__(trace(model))
        alive = torch.from_numpy(graph.alive(removed))
        self._model = model
        self._left = {
            name: alive[layer.inputs]
            for name, layer in graph.layers.items()
            if not isinstance(layer.module, PER_CHANNEL) and not bool(alive[layer.inputs].all())
        }

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run a layer on its input with the removed channels zeroed."""
        left = self._left.get(str(target))
        if left is not None:
            x, *_ = *args, *kwargs.values()  # torch's layers take one input, by position or by name
            args, kwargs = (x * left.to(x).view(1, -1, *(1,) * (x.dim() - 2)),), {}
        return super().call_module(target, args, kwargs)  # type: ignore[no-any-return]  # torch.fx has it as Any

    def logits(self, images: Tensor) -> Any:
        """What the network returns, (N, num_classes), in eval mode for normalised images (N, C, H, W)."""
        with evaluating(self._model):
            return self.run(images)


def slim_error(model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor) -> float:
    """Max |slim − masked| / max |masked| over the logits of `images`, in float64 on the CPU; of heads, the worst.

    Raises:
        InputError: they differ by more than rounding explains, so the slim network is not the pruned one; or the masked
            one gives nothing but zeros, of which a wrong one would be equal too.
    """
    dense = copy.deepcopy(model).cpu().double()
    thin = copy.deepcopy(slimmed).cpu().double()
    images = images.cpu().double()
    expected = Masked(dense, graph, removed).logits(images)
    if not any(output.any() for output in tensors(expected)):
        raise InputError(
            "the network's output should tell images apart, but is zero for all, so that the slim network cannot be "
            "compared with it. Load trained weights, or give the last layer weights that are not all zero."
        )
    with evaluating(thin):
        pairs = zip(tensors(thin(images)), tensors(expected), strict=True)
        # of numpy's maximum, unlike Python's, NaN is the result wherever there is one
        error = float(np.max([_relative(one, other) for one, other in pairs]))
    if not error <= TOLERANCE:
        raise InputError(
            f"the slim network differs from the masked one by {error:.1e} of the largest logit; rounding explains "
            f"{TOLERANCE:.0e}. Report this network: its channels are coupled in a way that the groups miss."
        )
    return error


def _relative(one: Tensor, other: Tensor) -> float:
    """Max |difference| / max |other|; of two outputs that are all zero it is 0."""
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
