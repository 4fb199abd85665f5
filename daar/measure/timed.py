"""How long one batch takes in a network as it is, next to another network: for `daar.latency` and latency targets.

Nothing is converted: its type, device, memory format and torch's settings are those that it is used with.
"""

import contextlib
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.measure import latency
from daar.program.inputs import Images, call_on_own, count, usable
from daar.program.outputs import tensors

RESULT_NEUTRAL = "measures time, which no result depends on"


@dataclass(frozen=True)
class Latency:
    """Medians over windows that took turns; `print` it.

    Attributes:
        median_ms: milliseconds of one batch.
        windows_ms: of every round, the median over its batches.
        against_ms: of the network that it was compared with; None where there was none.
        reduction: fraction of that network's time that is saved: 1 less the median of the rounds' ratios; None alike.
        batch_size: images in a batch.
        threads: CPU threads of torch.
        device: where both ran.
    """

    median_ms: float
    windows_ms: tuple[float, ...]
    against_ms: float | None
    reduction: float | None
    batch_size: int
    threads: int
    device: str

    def __str__(self) -> str:
        images = f"{self.batch_size} image{'s' if self.batch_size > 1 else ''}"
        how = (
            f"median of {len(self.windows_ms)} {'interleaved ' if self.reduction is not None else ''}windows, {images} "
            f"at once, {self.threads} thread{'s' if self.threads > 1 else ''}, {self.device}"
        )
        if self.reduction is None:
            return f"{self.median_ms:.3g} ms ({how})"
        return f"{self.against_ms:.3g} → {self.median_ms:.3g} ms ({-100 * self.reduction:+.1f} %; {how})"


def timed(
    model: nn.Module, images: Images, against: nn.Module | None = None, *, rounds: int = 9, threads: int | None = None
) -> Latency:
    """Time a network on a batch, in eval mode and without gradients; in turn with another one if there is one.

    Args:
        model: the network; left as it is.
        images: the batch, on its device.
        against: a network that it is compared with.
        rounds: windows of each, at least 2.
        threads: CPU threads of torch; None for as many as it has.

    Raises:
        InputError: fewer rounds than 2, or threads below 1.
    """
    latency.check([count(images)], rounds)
    threads = torch.get_num_threads() if threads is None else threads
    if threads < 1:
        raise InputError(f"threads are {threads}; it must be 1 or more, or None for torch's own number.")
    networks = {"own": model} if against is None else {"own": model, "other": against}
    with contextlib.ExitStack() as modes:
        for network in networks.values():
            modes.enter_context(evaluating(network))
        forwards = {name: _forward(network, images) for name, network in networks.items()}
        taken = latency.compare(forwards, next(tensors(images)), threads=threads, rounds=rounds)
    own, other = taken["own"], taken.get("other")
    reduction = None if other is None else 1 - statistics.median(a / b for a, b in zip(own, other, strict=True))
    return Latency(
        statistics.median(own),
        tuple(own),
        None if other is None else statistics.median(other),
        reduction,
        count(images),
        threads,
        str(next(tensors(images)).device),
    )


def _forward(network: nn.Module, images: Images) -> latency.Forward:
    own = usable(images)

    def forward(_: Tensor) -> None:
        with torch.inference_mode():
            call_on_own(network, own)

    return forward
