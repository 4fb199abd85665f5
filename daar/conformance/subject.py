"""What methods are tried on: a small residual network with lively statistics, smooth images, and the surroundings."""

import random
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from daar.api import Batch
from daar.errors import in_one_line
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.models.resnet_cifar import ResNet
from daar.pruning.groups import ChannelGraph, channel_graph

IMAGE = torch.zeros(1, 3, 32, 32)
COUNT, CLASSES = 12, 10


class BreachError(Exception):
    """A method or policy does not hold what it must: expected, got, how to pass, in one line."""


def breach(expected: str, got: object, fix: str) -> NoReturn:
    """Raise that something is not as expected.

    Args:
        expected: what must hold, a phrase.
        got: what was found instead.
        fix: what to do, a sentence.
    """
    raise BreachError(f"expected {expected}; got {in_one_line(str(got), 300).rstrip('.')}. {fix}")


def enliven(model: Any, seed: int = 0) -> Any:
    """Give every BN statistics and an affine map that are not trivial, some of its scales negative; eval mode."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                module.running_mean.normal_(0, 0.5, generator=dice)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2, generator=dice)  # type: ignore[union-attr]
                module.weight.normal_(1, 0.5, generator=dice)
                module.bias.normal_(0, 0.5, generator=dice)
            elif isinstance(module, nn.GroupNorm) and module.affine:
                module.weight.normal_(1, 0.5, generator=dice)
                module.bias.normal_(0, 0.5, generator=dice)
    return model.eval()


def network(seed: int = 0) -> nn.Module:
    """Three residual blocks with lively statistics, two of them with padded shortcuts; draws nothing from outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = enliven(ResNet(1, CLASSES), seed)
    return model


def batch(seed: int = 0) -> Batch:
    """Images with shapes in them, and labels."""
    dice = torch.Generator().manual_seed(seed)
    smooth = torch.randn(COUNT, 3, 8, 8, generator=dice)
    images = nn.functional.interpolate(smooth, scale_factor=4.0, mode="bilinear")
    return Batch(images, torch.randint(CLASSES, (COUNT,), generator=dice))


def graph_of(model: nn.Module) -> ChannelGraph:
    """Its channel groups."""
    return channel_graph(model, IMAGE)


def layers() -> list[str]:
    """The layers of `network` that are scored."""
    return graph_of(network()).scored_layers()


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """What a score() is given beyond its defaults."""
    return {"seed": 3} if discovery.takes_seed(function) else {}


def score(method: Method, model: nn.Module | None = None, data: Batch | None = None, **more: Any) -> dict[str, Tensor]:
    """A method's scores of `network`, or of another model, on `batch`, or on other data."""
    module = discovery.load(method)
    model = network() if model is None else model
    scores: dict[str, Tensor] = module.score(
        model.eval(), data or batch(), layers(), **{**options(module.score), **more}
    )
    return scores


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether both have the same layers, in one order, with the same scores to the bit."""
    return list(one) == list(other) and all(torch.equal(one[layer], other[layer]) for layer in one)


def surroundings() -> dict[str, Any]:
    """All that a method must leave alone around it, by name."""
    numpy_state = np.random.get_state()
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "random's state": random.getstate(),
        "numpy's random state": tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state),
        "the mode of gradients": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "allow_tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
    }


def require_surroundings(before: dict[str, Any]) -> None:
    """BreachError naming the first of the surroundings that is not as before."""
    for name, value in surroundings().items():
        if value != before[name]:
            shown = "another" if "state" in name else value
            breach(f"{name} as it was", shown, "Draw from a torch.Generator of your own, and put back what you set.")
