"""The hash of files as text."""

from pathlib import Path

import pytest

from tests.code.trees import Hashed


@pytest.fixture
def hashed(tmp_path: Path) -> Hashed:
    return Hashed(tmp_path / "trees")
