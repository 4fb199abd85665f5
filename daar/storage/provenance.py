"""Where a result comes from: the versions and the machine it was made with, and the commit of the code."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from daar.device.gpu import count_cores
from daar.storage.bundled import ROOT

RESULT_NEUTRAL = "says where a result comes from"

CHANGES = "+changes"
# what a result can depend on; suites are settings, which records have themselves
_CODE = ("Snakefile", "workflow", "daar", "baselines", ":(exclude)workflow/config")
_PACKAGES = ("daar", "torch", "torchvision", "numpy", "snakemake", "thop", "safetensors")
# counts where a network is one of its own
_IF_LOADED = ("timm",)


def environment() -> dict[str, Any]:
    """What a record says of where it was made: threads, hardware, versions, commit (imports torch)."""
    import torch

    return {"threads": torch.get_num_threads(), "hardware": hardware(), "versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Versions of Python, daar and the packages that shape results."""
    found = {"python": platform.python_version()}
    for name in [*_PACKAGES, *(name for name in _IF_LOADED if name in sys.modules)]:
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
    """The commit of the checkout, with `+changes` where its code is not all in it; None outside one, or without git."""
    if not (ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        return head + (CHANGES if _git("status", "--porcelain", "--untracked-files=all", "--", *_CODE) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def with_method(commit: str | None, code: Path | None) -> str | None:
    """A commit, with `+changes` where it does not hold the code of a method that was used.

    Args:
        commit: that of daar.
        code: file of the method; None without one.
    """
    if commit is None or code is None or commit.endswith(CHANGES):
        return commit
    try:
        _git("ls-files", "--error-unmatch", "--", str(code))
    except (OSError, subprocess.CalledProcessError):
        return commit + CHANGES
    return commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
