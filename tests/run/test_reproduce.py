"""`daar reproduce` but for the rerun, which tests/workflow runs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from daar.errors import InputError
from daar.run.reproduce import Compared, around, compare, reproduce
from tests.report.test_collect import RECORD


def lay(root: Path, record: dict[str, Any] = RECORD, folder: str | None = None) -> Path:
    """A record in its results folder, with its suite."""
    place = "{dataset}/{network}/seed{seed}/{variant}/{policy}-{scope}-{target:g}".format(**record)
    path = root / "results" / record["suite"] / (folder or place) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    (root / "results" / record["suite"] / "suite.json").write_text(json.dumps({"suite": record["suite"]}))
    return path


def test_numbers_say_by_how_much() -> None:
    assert str(Compared("top1", 92.5, 92.75)) == "differs  top1: 92.5 in the record, 92.75 now, by +0.25"
    assert (
        str(Compared("kept.conv1", (0, 1, 2), (0, 1)))
        == "differs  kept.conv1: 3 channels in the record, 2 channels now"
    )
    assert str(Compared("macs", 7, 7)) == "same     macs: 7"
    assert Compared("top5", None, None).same
    assert not Compared("top1", 92.5, 92.5 + 1e-13).same


def test_names_what_is_around() -> None:
    now = copy.deepcopy({key: RECORD[key] for key in ("commit", "versions", "hardware", "threads")})
    assert around(RECORD, now) == []
    now["versions"]["torch"] = "9.9"
    now["hardware"]["gpu"] = "H100"
    now["threads"] = 99  # Snakemake gives the rerun its threads
    torch, gpu = RECORD["versions"]["torch"], RECORD["hardware"]["gpu"]
    assert set(around(RECORD, now)) == {
        f"versions.torch: {torch} in the record, 9.9 now",
        f"hardware.gpu: {gpu} in the record, H100 now",
    }


def test_refuses_a_record_out_of_its_place(tmp_path: Path) -> None:
    path = lay(tmp_path, folder="elsewhere")
    with pytest.raises(InputError, match=r"should lie in results/.* Give the record in its results folder"):
        reproduce(path, tmp_path / "again", cores=1)
    assert not (tmp_path / "again").exists()


def test_refuses_a_folder_in_use(tmp_path: Path) -> None:
    path = lay(tmp_path)
    with pytest.raises(InputError, match="should be an empty folder"):
        reproduce(path, tmp_path, cores=1)


def test_refuses_another_dense_network(tmp_path: Path) -> None:
    path = lay(tmp_path)
    other = tmp_path / "results/dense" / RECORD["dataset"] / RECORD["network"] / "0123456789ab/seed0"
    other.mkdir(parents=True)
    (other / "model.json").write_text("{}")
    (other / "model.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match=r"is not in .*dense.*--keep-base"):
        reproduce(path, tmp_path / "again", keep_base=True, cores=1)
    assert not (tmp_path / "again").exists()


def test_refuses_what_is_no_record(tmp_path: Path) -> None:
    path = lay(tmp_path)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"record\.json"):
        reproduce(path, tmp_path / "again", cores=1)


def test_numbers_of_two_folders_are_compared_one_by_one(tmp_path: Path) -> None:
    forged = copy.deepcopy(RECORD)
    forged["top1"]["test"]["tuned"] += 1
    forged["seconds"] = {"measure": 99.0}  # never repeats
    for name, record, kept in (("before", forged, [0, 2]), ("now", RECORD, [0, 1])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "plan.json").write_text(json.dumps({"groups": [{"name": "conv1", "size": 4, "kept": kept}]}))
        (folder / "model.safetensors").write_bytes(b"the same weights")
    found = {one.name: one for one in compare(tmp_path / "before", tmp_path / "now")}
    assert {name for name, one in found.items() if not one.same} == {"top1.test.tuned", "kept.conv1"}
    assert str(found["top1.test.tuned"]).endswith("now, by -1")
    assert found["tuned weights' sha256"].same
    assert found["macs.slim"].same
