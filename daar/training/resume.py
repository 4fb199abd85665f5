"""The resume file: the full state of a training, from which a killed run continues as if nothing had happened.

One safetensors file holds the model, the optimizer's state, the best state so far and the curve. It is replaced
atomically after epochs, and within long or interrupted ones. It also holds the identity of the run, so that another
run's file is refused, and the message names what differs.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from daar.device import distributed
from daar.errors import InputError
from daar.models import weights
from daar.storage import files, tensors
from daar.storage.schemas import validate
from daar.training.progress import Epoch, Partial, Progress
from daar.training.trained import Trained

RESULT_NEUTRAL = "stores and restores the state of a training"
_HEADER = "run"
_AGAIN = "Delete it to start again."


class Run:
    """One training and its resume file.

    Args:
        identity: settings that define the run's result, as for JSON.
        path: the resume file; None to keep none.
        say: gets a line when a run is continued.
    """

    def __init__(self, identity: dict[str, Any], path: Path | None, say: Callable[[str], None]) -> None:
        self.identity, self.path, self.say = json.loads(json.dumps(identity)), path, say
        self._content: tensors.Contents | None = None

    def precision(self) -> str | None:
        """What the training was begun in, if there is a resume file that says so; raises as `load` does."""
        content = self._read()
        return content and content[1].get("precision")

    def _read(self) -> tensors.Contents | None:
        """The resume file, checked as far as it goes without the network; None if there is none. Read once."""
        if self.path is None or not self.path.exists():
            return None
        if self._content is None:
            stored, about = tensors.read(self.path, "the state of a training", _AGAIN, header=_HEADER)
            validate(about, "resume", str(self.path), _AGAIN)
            self._require_same(about["identity"])
            self._content = tensors.Contents(stored, about)
        return self._content

    def save(self, trained: Trained, progress: Progress) -> None:
        """Replace the resume file by the present state: rank 0 writes, the other ranks wait."""
        if self.path is None:
            return
        if distributed.is_first():
            self._write(self.path, trained, progress)
        distributed.all_reduce_max(0)  # a barrier

    def _write(self, path: Path, trained: Trained, progress: Progress) -> None:
        parts = {"model": trained.model.state_dict(), "best": progress.best}
        if trained.average is not None:
            parts["average"] = trained.average.state()
        for name, parameter in trained.model.named_parameters():
            for kind, value in trained.optimizer.state[parameter].items():
                parts.setdefault(kind, {})[name] = value
        stored = {f"{kind}.{name}": _plain(value) for kind, part in parts.items() for name, value in part.items()}
        about = {
            "identity": self.identity,
            "threads": torch.get_num_threads(),
            "precision": progress.precision or None,
            "curve": [asdict(epoch) for epoch in progress.curve],
            "best_epoch": progress.best_epoch,
            "partial": progress.partial and asdict(progress.partial),
        }
        with files.atomic(path) as temporary:
            safetensors.torch.save_file(stored, temporary, metadata={_HEADER: json.dumps(about)})

    def load(self, trained: Trained, device: torch.device) -> Progress:
        """Restore a network in training from the resume file; without one it stays as it is.

        Raises:
            InputError: the file is damaged or another run's.
        """
        content, self._content = self._read(), None
        if self.path is None or content is None:
            return Progress()
        stored, about = content
        parts = {kind: _part(stored, kind) for kind in ("model", "best", "average", *trained.optimizer.names)}
        if others := sorted(name for name in stored if name.partition(".")[0] not in parts):
            raise InputError(f"resume file {self.path} has {others[0]}, which this training has no use for. {_AGAIN}")
        _require_fitting(self.path, about, parts, trained)
        trained.model.load_state_dict(parts["model"])
        if trained.average is not None:
            trained.average.load(parts["average"])
        for name, parameter in trained.model.named_parameters():
            for kind in trained.optimizer.names:
                if name in parts[kind]:
                    held = torch.empty_like(parameter if parts[kind][name].ndim else parts[kind][name], device=device)
                    trained.optimizer.state[parameter][kind] = held.copy_(parts[kind][name])
        curve = [Epoch(**row) for row in about["curve"]]
        partial = about["partial"] and Partial(**{**about["partial"], "losses": tuple(about["partial"]["losses"])})
        where = f"epoch {len(curve)}" + (f" and {partial.steps} steps" if partial else "")
        self.say(f"continues after {where} from {self.path}")
        if device.type == "cpu" and about["threads"] != torch.get_num_threads():
            self.say(
                f"was begun with {about['threads']} threads, goes on with {torch.get_num_threads()}: bits may differ"
            )
        return Progress(curve, partial, parts["best"], about["best_epoch"])

    def _require_same(self, other: dict[str, Any]) -> None:
        for key in sorted({*self.identity, *other}):
            if self.identity.get(key) != other.get(key):
                raise InputError(
                    f"resume file {self.path} is another run's: {key} was {other.get(key)!r}, is now "
                    f"{self.identity.get(key)!r}. Delete it to start again, or restore the setting."
                )


def _require_fitting(
    path: Path, about: dict[str, Any], parts: dict[str, dict[str, torch.Tensor]], trained: Trained
) -> None:
    """InputError where the file's tensors are not a state of the training's, or its curve is none of its epochs."""
    for kind, expected in _expected(about, parts, trained).items():
        if odd := sorted(set(expected) ^ set(parts[kind])):
            what = "lacks" if odd[0] in expected else "has"
            raise InputError(f"resume file {path} {what} {kind}.{odd[0]}, unlike this network. {_AGAIN}")
        for name, tensor in parts[kind].items():
            one = expected[name]
            if one is None or (one.shape, one.dtype) != (tensor.shape, tensor.dtype):
                raise InputError(f"resume file {path}: {kind}.{name} has another shape or type than here. {_AGAIN}")
        weights.require_sound(
            parts[kind], weights.types_of(parts[kind]), f"resume file {path}, {kind}", "Delete it to start again."
        )
    epochs = [row["epoch"] for row in about["curve"]]
    if epochs != list(range(1, len(epochs) + 1)) or about["best_epoch"] > len(epochs):
        raise InputError(f"resume file {path} should have a curve of epochs from 1 on, but has not. {_AGAIN}")


def _expected(
    about: dict[str, Any], parts: dict[str, dict[str, torch.Tensor]], trained: Trained
) -> dict[str, dict[str, torch.Tensor | None]]:
    """Tensors as those that the file should have, by part and name."""
    state, parameters = trained.model.state_dict(), dict(trained.model.named_parameters())
    number = torch.zeros(())  # of steps, for every parameter
    kept = {
        kind: {name: number if kind == "step" else parameters.get(name) for name in parts[kind]}
        for kind in trained.optimizer.names
    }
    average = {} if trained.average is None else trained.average.state()
    return {"model": {**state}, "best": {**state} if about["best_epoch"] else {}, "average": {**average}, **kept}


def _plain(value: torch.Tensor) -> torch.Tensor:
    return value.detach().cpu().contiguous()


def _part(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    prefix = f"{kind}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
