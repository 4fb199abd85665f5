"""State-dict mismatch: the most likely cause where weights differ from what a network expects."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from daar import models
from daar.checkpoint.foreign import COUNTER, renamed
from daar.data import datasets
from daar.models import Network

RESULT_NEUTRAL = "only words the message for weights that are refused"

# data sets that published weights are trained on, with the shape of their images
_DATASETS = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "imagenet": (3, 224, 224)}
Shapes = dict[str, tuple[int, ...]]


def advice(state: Mapping[str, Tensor], network: Network, num_classes: int) -> str:
    """What to do about weights that do not fit, as a sentence.

    Args:
        state: the weights, under their published names.
        network: the one that they do not fit.
        num_classes: expected length of the logits.
    """
    others = [other for other in models.NETWORKS.values() if other != network]
    fits = [(n, classes) for n in (network, *others) if (classes := _classes_of_fit(n, state, num_classes))]
    if fits:
        return _name_a_fit(fits, network, num_classes)
    shapes, expected = _shapes(renamed(state, network)), _expected(network, num_classes)
    if shapes.keys() == expected.keys() and all(_no_wider(shapes[name], expected[name]) for name in shapes):
        return "All names fit but widths are smaller: these are pruned weights; import the dense ones."
    if any("shortcut.0.weight" in name for name in shapes) and f"{network.name}_b" in models.NETWORKS:
        return f"It has option-B projections: try --network {network.name}_b."
    if not shapes.keys() & expected.keys():
        return f"No name is {network.name}'s: import weights of that very definition ({network.source})."
    return "No network of the registry fits; see: daar list networks"


def _name_a_fit(fits: list[tuple[Network, int]], network: Network, num_classes: int) -> str:
    """Which network and which number of classes the weights are for, as a sentence."""
    for candidate, classes in fits:
        options = [] if candidate == network else [f"--network {candidate.name}"]
        for dataset, shape in _DATASETS.items():
            if datasets.num_classes(dataset) == classes and shape == candidate.input_shape:
                options += [f"--dataset {dataset}"] if classes != num_classes else []
                return f"These are weights of {candidate.name} with {classes} classes: say {' '.join(options)}."
    name, classes = fits[0][0].name, fits[0][1]
    return f"These are weights of {name} with {classes} classes, and no dataset here has as many for it."


def _classes_of_fit(network: Network, state: Mapping[str, Tensor], num_classes: int) -> int | None:
    """The number of classes with which a network fits by names and shapes; None if there is none."""
    shapes, expected = _shapes(renamed(state, network)), _expected(network, num_classes)
    if shapes.keys() != expected.keys():
        return None
    rows = {shapes[name][:1] for name in shapes if shapes[name] != expected[name]}
    if not rows:
        return num_classes
    if len(rows) > 1 or () in rows:
        return None
    classes = rows.pop()[0]
    return classes if classes > 0 and shapes == _expected(network, classes) else None


def _expected(network: Network, num_classes: int) -> Shapes:
    with torch.random.fork_rng(devices=[]):
        return _shapes(network.build(num_classes).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    """Shapes by name, without BN's batch counters, which old files do not have."""
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}


def _no_wider(shape: Iterable[int], expected: Iterable[int]) -> bool:
    shape, expected = tuple(shape), tuple(expected)
    return len(shape) == len(expected) and all(s <= e for s, e in zip(shape, expected, strict=True))
