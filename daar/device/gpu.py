"""What a run may compute on. Importing this is light; torch is imported only to choose one."""

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

DEVICES = ("auto", "cpu", "cuda", "mps")
SLOTS = "DAAR_SLOTS_PER_GPU"
# set in the jobs that a scheduler starts for the workflow: the GPUs they see are theirs alone
GRANTED = "DAAR_GPUS_GRANTED"


def count_cores() -> int:
    """How many CPU cores this process may use; fewer than the machine has where the scheduler says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(jobs: int, cores: int) -> int:
    """Threads for each of so many jobs that may run side by side, at most 16 of them.

    Small networks gain more from running side by side than from threads that wait for each other: slim ones of odd
    widths are slower on two threads than on one (docs/performance.md).
    """
    return max(1, cores // min(max(1, jobs), 16))


def count_gpus() -> int:
    """How many NVIDIA GPUs this process may use, without torch: CUDA_VISIBLE_DEVICES, else the driver's list."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA reads up to the first entry that is none
        names = (name.strip() for name in visible.split(","))
        return len(list(itertools.takewhile(lambda name: name not in ("", "-1"), names)))
    driver = Path("/proc/driver/nvidia/gpus")
    return len(list(driver.iterdir())) if driver.is_dir() else 0


def slots_per_gpu(asked: int | None = None) -> int:
    """How many jobs may share a GPU: as asked, else as DAAR_SLOTS_PER_GPU says, else 1.

    Raises:
        InputError: it is no whole number above 0.
    """
    text = os.environ.get(SLOTS) or "1" if asked is None else str(asked)
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise InputError(f"slots per GPU must be a whole number of 1 or more, got {text!r}. Give 1 to share none.")
    return int(text)


def export_slots(asked: int | None) -> int:
    """Have the jobs of a workflow share GPUs as its suite says; returns the slots of one GPU."""
    slots = slots_per_gpu(asked)
    os.environ[SLOTS] = str(slots)
    return slots


def export_granted() -> None:
    """Have this process and those it starts use the GPUs that a scheduler granted, without a lease of their own."""
    os.environ[GRANTED] = "1"


def choose_device(name: str, slots: int = 1) -> "torch.device":
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    On CUDA it waits for a GPU that is free, and has it until this process ends; `cuda:1` waits for that one. It becomes
    torch's current one, so that nothing lands on another by default. Under torchrun the processes of a machine take one
    GPU each, by their local rank. In a job of a scheduler the GPUs are those that it granted, and nothing is waited
    for: where Slurm granted none, `auto` takes the CPU, whatever the node has.

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
    """Whether this is a job of Slurm's that has no GPU; says so where its device is not what one would expect."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not os.environ.get(GRANTED) or "SLURM_JOB_ID" not in os.environ:
        return False
    if visible is None and seen:
        print("daar: Slurm granted this job no GPU, so that it takes the CPU; gpu=1 asks for one", file=sys.stderr)
    if visible is not None and not seen:
        print(f"daar: Slurm granted GPU {visible}, but torch sees none here: it takes the CPU", file=sys.stderr)
    return visible is None


def _visible() -> list[str]:
    """UUIDs of the GPUs that torch sees, in its order: the same for every process, whatever number each gives them."""
    import torch

    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
