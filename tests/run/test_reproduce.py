"""`daar reproduce` but for the rerun, which tests/workflow runs."""

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from daar.cli.main import main
from daar.errors import InputError
from daar.run import reproduce as reproduction
from daar.run import start
from daar.run.reproduce import Compared, around, compare, reproduce
from tests.report.test_collect import RECORD

PLAN = {
    **{"format": 1, "method": "l1", "policy": "uniform", "scope": "all", "target": 0.5},
    **{"macs_dense": 8, "macs": 4, "groups": [], "frozen": {}},
}


def lay(root: Path, record: dict[str, Any] = RECORD, folder: str | None = None) -> Path:
    """A record in its results folder, with its suite."""
    place = "{dataset}/{network}/seed{seed}/{variant}/{policy}-{scope}-{target:g}".format(**record)
    path = root / "results" / record["suite"] / (folder or place) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    (root / "results" / record["suite"] / "suite.json").write_text(json.dumps(suite_of(record)))
    return path


def suite_of(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A suite with the record's setting."""
    return {
        **{"suite": record["suite"], "datasets": [record["dataset"]], "networks": [record["network"]]},
        **{"methods": ["l1"], "policies": [record["policy"]], "scope": record["scope"], "seeds": [record["seed"]]},
        **{"macs_reductions": [record["target"]], "finetune": {"epochs": 1}, **changes},
    }


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would be run; each fails at once."""
    lines: list[list[str]] = []

    def run(arguments: list[str], folder: Path | None = None) -> int:
        lines.append(list(arguments))
        return 1

    monkeypatch.setattr(start, "run", run)
    return lines


def with_method(root: Path, suite_file: Path, folder: str) -> Path:
    """A suite with a method of its own that would leave a file, as its rule and its code would."""
    method = root / "methods" / "mine"
    method.mkdir(parents=True)
    trap = f"open({str(root / 'executed')!r}, 'w').close()\n"
    info = "INFO = MethodInfo(name='mine', title='Mine', summary='x', paper=None, needs_data=False, policy='uniform')\n"
    (method / "method.py").write_text(f"{trap}{info}def score(model, batch, layers): return {{}}\n")
    (method / "rule.smk").write_text(trap)
    content = json.loads(suite_file.read_text())
    suite_file.write_text(json.dumps({**content, "methods_dirs": [folder]}))
    return method


@pytest.mark.parametrize("folder", ["methods", "results/../methods", "{root}/methods"])
def test_code_of_a_stranger_is_not_run(tmp_path: Path, ran: list[list[str]], folder: str) -> None:
    path = lay(tmp_path)
    with_method(tmp_path, tmp_path / "results" / RECORD["suite"] / "suite.json", folder.format(root=tmp_path))
    with pytest.raises(InputError, match=r"runs code from .*methods, which is not part of daar.*--trust") as error:
        reproduce(path, tmp_path / "again", cores=1)
    assert "\n" not in str(error.value)
    assert not ran
    assert not (tmp_path / "again").exists()
    said: list[str] = []
    with pytest.raises(InputError, match="the rerun ended with exit code 1"):
        reproduce(path, tmp_path / "again", trust=True, cores=1, say=said.append)
    assert said[0].startswith("trusted: code from ")
    assert said[1].startswith("running: ")
    assert not (tmp_path / "executed").exists()


def test_a_network_of_a_stranger_is_not_run(tmp_path: Path, ran: list[list[str]]) -> None:
    record = {**RECORD, "network": "mine"}
    path = lay(tmp_path, record)
    (tmp_path / "networks").mkdir()
    trap = f"open({str(tmp_path / 'executed')!r}, 'w').close()\n"
    (tmp_path / "networks" / "mine.py").write_text(f"{trap}INPUT_SHAPE = (3, 32, 32)\ndef build(num_classes): {trap}")
    suite = suite_of(record, networks_dirs=["networks"])
    (tmp_path / "results" / RECORD["suite"] / "suite.json").write_text(json.dumps(suite))
    with pytest.raises(InputError, match=r"runs code from .*networks, which is not part of daar.*--trust"):
        reproduce(path, tmp_path / "again", cores=1)
    assert not ran
    said: list[str] = []
    with pytest.raises(InputError, match="the rerun ended with exit code 1"):
        reproduce(path, tmp_path / "again", trust=True, cores=1, say=said.append)
    assert said[0].startswith("trusted: code from ")
    config = json.loads((tmp_path / "again" / "suite.json").read_text())
    assert config["networks_dirs"] == [str(tmp_path / "networks")]
    assert not (tmp_path / "executed").exists()


def test_methods_that_come_with_daar_need_no_trust(tmp_path: Path, ran: list[list[str]]) -> None:
    path = lay(tmp_path)
    (tmp_path / "empty").mkdir()
    suite = suite_of(RECORD, methods_dirs=["workflow/starter"])
    (tmp_path / "results" / RECORD["suite"] / "suite.json").write_text(json.dumps(suite))
    with pytest.raises(InputError, match="the rerun ended"):
        reproduce(path, tmp_path / "again", cores=1)
    assert len(ran) == 1


@pytest.mark.parametrize("place", ["results", "results/reference"])
@pytest.mark.parametrize("by", ["absolute", "from the folder of the page", "from elsewhere"])
def test_files_are_found_from_where_the_record_lies(
    tmp_path: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, place: str, by: str
) -> None:
    path = lay(tmp_path / "made")
    home = tmp_path / "run" / place
    home.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tmp_path / "made" / "results", home)
    weights = tmp_path / "run" / "weights" / "w.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    packs = tmp_path / "run" / "results" / "data" / RECORD["dataset"]
    packs.mkdir(parents=True)
    for name in ("train.safetensors", "val.safetensors", "test.safetensors", "source.json"):
        (packs / name).write_text("packed")
    os.mkfifo(packs / "pipe")
    base = {RECORD["network"]: {"file": "weights/w.safetensors"}}
    (home / RECORD["suite"] / "suite.json").write_text(json.dumps(suite_of(RECORD, base=base)))
    record_file = home / path.relative_to(tmp_path / "made" / "results")
    folder = {"absolute": tmp_path, "from the folder of the page": home / RECORD["suite"], "from elsewhere": packs}[by]
    monkeypatch.chdir(folder)
    given = record_file if by == "absolute" else Path(os.path.relpath(record_file, folder))
    with pytest.raises(InputError, match="the rerun ended"):
        reproduce(given, tmp_path / "again", cores=1)
    config = json.loads((tmp_path / "again" / "suite.json").read_text())
    assert config["base"][RECORD["network"]]["file"] == str(weights)
    assert sorted(file.name for file in (tmp_path / "again/results/data" / RECORD["dataset"]).iterdir()) == [
        "source.json", "test.safetensors", "train.safetensors", "val.safetensors",
    ]  # fmt: skip
    assert "record.json" in ran[0][-1]


def test_a_suite_without_the_setting_is_refused(tmp_path: Path, ran: list[list[str]]) -> None:
    path = lay(tmp_path)
    (tmp_path / "results" / RECORD["suite"] / "suite.json").write_text(json.dumps(suite_of(RECORD, seeds=[99])))
    with pytest.raises(InputError, match=r"suite\.json should have the setting of the record"):
        reproduce(path, tmp_path / "again", cores=1)
    assert not ran


@pytest.mark.parametrize("key", ["suite", "dataset", "network", "variant", "policy"])
def test_names_cannot_lead_out_of_the_folder(tmp_path: Path, ran: list[list[str]], key: str) -> None:
    path = lay(tmp_path)
    path.write_text(json.dumps({**RECORD, key: "../../elsewhere"}))
    with pytest.raises(InputError, match=rf"record\.json: {key}: "):
        reproduce(path, tmp_path / "again", cores=1)
    assert not ran


def test_numbers_say_by_how_much() -> None:
    assert str(Compared("top1", 92.5, 92.75)) == "differs  top1: 92.5 in the record, 92.75 now, by +0.25"
    assert (
        str(Compared("kept.conv1", (0, 1, 2), (0, 1)))
        == "differs  kept.conv1: 3 channels in the record, 2 channels now"
    )
    assert str(Compared("macs", 7, 7)) == "same     macs: 7"
    assert Compared("top5", None, None).same
    assert not Compared("top1", 92.5, 92.5 + 1e-13).same


def test_what_a_terminal_obeys_in_a_record_is_escaped() -> None:
    hostile = {**RECORD, "hardware": {**RECORD["hardware"], "cpu": "\x1b]0;title\x07\nsame     accuracy"}}
    (line,) = around(hostile, RECORD)
    assert line.isprintable()
    assert str(Compared("x", "\x1b[2J", "\n")).isprintable()


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


@pytest.mark.parametrize("there", [False, True])
def test_copies_that_fail_leave_nothing(
    tmp_path: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    path, out = lay(tmp_path), tmp_path / "again"
    if there:
        out.mkdir()

    def full(*_: Any) -> None:
        (out / "results" / "data").mkdir(parents=True)
        raise OSError("no space left")

    monkeypatch.setattr(reproduction, "_copy_data", full)
    with pytest.raises(OSError, match="no space left"):
        reproduce(path, out, cores=1)
    assert (out.exists(), list(tmp_path.glob("again/*")), ran) == (there, [], [])


def test_a_refused_command_leaves_no_temporary_folder(
    tmp_path: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    path = lay(tmp_path)
    with_method(tmp_path, tmp_path / "results" / RECORD["suite"] / "suite.json", "methods")
    for record in (tmp_path / "none.json", path):  # absent; code of a stranger
        with pytest.raises(SystemExit, match="2"):
            main(["reproduce", str(record), "--cores", "1"])
        assert list((tmp_path / "tmp").iterdir()) == []
    assert not ran
    with pytest.raises(SystemExit, match="2"):  # the rerun failed: what it left says why
        main(["reproduce", str(path), "--cores", "1", "--trust"])
    (left,) = (tmp_path / "tmp").iterdir()
    assert (left / "suite.json").is_file()


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
        groups = [{"name": "conv1", "size": 4, "kept": kept}]
        (folder / "plan.json").write_text(json.dumps({**PLAN, "groups": groups}))
        (folder / "model.safetensors").write_bytes(b"the same weights")
    found = {one.name: one for one in compare(tmp_path / "before", tmp_path / "now")}
    assert {name for name, one in found.items() if not one.same} == {"top1.test.tuned", "kept.conv1"}
    assert str(found["top1.test.tuned"]).endswith("now, by -1")
    assert found["tuned weights' sha256"].same
    assert found["macs.slim"].same
