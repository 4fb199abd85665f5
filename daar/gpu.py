"""What a run may compute on. Importing this is light; torch is imported only to choose one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from daar.errors import InputError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def count_cores() -> int:
    """How many CPU cores this process may use; fewer than the machine has where the scheduler says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_gpus() -> int:
    """How many NVIDIA GPUs this process may use, without torch: CUDA_VISIBLE_DEVICES, else the driver's list."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    driver = Path("/proc/driver/nvidia/gpus")
    return len(list(driver.iterdir())) if driver.is_dir() else 0


def choose_device(name: str) -> "torch.device":
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: that device is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, available in there.items() if available)
    if not there.get(name, False):
        available = ", ".join(device for device, yes in there.items() if yes)
        raise InputError(f"device {name!r} is not there; this machine has: {available}. Choose one, or auto.")
    return torch.device(name)
