"""Moves, new names and words: what must not change the hash."""

import textwrap
from collections.abc import Callable

import pytest

from tests.code.trees import BASE, Hashed, renamed

Files = dict[str, str]


def moved(*changes: tuple[str, str]) -> Files:
    """The base with texts replaced throughout."""
    found = {name: textwrap.dedent(text) for name, text in BASE.items()}
    for old, new in changes:
        assert any(old in text for text in found.values()), old
        found = {name: text.replace(old, new) for name, text in found.items()}
    return found


def merged() -> Files:
    files = {name: textwrap.dedent(text) for name, text in BASE.items()}
    rates, layers = files.pop("daar/maths/rates.py"), files.pop("daar/maths/layers.py")
    files["daar/maths/all_of_it.py"] = layers + rates
    run = files["daar/stages/run.py"].replace("daar.maths.layers", "daar.maths.all_of_it")
    files["daar/stages/run.py"] = run.replace(
        "from daar.maths import rates", "from daar.maths import all_of_it as rates"
    )
    return files


def split() -> Files:
    files = {name: textwrap.dedent(text) for name, text in BASE.items()}
    head, _, tail = files["daar/maths/rates.py"].partition("def _decay")
    files["daar/maths/rates.py"] = head.replace("FACTOR = 0.5", "from daar.thirds import _decay\n")
    files["daar/thirds.py"] = "import functools\n\nFACTOR = 0.5\n\n\ndef _decay" + tail
    return files


def reexported() -> Files:
    files = moved(("from daar.maths.layers import Layer, make", "from daar.maths import make"))
    files["daar/maths/__init__.py"] = "from . import rates\nfrom .layers import make\n"
    return files


def reordered() -> Files:
    files = {name: textwrap.dedent(text) for name, text in BASE.items()}
    parts = files["daar/maths/rates.py"].split("\n\n\n")
    files["daar/maths/rates.py"] = "\n\n\n".join(["import functools", *parts[:0:-1], "FACTOR = 0.5\n"])
    return files


MOVES: dict[str, Callable[[], Files]] = {
    "a module renamed": lambda: renamed(
        moved(("import rates", "import paces as rates")), "daar/maths/rates.py", "daar/maths/paces.py"
    ),
    "a module in another package": lambda: renamed(
        moved(("daar.maths.layers", "daar.stages.layers")), "daar/maths/layers.py", "daar/stages/layers.py"
    ),
    "two modules in one": merged,
    "one module in two": split,
    "imported through a package": reexported,
    "definitions in another order": reordered,
    "a function imported in place of its module": lambda: moved(
        ("from daar.maths import rates", "from daar.maths.rates import rate as pace"), ("rates.rate(", "pace(")
    ),
    "the whole package imported": lambda: moved(
        ("from daar.maths import rates", "import daar.maths.rates"), ("rates.rate(", "daar.maths.rates.rate(")
    ),
    "relative imports": lambda: moved(("from daar.maths", "from ..maths")),
    "an import within a function": lambda: moved(
        ("from daar.maths import rates\n", ""),
        ("    total = 0.0\n", "    from daar.maths import rates\n    total = 0.0\n"),
    ),
    "an import for type checkers and one within": lambda: moved(
        ("from daar.maths import rates\n", "if TYPE_CHECKING:\n    from daar.maths import rates\n"),
        ("    total = 0.0\n", "    from ..maths import rates\n    total = 0.0\n"),
    ),
    "imports in another order": lambda: moved(
        ("import torch\nfrom torch import nn\n", "from torch import nn\nimport torch\n")
    ),
    "another form of a foreign import": lambda: moved(
        ("import torch\n", "import torch.nn.functional as F\n"), ("torch.nn.functional.relu", "F.relu")
    ),
    "a foreign base by its full name": lambda: moved(
        ("from torch import nn\n\n\nclass Base(nn.Module)", "import torch\n\n\nclass Base(torch.nn.Module)")
    ),
    "an import that nothing uses": lambda: moved(("STEPS = 3", "import os.path\n\nSTEPS = 3")),
    "a function renamed": lambda: moved(("_decay", "_fall")),
    "a class renamed": lambda: moved(("Layer", "Sheet")),
    "a constant renamed": lambda: moved(("FACTOR", "PART")),
    "locals renamed": lambda: moved(
        ("total", "whole"), ("step in range", "index in range"), ("rates.rate(step, s", "rates.rate(index, s")
    ),
    "a local of a comprehension renamed": lambda: moved(("step // size for size in", "step // width for width in")),
    "a comment": lambda: moved(("# a comment", "# another")),
    "a docstring": lambda: moved(('"""Run."""', '"""Do it."""')),
    "no docstring": lambda: moved(('    """Enough."""', "    pass")),
    "an annotation": lambda: moved(("count: int = 2", "count: 'float' = 2"), ("layer: nn.Module =", "layer =")),
    "a field's type": lambda: moved(("name: str", "name: int | None")),
    "an error's message and cause": lambda: moved(
        ('ValueError(f"negative: {total}")', 'ValueError("below 0", step) from None')
    ),
    "an exception made": lambda: moved(("raise Stop\n", "raise Stop()\n")),
    "what is printed": lambda: moved(('    print("done", total)\n', "    print()\n    ...\n")),
    "an assertion's message": lambda: moved((', "no layer"', "")),
    "a cast": lambda: moved(("cast(float, ", "(")),
    "another definition next to it": lambda: moved(
        ("STEPS = 3", "STEPS = 3\nOTHER = 4\n\n\ndef more():\n    return OTHER\n")
    ),
    "what is exported": lambda: moved(
        ("STEPS = 3", 'STEPS = 3\n__all__ = ["run"]\n__all__ += ["STEPS"]\n__all__.append("x")')
    ),
    "a part for the command line": lambda: moved(("STEPS = 3", 'STEPS = 3\nif __name__ == "__main__":\n    run()\n')),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_change_no_hash(hashed: Hashed, name: str) -> None:
    assert hashed(MOVES[name]()) == hashed(BASE)


def test_an_entry_may_move(hashed: Hashed) -> None:
    files = renamed(BASE, "daar/stages/run.py", "daar/go.py")
    assert hashed(files, "daar.go:run") == hashed(BASE)
