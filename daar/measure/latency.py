"""Latency of a network for a batch of images, compared with another network in the same minutes.

Clocks drift and other programs run, so two runs one after the other say little. In every round each network has one
window, in alternating order; reported of two networks is the ratio of the windows of a round.
"""

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.device.precision import evaluating, strict_float32
from daar.errors import InputError
from daar.measure.export import FORMATS, export, optional, session

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
WINDOW_SECONDS = 0.2

Forward = Callable[[Tensor], Any]


def check(batch_sizes: Sequence[int], rounds: int) -> None:
    """InputError for batch sizes or rounds that cannot be measured."""
    if not batch_sizes or min(batch_sizes) < 1 or len(set(batch_sizes)) < len(batch_sizes):
        raise InputError(f"batch sizes are {list(batch_sizes)}; give at least one, each 1 or more and named once.")
    if rounds < 2:
        raise InputError(f"rounds are {rounds}; quartiles need some. Give at least 2.")


def missing() -> str | None:
    """Which package onnxruntime lacks here, in words; None if it and the exporter of its files are installed."""
    try:
        for module in FORMATS["onnx"].modules:
            optional(module)
    except InputError as error:
        return str(error)
    return None


@contextlib.contextmanager
def in_torch(model: nn.Module, device: torch.device, dtype: str) -> Iterator[Forward]:
    """The network in torch: eval mode, channels_last, no TensorFloat-32; moved and cast in place."""
    model.to(device, DTYPES[dtype]).to(memory_format=torch.channels_last)
    with strict_float32(), evaluating(model), torch.inference_mode():
        yield model


@contextlib.contextmanager
def in_onnxruntime(model: nn.Module, input_shape: tuple[int, ...], threads: int) -> Iterator[Forward]:
    """The network in onnxruntime on the CPU, in float32, from a file that was compared with it.

    Raises:
        InputError: a package is not installed, or the network cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model, input_shape, file, "onnx", {})
        yield session(file, threads)


def compare(
    networks: Mapping[str, Forward],
    images: Tensor,
    *,
    threads: int,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time networks in alternation, round by round, after an untimed round.

    Args:
        networks: name → forward pass.
        images: the batch, on the networks' device.
        threads: CPU threads of torch while it is timed; restored afterwards.
        rounds: windows of each network.
        clock: returns seconds.

    Returns:
        name → milliseconds of one batch, one value per round: the median over the batches of its window.
    """
    taken: dict[str, list[float]] = {name: [] for name in networks}
    orders = list(networks)[::-1], list(networks)
    with _torch_threads(threads):
        for index in range(rounds + 1):
            for name in orders[index % 2]:
                seconds = _window(networks[name], images, clock)
                if index:  # round 0 warms up caches, clocks and the choice of kernels
                    taken[name].append(1e3 * seconds)
    return taken


def _window(forward: Forward, images: Tensor, clock: Callable[[], float]) -> float:
    """Seconds of one batch: the median over batches that begin within a window, after an untimed one."""

    def now() -> float:
        if images.device.type != "cpu":
            torch.accelerator.synchronize()
        return clock()

    forward(images)
    times = [now()]
    while times[-1] - times[0] < WINDOW_SECONDS:
        forward(images)
        times.append(now())
    return statistics.median(after - before for before, after in itertools.pairwise(times))


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def summarise(taken: Mapping[str, Sequence[float]], batch_size: int) -> dict[str, Any]:
    """Medians, quartiles and ratio of the windows of `compare`; keys as in workflow/schemas/latency.schema.yaml.

    Args:
        taken: milliseconds per round, of `slim` and, if there is a network to compare with, of `dense`.
        batch_size: images in a batch.
    """
    summary: dict[str, Any] = {name: _summary(values, batch_size) for name, values in taken.items()}
    summary.setdefault("dense", None)
    summary["ratio"] = _quartiles(np.divide(taken["dense"], taken["slim"])) if "dense" in taken else None
    return summary


def _summary(values: Sequence[float], batch_size: int) -> dict[str, Any]:
    spread = _quartiles(values)
    return {
        **{f"{name}_ms": value for name, value in spread.items()},
        "images_per_second": 1e3 * batch_size / spread["median"],
        "windows_ms": list(values),
    }


def _quartiles(values: Any) -> dict[str, float]:
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "q1": float(first), "q3": float(third)}
