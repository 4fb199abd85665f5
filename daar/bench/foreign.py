"""Other people's scripts, imported by path and run on today's torch without a change to their files.

Whatever is adapted for them is as before when their code is not running: ours takes turns with it in one process.
"""

import contextlib
import importlib.util
import io
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

MISSING = object()


@contextlib.contextmanager
def adapted(device: torch.device) -> Iterator[None]:
    """While their code runs: `.cuda()` goes to the device there is, prints and warnings go nowhere, cuDNN may choose.

    Args:
        device: where networks run. On a GPU of NVIDIA's `.cuda()` stays torch's own.
    """
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.benchmark
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        if device.type != "cuda":
            moved = _mover(device)
            for owner in (Tensor, nn.Module):
                stack.enter_context(_replaced(owner, "cuda", moved))
        # all of them ask for it in their main()
        stack.callback(setattr, cudnn, "benchmark", before)
        cudnn.benchmark = True
        yield


def load(script: Path, arguments: Sequence[str], renamed: Mapping[str, str]) -> ModuleType:
    """Import a script, and what it imports from its own folder, as if it were run there.

    Call it within `adapted`. The command line, the search path, the environment, the state of random numbers and other
    modules of the same names are as before afterwards; no byte code is left in the folder.

    Args:
        script: the file; its `main()` does not run.
        arguments: of its command line, which such scripts read as they are imported.
        renamed: what torch and Python have renamed since, old -> new; replaced in memory, in all files of the folder.
    """
    finder = _Finder(script.parent.resolve(), renamed)
    name = f"daar_published_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script, loader=_Loader(name, str(script), renamed))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _as_run(script, arguments), _own_modules(script.parent):
        sys.meta_path.insert(0, finder)
        try:
            spec.loader.exec_module(module)
        finally:
            sys.meta_path.remove(finder)
    return module


class _Loader(SourceFileLoader):
    """Compiles the source with what has been renamed since; reads and writes no byte code."""

    def __init__(self, name: str, path: str, renamed: Mapping[str, str]) -> None:
        super().__init__(name, path)
        self._renamed = renamed

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib names it
        source = importlib.util.decode_source(self.get_data(self.path))
        for old, new in self._renamed.items():
            source = source.replace(old, new)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Gives files of the folder our loader; everything else is found as ever."""

    def __init__(self, folder: Path, renamed: Mapping[str, str]) -> None:
        self._folder, self._renamed = folder, renamed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib asks of a finder on `sys.meta_path`."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if not Path(spec.loader.path).resolve().is_relative_to(self._folder):
            return None
        spec.loader = _Loader(fullname, spec.loader.path, self._renamed)
        return spec


@contextlib.contextmanager
def _as_run(script: Path, arguments: Sequence[str]) -> Iterator[None]:
    """What `python script arguments` would find; random numbers go on afterwards as if it had not been run."""
    environment, dice = dict(os.environ), random.getstate()
    argv = [str(script), *arguments]
    path = [str(script.parent), *sys.path]
    try:
        with _replaced(sys, "argv", argv), _replaced(sys, "path", path), torch.random.fork_rng():
            yield
    finally:
        random.setstate(dice)
        os.environ.clear()
        os.environ.update(environment)


@contextlib.contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Modules called as files of the folder are (`utils`, `models`) are its own inside, and whose they were outside."""
    own = {entry.stem for entry in folder.iterdir() if entry.is_dir() or entry.suffix == ".py"}

    def take() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}

    others = take()
    try:
        yield
    finally:
        take()
        sys.modules.update(others)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """An attribute has another value; one that was inherited is so again afterwards."""
    before = vars(owner).get(name, MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _mover(device: torch.device) -> Callable[..., Any]:
    """A `.cuda` for tensors and modules that takes them to the device there is."""

    def cuda(self: Any, _: object = None, non_blocking: bool = False) -> Any:
        return self.to(device, non_blocking=non_blocking)

    return cuda
