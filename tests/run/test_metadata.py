"""What Snakemake knows of results lies with them; a damaged record of a result counts as absent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from snakemake.persistence.file import FilePersistence

from daar.errors import InputError
from daar.run import metadata

# as Snakemake 9.27 writes it
RECORD = {
    "rule": "plan", "input": ["a"], "log": ["b"], "shellcmd": "true", "params": ["'x'"], "code": "true",
    "record_format_version": 6, "conda_env": None, "container_img_url": None, "software_stack_hash": "0",
    "job_hash": 8763863797335, "starttime": 1.5, "endtime": 2.5, "incomplete": False, "external_jobid": None,
    "input_checksums": {"a": "sha256:0"},
}  # fmt: skip


class Persistence(FilePersistence):
    """One without a DAG."""

    def __init__(self, folder: Path) -> None:
        self._metadata_path, self._max_len = str(folder), 255


metadata.ignore_damaged(Persistence)


def read(folder: Path, content: bytes | None) -> Any:
    persistence = Persistence(folder)
    path = Path(persistence._record_path(folder, "results/plan.json"))
    os.mkfifo(path) if content is None else path.write_bytes(content)
    return persistence._read_record("results/plan.json")


def test_whole_records_are_read(tmp_path: Path) -> None:
    assert dict(read(tmp_path, json.dumps(RECORD).encode()).items()) == RECORD
    assert Persistence(tmp_path)._read_record("results/another.json") is None


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[1]", b"3", b"\xff{", b"\0" * 9, b"[" * 100_000]
    + [
        json.dumps({**RECORD, **change}).encode()
        for change in (
            {"params": [[1]]}, {"params": "x"}, {"record_format_version": "x"}, {"record_format_version": None},
            {"input_checksums": ["a"]}, {"input_checksums": {"a": [1]}}, {"rule": 1}, {"endtime": "x"},
        )
    ],
)  # fmt: skip
def test_what_is_no_record_counts_as_absent(tmp_path: Path, content: bytes | None) -> None:
    assert read(tmp_path, content) is None


@pytest.mark.parametrize("before", ["absent", "folder", "a link elsewhere", "its link"])
def test_metadata_is_with_the_results(tmp_path: Path, before: str) -> None:
    snakemake, kept = tmp_path / ".snakemake", tmp_path / "results" / "provenance"
    snakemake.mkdir()
    if before == "folder":
        (snakemake / "metadata").mkdir()
        (snakemake / "metadata" / "one").write_text("{}")
    if "link" in before:
        (snakemake / "metadata").symlink_to("/nowhere" if before == "a link elsewhere" else "../results/provenance")
    metadata.keep_with_results(snakemake, kept)
    assert (snakemake / "metadata").readlink() == Path("../results/provenance")
    assert [path.name for path in kept.iterdir()] == (["one"] if before == "folder" else [])


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "provenance").write_text("")
    with pytest.raises(InputError, match=r"provenance should be a folder, but is not. Remove it.$"):
        metadata.keep_with_results(tmp_path / ".snakemake", tmp_path / "provenance")
