"""What is remembered of files: their content while size and date stay, and when they are gone."""

import hashlib
import os
from pathlib import Path

import pytest

from daar.run.contents import Contents


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_content_counts_and_outlives_the_file(tmp_path: Path) -> None:
    file, memory = tmp_path / "pack", tmp_path / "memory" / "packs.json"
    assert Contents(memory).of(str(file)) == ""
    assert not memory.exists()
    file.write_bytes(b"one")
    assert Contents(memory).of(str(file)) == sha(b"one")
    os.utime(file, (1, 1))
    assert Contents(memory).of(str(file)) == sha(b"one")
    file.write_bytes(b"two")  # of the same size, with a date of long ago
    os.utime(file, (0, 0))
    assert Contents(memory).of(str(file)) == sha(b"two")
    file.write_bytes(b"six")  # of the same size and date
    os.utime(file, (0, 0))
    assert Contents(memory).of(str(file)) == sha(b"six")
    file.unlink()
    assert Contents(memory).of(str(file)) == sha(b"six")
    os.mkfifo(file)
    assert Contents(memory).of(str(file)) == sha(b"six")
    assert Contents(memory).of(str(tmp_path)) == ""


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', '{"FILE": [3, 1, "0"]}', '{"FILE": ["3", 1, 1, "0"]}', "\0"])
def test_a_damaged_memory_counts_as_empty(tmp_path: Path, damage: str) -> None:
    file, memory = tmp_path / "pack", tmp_path / "packs.json"
    file.write_bytes(b"one")
    memory.write_text(damage.replace("FILE", str(file)))
    assert Contents(memory).of(str(file)) == sha(b"one")
    assert Contents(memory).of(str(file)) == sha(b"one")


def test_where_nothing_can_be_remembered_it_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "pack"
    file.write_bytes(b"one")
    (tmp_path / "memory").write_text("a file, where a folder should be")
    assert Contents(tmp_path / "memory" / "packs.json").of(str(file)) == sha(b"one")
