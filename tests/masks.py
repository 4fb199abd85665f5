"""Pruning a registry network by masks alone, by an account of its own: nothing of daar.pruning is used here.

What is counted by hand is where a group's channels run, from each family's architecture; only the groups' names, the
path of the first conv that makes them, are as in plans.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from daar import models

Removed = Mapping[str, list[int]]
# blocks of MobileNetV2 that add onto one stream, by their index in `features`
_MOBILENET_STAGES = ((2, 3), (4, 5, 6), (7, 8, 9, 10), (11, 12, 13), (14, 15, 16), (17,))


def masked_by_hand(name: str, dense: nn.Module, removed: Removed) -> nn.Module:
    """A plain copy of a registry network in which every channel that goes is zero where it is read."""
    model = copy.deepcopy(dense)
    mask = _FAMILIES[models.get(name).module.rpartition(".")[2]]
    for group, filters in removed.items():
        mask(model, group, filters)
    return model


def silence(norm: nn.Module, filters: list[int]) -> None:
    """Zero BN scale and shift, so that the activation behind it gives zero."""
    with torch.no_grad():
        norm.get_parameter("weight")[filters] = 0
        norm.get_parameter("bias")[filters] = 0


def _silence(model: nn.Module, filters: list[int], *norms: str) -> None:
    for norm in norms:
        silence(model.get_submodule(norm), filters)


def zeroed(x: Tensor, channels: Sequence[int]) -> Tensor:
    """The same with some channels zero."""
    return x.index_fill(1, torch.tensor(channels, dtype=torch.int64), 0.0)


def _zero_outputs(stage: nn.Module, filters: list[int]) -> None:
    """After every block: what a block adds is not enough, since the shortcut brings its own."""
    for block in stage.children():
        block.register_forward_hook(lambda *call, gone=tuple(filters): zeroed(call[2], gone))


def _vgg(model: nn.Module, group: str, filters: list[int]) -> None:
    """A conv or a hidden linear layer, and the norm behind it."""
    _silence(model, filters, group.replace("conv", "norm").replace("linear", "norm"))


def _resnet(model: nn.Module, group: str, filters: list[int]) -> None:
    """A stream starts at the last conv of a stage's first block; without bottlenecks, that of layer1 at the stem."""
    bottlenecks = hasattr(model.get_submodule("layer1.0"), "conv3")
    if group == "conv1":
        _silence(model, filters, "bn1")
        if not bottlenecks:
            _zero_outputs(model.get_submodule("layer1"), filters)
    elif group.endswith("conv3" if bottlenecks else "conv2"):
        stage, block, _ = group.split(".")
        assert block == "0"
        _zero_outputs(model.get_submodule(stage), filters)
    else:
        _silence(model, filters, group.replace(".conv", ".bn"))


def _googlenet(model: nn.Module, group: str, filters: list[int]) -> None:
    path, _, place = group.rpartition(".")
    _silence(model, filters, f"{path}.{int(place) + 1}")


def _mobilenet(model: nn.Module, group: str, filters: list[int]) -> None:
    """The depthwise conv's BN makes zeros something else, so it is silenced too; a stream's channels have no ReLU."""
    if group == "features.0.0":
        _silence(model, filters, "features.0.1", "features.1.conv.0.1")
    elif group == "features.1.conv.1":
        _silence(model, filters, "features.1.conv.2")
    elif group == "features.18.0":
        _silence(model, filters, "features.18.1")
    elif group.endswith("conv.0.0"):
        block = group.removesuffix(".0.0")
        _silence(model, filters, f"{block}.0.1", f"{block}.1.1")
    else:
        _, first, rest = group.split(".", 2)
        (blocks,) = (stage for stage in _MOBILENET_STAGES if stage[0] == int(first))
        assert rest == "conv.2"
        _silence(model, filters, *(f"features.{block}.conv.3" for block in blocks))


def _densenet(model: nn.Module, group: str, filters: list[int]) -> None:
    """In front of every conv, and of the last layer, that reads them: each has a BN, whose shift they would get."""
    for block in (1, 2, 3):
        first = "conv1" if block == 1 else f"trans{block - 1}.conv1"
        made = [first, *(f"dense{block}.{layer}.conv1" for layer in range(12))]
        if group in made:
            position = made.index(group)
            offset = 0 if position == 0 else 24 + 144 * (block - 1) + 12 * (position - 1)
            gone = tuple(offset + index for index in filters)
            for reader in (*made[position + 1 :], f"trans{block}.conv1" if block < 3 else "fc"):
                model.get_submodule(reader).register_forward_pre_hook(
                    lambda _, args, gone=gone: (zeroed(args[0], gone),)
                )
            return
    raise AssertionError(group)


_FAMILIES = {
    "resnet_cifar": _resnet,
    "resnet_imagenet": _resnet,
    "vgg_cifar": _vgg,
    "densenet_cifar": _densenet,
    "googlenet_cifar": _googlenet,
    "mobilenet": _mobilenet,
}
