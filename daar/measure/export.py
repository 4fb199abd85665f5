"""Export a network to a file that runs without this package, ONNX or torch's .pt2, and compare it with the network.

The file takes normalised images, as the network does: float32 (N, C, H, W), N free.
"""

import importlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from daar.device.precision import evaluating
from daar.errors import InputError, is_out_of_memory, unknown
from daar.measure.finite import require_finite
from daar.storage import files

IMAGES, LOGITS = "images", "logits"
ABOUT = "daar.json"  # a .pt2's extra file; in ONNX every key is a metadata property
_TRACED, _COMPARED = 2, (1, 5)  # batch sizes: a file with the traced one as a constant fails on the others


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        tolerance: largest max |difference| / max |logit| allowed.
        write: gives the content of a file with the traced network and metadata. In memory: torch's own writer ends the
            process where a disk is full.
        open: gives a function from images to logits that runs the file.
        modules: that must be installed.
    """

    tolerance: float
    write: Callable[[ExportedProgram, Mapping[str, Any]], bytes]
    open: Callable[[Path], Callable[[Tensor], Tensor]]
    modules: tuple[str, ...] = ()


def export(
    model: nn.Module,
    input_shape: tuple[int, ...],
    out: Path,
    form: str,
    about: Mapping[str, Any],
) -> float:
    """Write a network, open the file and compare it with the network, at batch sizes other than the traced one.

    Args:
        model: on the CPU, in float32; left in the mode it was in.
        input_shape: (C, H, W).
        out: the file; it is renamed to this name only after the comparison.
        form: `onnx` or `pt2`.
        about: metadata for the file; JSON-like values.

    Returns:
        The largest |difference| over the largest |logit|.

    Raises:
        InputError: there is no such format, a package is not installed, torch cannot export the network, the logits of
            the file differ, or it cannot be written.
    """
    kind = _format(form)
    for module in kind.modules:
        optional(module)
    with evaluating(model), files.atomic(out) as temporary:
        temporary.write_bytes(_content(kind, model, input_shape, about, out))
        run = kind.open(temporary)
        error = max(_difference(model, run, _images(count, input_shape)) for count in _COMPARED)
        if not error <= kind.tolerance:  # NaN too
            raise InputError(
                f"{out}: logits of the exported file should match the network's to {kind.tolerance:g} of the largest, "
                f"but differ by {error:.2g}; nothing is written. Try another format or version of torch, and report it."
            )
    return error


def optional(module: str) -> ModuleType:
    """Import a package of the extra `export`; InputError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{module} is not installed. Run: pip install -e '.[export]'") from None


def session(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """A function from images to logits that runs an ONNX file on the CPU by onnxruntime, with `threads` threads."""
    runtime = optional("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # these graphs have no operations to run in parallel
    options.log_severity_level = 3  # errors only: otherwise it warns if there is no GPU
    opened = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(opened.run([LOGITS], {IMAGES: images.numpy()})[0])


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise unknown("format", name, list(FORMATS))
    return FORMATS[name]


def _content(
    kind: Format, model: nn.Module, input_shape: tuple[int, ...], about: Mapping[str, Any], out: Path
) -> bytes:
    """Trace the network, as the content of a file; messages name `out`."""
    try:
        images = _images(_TRACED, input_shape)
        program = torch.export.export(model, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # holds paths of this machine
        return kind.write(program, about)
    except RuntimeError as error:  # base of all exceptions of the exporters
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot write {out}, torch does not export the network: {reason}. Try another format."
        ) from error


def _images(count: int, shape: tuple[int, ...]) -> Tensor:
    """Random normalised images: mean 0, standard deviation 1."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))


def _difference(model: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> float:
    expected, got = model(images.clone()), run(images)  # it may change its images in place
    require_finite(expected)
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max())


def _write_onnx(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    names: dict[str, Any] = {"input_names": [IMAGES], "output_names": [LOGITS]}
    made = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert made is not None  # it is None only if a file is given
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    made.model.metadata_props.update(texts)
    content: bytes = made.model_proto.SerializeToString()
    return content


def _write_pt2(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={ABOUT: json.dumps(about)})
    return content.getvalue()


def _open_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()


# ONNX has the tolerance of slimming in float32: the exporter folds BN into the convs, and onnxruntime sums in another
# order. A .pt2 runs torch's own kernels, which differ at most in the order of sums.
FORMATS = {
    "onnx": Format(1e-4, _write_onnx, lambda path: session(path, 1), ("onnx", "onnxscript", "onnxruntime")),
    "pt2": Format(1e-5, _write_pt2, _open_pt2),
}
