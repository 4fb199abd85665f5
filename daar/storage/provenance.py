"""Where a result comes from: the versions and the machine it was made with, and the commit of the code."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from daar.device.gpu import count_cores
from daar.storage.bundled import ROOT

RESULT_NEUTRAL = "says where a result comes from"

_PACKAGES = ("daar", "torch", "torchvision", "numpy", "snakemake", "thop", "safetensors")


def environment() -> dict[str, Any]:
    """What a record says of where it was made: threads, hardware, versions, commit (imports torch)."""
    import torch

    return {"threads": torch.get_num_threads(), "hardware": hardware(), "versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Versions of Python, daar and the packages that shape results."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The processor and its cores, and the GPU if torch sees one (imports torch)."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "cores": count_cores(), "gpu": name}


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout, with `+changes` where files differ from it; None outside one, or without git."""
    if not (ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
