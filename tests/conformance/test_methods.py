"""Every method and policy passes the checks of daar/conformance; a new folder is covered without an edit here."""

import ast

import pytest

from daar.conformance import checks, files
from daar.conformance.checks import Check
from daar.methods import discovery
from daar.methods.discovery import Method
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

METHODS, POLICIES = discovery.find(), discovery.find_policies()
CASES = [
    pytest.param(method, check, id=f"{method.name}-{check.name}")
    for method in [*METHODS.values(), *POLICIES.values()]
    for check in checks.of(method)
]


@pytest.mark.parametrize(("method", "check"), CASES)
def test_it_holds(method: Method, check: Check) -> None:
    check.run(method)


def test_nothing_is_passed_over() -> None:
    """A method has all checks but those of what it has not; it may bring a whole rule in place of score()."""
    assert {"daar", "l1", "fpgm", "hrank", "random", "taylor", "chip", "thinet"} <= set(METHODS)
    assert len(METHODS) >= 14
    assert "erk" in POLICIES
    whole = [check.name for check in checks.of(METHODS["daar"])]
    assert len(whole) == len(set(whole)) == 29
    assert [check.name for check in checks.of(METHODS["l1"])] == whole[:23]
    assert [check.name for check in checks.of(POLICIES["erk"])] == [*whole[:4], *whole[24:]]


# what may be imported


@pytest.mark.parametrize(
    "line",
    [
        *("import daar.pruning.groups", "from daar.models import NETWORKS", "from daar import models", "import scipy"),
        *("import importlib", "from ..l1.method import score", "import daar", "__import__('daar.models')"),
    ],
)
def test_the_wall_has_no_hole(line: str) -> None:
    assert list(files.foreign_imports(ast.parse(f"def f():\n    {line}"), "daar_method_x."))


@pytest.mark.parametrize(
    "line",
    [
        *("from daar.api import Batch", "from daar import api", "import torch.nn.functional as F", "import math"),
        *("from .attention import share", "from collections.abc import Sequence", "from numpy.linalg import norm"),
    ],
)
def test_the_wall_has_its_door(line: str) -> None:
    assert not list(files.foreign_imports(ast.parse(line), "daar_method_x."))
