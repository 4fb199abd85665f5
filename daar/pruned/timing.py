"""`daar.latency`, and the search for the MACs at which a network saves a fraction of its time."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from daar.errors import InputError
from daar.measure import timed
from daar.measure.timed import Latency
from daar.program.inputs import Images, count, first
from daar.pruned import images as forms
from daar.pruned.mixed_types import suited
from daar.pruned.network import unwrapped
from daar.pruned.recurrent import at_once

# images that a latency target is measured with, if there are as many
BATCH = 16
# networks that are made and timed, windows of each, and windows of the one that is taken
_STEPS, _ROUNDS, _FINAL_ROUNDS = 8, 5, 15
# saved time this close above the target ends the search
_CLOSE = 0.02

Made = TypeVar("Made")


def latency(
    model: nn.Module,
    images: Any,
    against: nn.Module | None = None,
    *,
    rounds: int = 9,
    threads: int | None = None,
) -> Latency:
    """How long a network takes for a batch, here and now: `print(daar.latency(pruned.model, images))`.

    It runs as it is: on its device, in its type and memory format, in eval mode.

    Args:
        model: any network; left as it is.
        images: the batch: a tensor, or a tuple or dict as the network is called with.
        against: another network, such as the dense one. Both run in turn, and the time that is saved is the median of
            the rounds' ratios: two runs one after the other say little.
        rounds: windows of 0.2 s of each, at least 2.
        threads: CPU threads; None for torch's number.

    Raises:
        InputError: the network does not run on the images, or an argument is wrong.
    """
    taken, _ = forms.collected(unwrapped(model)[0], images, None, BATCH)
    networks = [model] if against is None else [model, against]
    batch = taken
    for network in networks:
        weight = next(network.parameters(), None)
        batch = taken if weight is None else forms.placed(network, taken).images
    return timed.timed(model, batch, against, rounds=rounds, threads=threads)


def batch_of(images: Images, like: nn.Module) -> Images:
    """The images that a latency target is measured with."""
    return suited(like, first(images, min(BATCH, count(images))))


def by_latency(
    make: Callable[[float], Made],
    network: Callable[[Made], nn.Module],
    dense: nn.Module,
    images: Images,
    target: float,
    most: float,
    *,
    held: bool,
) -> tuple[Made, Latency]:
    """Bisect the smallest MACs reduction that saves a fraction of a batch's time, measured in turn with the dense one.

    Time does not follow MACs step by step, so that a network between two that were tried may be faster: what is
    returned was measured, again and longer at the end.

    Args:
        make: makes a slim network, or what holds one, from a fraction of MACs to remove.
        network: takes the network out of that.
        dense: the dense network.
        images: the batch.
        target: fraction of the time to be saved.
        most: the highest fraction of MACs that can be removed.
        held: whether it is so by max_ratio.

    Raises:
        InputError: no network that can be made saves as much; says how much the fastest saved.
    """

    def saved(made: Made, rounds: int) -> float:
        return time(made, rounds).reduction or 0.0

    def time(made: Made, rounds: int) -> Latency:
        with at_once():
            return timed.timed(network(made), images, dense, rounds=rounds)

    low, high, tried = 0.0, most, min(target, most)
    best: Made | None = None
    fastest = 0.0
    for _ in range(_STEPS):
        made = make(tried)
        reduction = saved(made, _ROUNDS)
        fastest = max(fastest, reduction)
        if reduction >= target:
            best, high = made, tried
        else:
            low = tried
        if target <= reduction <= target + _CLOSE or (reduction < target and tried >= most):
            break
        tried = most if best is None and low > most - _CLOSE else (low + high) / 2
    if best is None:
        ways = ["a lower one", *(["a larger max_ratio"] if held else [])]
        ways += ["larger batches, for which MACs count more"] if most else []
        raise InputError(
            f"latency_reduction is {target}; the fastest network that was tried here saves {fastest:.3f} of the time "
            f"of a batch of {count(images)}, with up to {most:.3f} of the MACs removed. Give "
            f"{', or '.join(ways)}."
        )
    return best, time(best, _FINAL_ROUNDS)
