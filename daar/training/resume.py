"""The resume file: the full state of a training, from which a killed run continues as if nothing had happened.

One safetensors file holds the model, the momenta, the best state so far and the curve. It is replaced atomically after
each epoch, and within long or interrupted ones. It also holds the identity of the run, so that another run's file is
refused, and the message names what differs.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from daar.device import distributed
from daar.errors import InputError
from daar.storage import files
from daar.training.progress import Epoch, Partial, Progress

RESULT_NEUTRAL = "stores and restores the state of a training"


class Run:
    """One training and its resume file.

    Args:
        identity: settings that define the run's result, as for JSON.
        path: the resume file; None to keep none.
        say: gets a line when a run is continued.
    """

    def __init__(self, identity: dict[str, Any], path: Path | None, say: Callable[[str], None]) -> None:
        self.identity, self.path, self.say = json.loads(json.dumps(identity)), path, say

    def save(self, model: nn.Module, optimizer: torch.optim.SGD, progress: Progress) -> None:
        """Replace the resume file by the present state: rank 0 writes, the other ranks wait."""
        if self.path is None:
            return
        if distributed.is_first():
            self._write(self.path, model, optimizer, progress)
        distributed.all_reduce_max(0)  # a barrier

    def _write(self, path: Path, model: nn.Module, optimizer: torch.optim.SGD, progress: Progress) -> None:
        tensors = {f"model.{name}": value for name, value in _contiguous(model.state_dict()).items()}
        tensors |= {f"best.{name}": value for name, value in progress.best.items()}
        for name, parameter in model.named_parameters():
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
        about = {
            "identity": self.identity,
            "threads": torch.get_num_threads(),
            "curve": [asdict(epoch) for epoch in progress.curve],
            "best_epoch": progress.best_epoch,
            "partial": progress.partial and asdict(progress.partial),
        }
        with files.atomic(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata={"run": json.dumps(about)})

    def load(self, model: nn.Module, optimizer: torch.optim.SGD, device: torch.device) -> Progress:
        """Restore model and optimizer from the resume file; without one they stay as they are.

        Raises:
            InputError: the file is damaged or another run's.
        """
        if self.path is None or not self.path.exists():
            return Progress()
        about, tensors = self._read(self.path)
        self._require_same(about["identity"])
        parts = {kind: _part(tensors, kind) for kind in ("model", "best", "momentum")}
        model.load_state_dict(parts["model"])
        for name, parameter in model.named_parameters():
            if name in parts["momentum"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                    parts["momentum"][name]
                )
        curve = [Epoch(**row) for row in about["curve"]]
        partial = about["partial"] and Partial(**{**about["partial"], "losses": tuple(about["partial"]["losses"])})
        where = f"epoch {len(curve)}" + (f" and {partial.steps} steps" if partial else "")
        self.say(f"continues after {where} from {self.path}")
        if device.type == "cpu" and about["threads"] != torch.get_num_threads():
            self.say(
                f"was begun with {about['threads']} threads, goes on with {torch.get_num_threads()}: bits may differ"
            )
        return Progress(curve, partial, parts["best"], about["best_epoch"])

    @staticmethod
    def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["run"])
                return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"resume file {path} cannot be read: {error}. Delete it to start again.") from error

    def _require_same(self, other: dict[str, Any]) -> None:
        for key in sorted({*self.identity, *other}):
            if self.identity.get(key) != other.get(key):
                raise InputError(
                    f"resume file {self.path} is another run's: {key} was {other.get(key)!r}, is now "
                    f"{self.identity.get(key)!r}. Delete it to start again, or restore the setting."
                )


def _contiguous(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _part(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    prefix = f"{kind}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
