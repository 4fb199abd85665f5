"""Latency of a checkpoint, alone or compared with the network that it was pruned from."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.errors import InputError
from daar.measure import latency as measuring
from daar.measure import macs
from daar.storage import files, provenance

FORMAT = 1


def latency(
    *,
    folder: Path,
    against: Path | None,
    batch_sizes: Sequence[int],
    rounds: int,
    dtype: str,
    device: torch.device,
    onnxruntime: bool,
) -> dict[str, Any]:
    """Time the forward pass in torch and in onnxruntime, with torch's present number of CPU threads.

    Args:
        folder: of the checkpoint, called slim.
        against: folder of another one, called dense, timed in alternation with it; or None.
        batch_sizes: images in a batch.
        rounds: of windows, at each batch size.
        dtype: `float32` or `bf16`.
        device: that torch runs on.
        onnxruntime: whether to time onnxruntime too, if possible.

    Returns:
        Content as in workflow/schemas/latency.schema.yaml.

    Raises:
        InputError: a checkpoint is missing or damaged, the input shapes differ, or a count is too small.
    """
    measuring.check(batch_sizes, rounds)
    folders = {"slim": Path(folder)} | ({} if against is None else {"dense": Path(against)})
    loaded = {name: checkpoint.load(path) for name, path in folders.items()}
    models = {name: model for name, (model, _) in loaded.items()}
    described = {name: _described(*loaded[name], path) for name, path in folders.items()}
    shape = _shape({str(folders[name]): about for name, (_, about) in loaded.items()})
    # before torch, which changes dtype and device of the networks
    reason = _why_not(onnxruntime, device, dtype)
    exported = {} if reason else _in_onnxruntime(models, shape, batch_sizes, rounds)
    native = _in_torch(models, shape, batch_sizes, rounds, device, dtype)
    return {
        **{"format": FORMAT, "dense": None, **described, "device": device.type, "dtype": dtype},
        **{"memory_format": "channels_last", "rounds": rounds, "window_seconds": measuring.WINDOW_SECONDS},
        "batches": [
            {"batch_size": size, "torch": native[size], "onnxruntime": exported.get(size)} for size in batch_sizes
        ],
        "onnxruntime": {"version": None if reason else importlib.metadata.version("onnxruntime"), "reason": reason},
        **provenance.environment(),
    }


def _shape(abouts: Mapping[str, Description]) -> tuple[int, int, int]:
    """The input shape that all networks share; InputError if there are several."""
    shapes = {about.input_shape for about in abouts.values()}
    if len(shapes) > 1:
        said = ", ".join(f"{where} takes images of {about.input_shape}" for where, about in abouts.items())
        raise InputError(f"{said}; both are timed on the same images. Choose networks of one input shape.")
    return shapes.pop()


def _described(model: nn.Module, about: Description, folder: Path) -> dict[str, Any]:
    return {
        "network": about.network,
        "dataset": about.dataset,
        "sha256": files.sha256(folder / "model.safetensors"),
        "macs": macs.count_macs(model, torch.zeros(1, *about.input_shape)),
        "params": macs.count_params(model),
    }


def _why_not(wanted: bool, device: torch.device, dtype: str) -> str | None:
    """Why onnxruntime is not timed; None if it is."""
    if not wanted:
        return "not asked for"
    if device.type != "cpu" or dtype != "float32":
        return f"it is timed on the CPU in float32; this was {device.type} in {dtype}"
    return measuring.missing()


def _in_torch(
    models: Mapping[str, nn.Module],
    shape: tuple[int, ...],
    batch_sizes: Sequence[int],
    rounds: int,
    device: torch.device,
    dtype: str,
) -> dict[int, Any]:
    def images(size: int) -> Tensor:
        drawn = torch.randn(size, *shape, device=device, dtype=measuring.DTYPES[dtype])
        return drawn.to(memory_format=torch.channels_last)

    with ExitStack() as stack:
        opened = {n: stack.enter_context(measuring.in_torch(model, device, dtype)) for n, model in models.items()}
        return _timed(opened, images, batch_sizes, rounds)


def _in_onnxruntime(
    models: Mapping[str, nn.Module], shape: tuple[int, ...], batch_sizes: Sequence[int], rounds: int
) -> dict[int, Any]:
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        opened = {
            n: stack.enter_context(measuring.in_onnxruntime(model, shape, threads)) for n, model in models.items()
        }
        return _timed(opened, lambda size: torch.randn(size, *shape), batch_sizes, rounds)


def _timed(
    opened: Mapping[str, measuring.Forward], images: Callable[[int], Tensor], batch_sizes: Sequence[int], rounds: int
) -> dict[int, Any]:
    """Batch size → summary of its windows."""
    threads = torch.get_num_threads()
    return {
        size: measuring.summarise(measuring.compare(opened, images(size), threads=threads, rounds=rounds), size)
        for size in batch_sizes
    }
