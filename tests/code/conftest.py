"""The hash of files as text, and a copy of the present tree."""

from pathlib import Path

import pytest

from daar.code.sources import Sources
from tests.code.real_tree import copied, hashes
from tests.code.trees import Hashed


@pytest.fixture
def hashed(tmp_path: Path) -> Hashed:
    return Hashed(tmp_path / "trees")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a copy of the present tree; who edits it puts it back."""
    return copied(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def before(tree: Path) -> dict[str, str]:
    """Case → the hash of its stage in the copy as it is."""
    return hashes(Sources(tree))
