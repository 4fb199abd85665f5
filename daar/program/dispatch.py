"""Seeing every operation that a network runs, without loading torch's compiler for it."""

import contextlib
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """torch's mode, under which compiled parts of a network run as they are written.

    torch wraps `__torch_dispatch__` of a subclass, lest its compiler compile that too; the wrapper loads the compiler
    (1.2 s) at the first operation, though most networks have nothing compiled. Here the compiler is told, if it is
    loaded at all.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leave out torch's own, which wraps."""
        super(TorchDispatchMode, cls).__init_subclass__(**kwargs)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._told = contextlib.ExitStack()

    def __enter__(self) -> Any:
        """Start to see operations."""
        if "torch._dynamo" in sys.modules:
            self._told.enter_context(torch.compiler.set_stance("force_eager"))
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        """See them no longer."""
        with self._told:
            super().__exit__(*error)  # type: ignore[no-untyped-call]
