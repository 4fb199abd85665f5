"""The names that a user sees."""

import subprocess
import sys

import daar


def test_the_lazy_names_are_listed_before_anything_heavy_is_imported() -> None:
    code = "import sys, daar; print(*dir(daar)); print('torch' in sys.modules)"
    listed, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    ).stdout.splitlines()
    assert {*daar.__all__, "__version__"} <= set(listed.split())
    assert heavy == "False"
    assert all(getattr(daar, name).__doc__ for name in daar.__all__)
