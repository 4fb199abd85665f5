"""A small package as text, which the tests of the hash write, move and edit."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

from daar.code.sources import Sources

RUN = "daar.stages.run:run"
BASE = {
    "daar/__init__.py": "",
    "daar/stages/__init__.py": "",
    "daar/stages/run.py": '''
        """The run."""
        from typing import TYPE_CHECKING, cast

        import torch
        from torch import nn

        from daar.maths import rates
        from daar.maths.layers import Layer, make

        if TYPE_CHECKING:
            from pathlib import Path

        STEPS = 3


        class Stop(Exception):
            """Enough."""


        def run(model: nn.Module, path: "Path", count: int = 2, *, scale: float = 1.0) -> float:
            """Run."""
            # a comment
            total = 0.0
            for step in range(STEPS):
                total += rates.rate(step, scale=scale) * count
            if total < 0:
                raise ValueError(f"negative: {total}")
            if total == 1:
                raise Stop
            print("done", total)
            layer: nn.Module = make(model)
            assert layer, "no layer"
            return cast(float, layer.forward(total) + torch.nn.functional.relu(total))
        ''',
    "daar/maths/__init__.py": "",
    "daar/maths/rates.py": """
        import functools

        FACTOR = 0.5


        def rate(step, scale):
            return scale * _decay(step)


        def _decay(step):
            return FACTOR ** step + _third(step)


        @functools.cache
        def _third(step):
            return [step // size for size in (3, 4)][0]
        """,
    "daar/maths/layers.py": """
        from torch import nn


        class Base(nn.Module):
            power = 2
            name: str


        class Layer(Base):
            def forward(self, x):
                return x ** self.power


        def make(model):
            return Layer(model)
        """,
}


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files by their paths below a folder, which is returned."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


class Hashed:
    """The hash of entries in files as text; each set of files is written to a folder of its own.

    Args:
        folder: where these folders go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def __call__(
        self, files: Mapping[str, str], *entries: str, neutral: tuple[str, ...] = (), typed: bool = True
    ) -> str:
        self._count += 1
        root = write(self._folder / str(self._count), files)
        return Sources(root, neutral=neutral, typed=typed).code_hash(entries or [RUN])


def replaced(old: str, new: str, files: Mapping[str, str] = BASE) -> dict[str, str]:
    """The files with the only occurrence of a text replaced."""
    assert sum(textwrap.dedent(text).count(old) for text in files.values()) == 1, old
    return {name: textwrap.dedent(text).replace(old, new) for name, text in files.items()}


def renamed(files: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """The files, one of which has another path."""
    return {new if name == old else name: text for name, text in files.items()}
