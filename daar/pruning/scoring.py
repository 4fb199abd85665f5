"""A score for every filter, by any method: what `daar.prune`, the stages, the estimate and the benchmarks call."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.program.inputs import Images, count, each
from daar.pruning import importance, weights
from daar.pruning.groups import ChannelGraph


@dataclass(frozen=True)
class Batch:
    """The calibration images, the same for every method of a setting.

    Attributes:
        images: (N, C, H, W) float32, normalised, unaugmented; for networks of several inputs a tuple or dict of
            tensors, as they are called with.
        labels: (N,) int64.
    """

    images: Images
    labels: Tensor

    def first(self, number: int) -> "Batch":
        """The first images, with their labels."""
        return Batch(each(self.images, lambda part: part[:number]), self.labels[:number])

    def __len__(self) -> int:
        """How many images there are."""
        return count(self.images)

    def to(self, device: torch.device) -> "Batch":
        """The same images and labels on a device."""
        return Batch(each(self.images, lambda part: part.to(device)), self.labels.to(device))


def score(
    model: nn.Module,
    batch: Batch,
    graph: ChannelGraph,
    method: Method,
    options: dict[str, Any],
    seed: int,
    scope: str = "all",
) -> dict[str, Tensor]:
    """Have a method score every filter that may be pruned, and check the scores.

    Args:
        model: the dense network; put into eval mode.
        batch: the calibration images; moved to the model's device.
        graph: the network's channel groups.
        method: whose score().
        options: keyword options of the variant; those of the method's plan() are left out.
        seed: the setting's, for a method that draws random numbers.
        scope: of which groups the members are scored.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.

    Raises:
        InputError: the method has no score(), an option is unknown, or the scores break the contract.
    """
    if method.scores is None:
        raise InputError(f"method {method.name!r} is a program of its own that only a suite can run. Choose another.")
    module = discovery.load(method)
    batch = batch.to(next(model.parameters()).device)
    given = arguments(method, module, options, seed)
    with weights.known(graph, batch.images):
        scores: dict[str, Tensor] = module.score(model.eval(), batch, graph.scored_layers(scope), **given)
    importance.check(scores, importance.widths(graph, scope), f"method {method.name!r}")
    return scores


def arguments(method: Method, module: ModuleType, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """All keyword arguments of a method's score(), and so of its explain().

    Args:
        method: for which options are its score()'s and which its plan()'s.
        module: the method, imported.
        options: keyword options of the variant; they replace defaults.
        seed: given if score() takes one.

    Raises:
        InputError: an option is unknown.
    """
    chosen, _ = discovery.split_options(method, options)
    if discovery.takes_seed(module.score):
        chosen["seed"] = seed
    return discovery.score_options(module.score, chosen)
