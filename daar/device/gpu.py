"""CPU cores and GPUs that a run may use. Importing this is light; torch is imported only to choose a device."""

import itertools
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from daar.device import distributed, lease
from daar.errors import InputError

if TYPE_CHECKING:
    import torch

RESULT_NEUTRAL = "chooses the device, which records name"
DEVICES = ("auto", "cpu", "cuda", "mps")
SLOTS = "DAAR_SLOTS_PER_GPU"
# set in the jobs that a scheduler starts for the workflow: no other job uses the GPUs that they see
GRANTED = "DAAR_GPUS_GRANTED"


def count_cores() -> int:
    """How many CPU cores this process may use: those of the machine, or fewer by a scheduler's limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(jobs: int, cores: int) -> int:
    """Threads for each of `jobs` jobs that run at the same time, at most 16 of them.

    Small networks gain more from jobs at the same time than from threads, which wait for each other: slim networks of
    odd widths are slower on two threads than on one (docs/performance.md).
    """
    return max(1, cores // min(max(1, jobs), 16))


def count_gpus() -> int:
    """How many NVIDIA GPUs this process may use, without torch: CUDA_VISIBLE_DEVICES, else the driver's list."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA stops at the first invalid entry
        names = (name.strip() for name in visible.split(","))
        return len(list(itertools.takewhile(lambda name: name not in ("", "-1"), names)))
    driver = Path("/proc/driver/nvidia/gpus")
    return len(list(driver.iterdir())) if driver.is_dir() else 0


def slots_per_gpu(asked: int | None = None) -> int:
    """How many jobs may share a GPU: `asked`, else DAAR_SLOTS_PER_GPU, else 1.

    Raises:
        InputError: it is not a whole number above 0.
    """
    text = os.environ.get(SLOTS) or "1" if asked is None else str(asked)
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise InputError(f"slots per GPU must be a whole number of 1 or more, got {text!r}. Give 1 to share none.")
    return int(text)


def export_slots(asked: int | None) -> int:
    """Let the jobs of a workflow share GPUs as its suite says; returns the slots of one GPU."""
    slots = slots_per_gpu(asked)
    os.environ[SLOTS] = str(slots)
    return slots


def export_granted() -> None:
    """Let this process and those it starts use the GPUs that a scheduler granted, without leases."""
    os.environ[GRANTED] = "1"


def choose_device(name: str, slots: int = 1) -> "torch.device":
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    On CUDA this waits for a free GPU and keeps it until the process ends; `cuda:1` waits for that one. It becomes
    torch's current device, so that nothing goes to another GPU by default. Under torchrun the processes of a machine
    take one GPU each, by local rank. In a job of a scheduler the GPUs are those that it granted, without waiting: if
    Slurm granted none, `auto` takes the CPU, whatever the node has.

    Args:
        name: one of DEVICES, or cuda:INDEX among those that CUDA_VISIBLE_DEVICES shows.
        slots: how many jobs may share a GPU.

    Raises:
        InputError: that device is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        there["cuda"] &= not _is_refused(there["cuda"])
        name = next(device for device, available in there.items() if available)
    if name == "cuda" and distributed.is_launched():
        name = f"cuda:{distributed.local_rank()}"
    gpus = _visible() if there["cuda"] else []
    known = [device for device, available in there.items() if available]
    known += [f"cuda:{index}" for index in range(len(gpus))]
    if name not in known:
        raise InputError(f"device {name!r} is not there; this machine has: {', '.join(known)}. Choose one, or auto.")
    if not name.startswith("cuda"):
        return torch.device(name)
    first = int(name.partition(":")[2] or 0)
    wanted = gpus[first : first + 1] if ":" in name else gpus
    if os.environ.get(GRANTED):
        index = first
    else:
        with distributed.in_turn():
            index = first + lease.take(wanted, slots)
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _is_refused(seen: bool) -> bool:
    """Whether this is a Slurm job without a GPU; prints a line if its device is not the expected one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not os.environ.get(GRANTED) or "SLURM_JOB_ID" not in os.environ:
        return False
    if visible is None and seen:
        print("daar: Slurm granted this job no GPU, so that it takes the CPU; gpu=1 asks for one", file=sys.stderr)
    if visible is not None and not seen:
        print(f"daar: Slurm granted GPU {visible}, but torch sees none here: it takes the CPU", file=sys.stderr)
    return visible is None


def _visible() -> list[str]:
    """UUIDs of the GPUs that torch sees, in torch's order; unlike its numbers they are the same for every process."""
    import torch

    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
