"""Where a result comes from: the code that defines it, the versions and the machine it was made with.

Imported while the DAG is built: no torch.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from daar import models
from daar.device.gpu import count_cores
from daar.storage.bundled import PACKAGE, ROOT

RESULT_NEUTRAL = "says where a result comes from"

# Modules that carry results without shaping them. An edit here must not retrain anything: commands, messages, file
# handling, registries (what they register is hashed by itself), and the pack's reader (the pack carries its checksum).
_INDIFFERENT = {
    "daar",
    "daar.checkpoint.checkpoint",
    "daar.cli.main",
    "daar.data",
    "daar.data.datasets",
    "daar.data.packed",
    "daar.methods.discovery",
    "daar.errors",
    "daar.storage.files",
    "daar.device.gpu",
    "daar.checkpoint.mismatch",
    "daar.models",
    "daar.storage.provenance",
    "daar.storage.schemas",
    "daar.suite.definition",
    "daar.training.interrupts",
    "daar.training.progress",
    "daar.training.resume",
}
_PACKAGES = ("daar", "torch", "torchvision", "numpy", "snakemake", "thop", "safetensors")


def code_hash(module: str, *, network: str | None = None, files: Iterable[Path] = ()) -> str:
    """A hash of the code that defines a stage's result: blind to comments, docstrings and layout.

    Args:
        module: the stage's module; what it imports of daar, directly or not, counts too, but for what only carries
            results.
        network: whose definition counts too.
        files: further files that count, Python or YAML: a method's, a policy's.
    """
    return _hash(module, None if network is None else models.get(network).module, tuple(sorted(map(Path, files))))


@functools.cache  # the DAG asks for every job
def _hash(module: str, network: str | None, files: tuple[Path, ...]) -> str:
    modules = _closure(module) if network is None else _closure(module) | _closure(network)
    sources = [_path(name) for name in sorted(modules)]
    parts = [_normal_form(path) for path in [*sources, *files]]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@functools.cache
def _closure(module: str) -> set[str]:
    """A module and all of daar that it imports, stopping at what is indifferent."""
    found, waiting = {module}, [module]
    while waiting:
        for name in _imports(_path(waiting.pop())):
            if name not in found and name not in _INDIFFERENT:
                found.add(name)
                waiting.append(name)
    return found


@functools.cache
def _imports(path: Path) -> set[str]:
    """Dotted names of the modules of daar that a file imports, at its top or anywhere in it."""
    names = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "daar" and _exists(name)}


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    base = PACKAGE.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _exists(module: str) -> bool:
    return _path(module).is_file()


@functools.cache
def _normal_form(path: Path) -> str:
    """The code of a file without comments and docstrings; of YAML the content, whose comments do not count either."""
    if path.suffix == ".yaml":
        return json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")))
    tree = _parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def forget() -> None:
    """Read the sources anew from here on."""
    for cached in (_hash, _closure, _imports, _parsed, _normal_form):
        cached.cache_clear()


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
