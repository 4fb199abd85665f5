"""Which records stand for which settings: equal hash, equal dense network, or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from daar.code.sources import Sources
from daar.errors import InputError
from daar.run import code as stages
from daar.run import reuse
from daar.storage import bundled
from daar.suite import definition, reading
from tests.report.test_collect import record as make_record

SMALL: dict[str, Any] = {
    **{"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0]},
    **{"methods": ["l1"], "calibration_images": 64, "finetune": {"epochs": 1}, "reuse": True},
}


def make(**changes: Any) -> definition.Suite:
    return reading.from_config({**SMALL, **changes}, "here")


def first(found: definition.Suite, variant: str = "l1") -> str:
    """The hash of the first setting of a variant."""
    return reuse.made_from(found, next(s for s in found.settings if s.variant.name == variant))


def test_the_hash_does_not_follow_names_or_the_engine() -> None:
    same = make(suite="other", description="x", slots_per_gpu=2, allow_cpu=False, latency=True, reuse=False)
    assert first(same) == first(make())
    assert first(make(round_to=1)) == first(make())
    assert first(make(seeds=[0, 1], macs_reductions=[0.5, 0.7], methods=["l1", "random"])) == first(make())
    named = make(methods=["random"], variants={"mine": {"method": "l1"}})
    assert first(named, "mine") == first(make())


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [1]},
        {"macs_reductions": [0.6]},
        {"scope": "inner"},
        {"round_to": 8},
        {"policies": ["global"]},
        {"calibration_images": 65},
        {"finetune": {"epochs": 2}},
        {"train": {"epochs": 3}},
        {"networks": ["resnet56"]},
        {"datasets": ["cifar10"]},
        {"distributed": {"processes": 2}},
        {"base": {"resnet20": {"file": "a.th"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_follows_all_that_shapes_the_numbers(change: dict[str, Any]) -> None:
    assert first(make(**change)) != first(make())


def test_controls_and_options_have_hashes_of_their_own() -> None:
    variants = {
        "at": {"random_at": "l1"},
        "fresh": {"scratch_of": "l1"},
        "costly": {"scratch_of": "l1", "budget": "compute"},
        "plain": {"method": "daar"},
        "spatial": {"method": "daar", "options": {"attention": "spatial"}},
    }
    found = make(variants=variants)
    assert len({first(found, name) for name in ("l1", *variants)}) == 6


def test_options_of_a_policy_count_for_its_variant_and_the_controls_at_its_widths() -> None:
    plain = {"method": "l1", "policy": "adaptive"}
    variants = {
        "plain": plain,
        "none": {**plain, "policy_options": {}},
        "off": {**plain, "policy_options": {"adjust": False}},
        "on": {**plain, "policy_options": {"adjust": True}},
        "at": {"random_at": "plain"},
        "at-off": {"random_at": "off"},
    }
    found = make(variants=variants)
    assert first(found, "plain") == first(found, "none")
    assert len({first(found, name) for name in variants}) == 5


def test_the_hash_follows_the_published_weights_and_not_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAAR_DATA_ROOT", "root")
    found = make(base={"resnet20": {"file": "a.th"}})
    Path("root").mkdir()
    Path("root/a.th").write_bytes(b"weights")
    assert found.weights("resnet20") == "root/a.th"
    below = first(found)
    shutil.copy("root/a.th", "a.th")
    assert found.weights("resnet20") == "a.th"
    assert first(found) == below
    Path("a.th").write_bytes(b"others")
    assert first(found) != below


def test_the_hash_follows_what_the_method_s_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    theirs = 'name="l1"'
    shutil.copytree(Path(__file__).resolve().parents[2] / "baselines" / "l1", folder)
    code = folder / "method.py"
    assert theirs in code.read_text()
    code.write_text(code.read_text().replace(theirs, 'name="mine"'))
    found = make(methods=["mine"], methods_dirs=[str(tmp_path)])
    before = first(found, "mine")
    for old, new, same in [("INFO = ", "# a comment\nINFO = ", True), (".abs()", ".square()", False)]:
        assert code.read_text().count(old) == 1
        code.write_text(code.read_text().replace(old, new))
        monkeypatch.setattr(stages, "HERE", Sources(bundled.PACKAGE.parent))
        assert (first(found, "mine") == before) == same


def write_plan(folder: Path, **changes: Any) -> Path:
    """The plan that `make_record()` is of, as far as its MACs say."""
    macs = make_record()["macs"]
    content = {
        **{"format": 1, "method": "l1", "policy": "uniform", "scope": "all", "target": 0.5, "frozen": {}},
        **{"macs_dense": macs["dense"], "macs": macs["slim_closed_form"]},
        "groups": [{"name": "conv1", "size": 16, "kept": [0, 3]}],
    }
    (folder / "plan.json").write_text(json.dumps({**content, **changes}))
    return folder / "plan.json"


def keep_one(reference: Path, found: definition.Suite, made_from: str | None) -> Path:
    file = reference / found.name / found.settings[0].path / "record.json"
    file.parent.mkdir(parents=True)
    named = {"suite": found.name, "variant": found.settings[0].variant.name}
    file.write_text(json.dumps({**make_record(), **named, "made_from": made_from}))
    write_plan(file.parent)
    return file


def test_a_record_stands_for_a_setting_of_equal_hash_where_the_suite_wants_that(tmp_path: Path) -> None:
    found = make()
    file = keep_one(tmp_path, found, first(found))
    assert reuse.found(found, tmp_path) == {found.settings[0].path: file}
    assert reuse.found(make(reuse=False), tmp_path) == {}
    assert reuse.found(make(finetune={"epochs": 2}), tmp_path) == {}


def test_a_record_without_its_plan_stands_for_nothing_but_where_another_setting_has_the_plan(tmp_path: Path) -> None:
    found = make()
    keep_one(tmp_path, found, first(found)).with_name("plan.json").unlink()
    assert reuse.found(found, tmp_path) == {}
    fresh = make(variants={"fresh": {"scratch_of": "l1"}})
    setting = next(s for s in fresh.settings if s.variant.name == "fresh")
    file = tmp_path / "small" / setting.path / "record.json"
    file.parent.mkdir(parents=True)
    file.write_text(
        json.dumps({**make_record(), "suite": "small", "variant": "fresh", "made_from": first(fresh, "fresh")})
    )
    assert reuse.found(fresh, tmp_path) == {setting.path: file}


def test_a_record_without_a_hash_stands_for_nothing(tmp_path: Path) -> None:
    keep_one(tmp_path, make(), None)
    assert reuse.found(make(), tmp_path) == {}


@pytest.mark.parametrize("other", [{"suite": "other"}, {"variant": "other"}])
def test_a_record_of_another_suite_or_row_stands_for_nothing(tmp_path: Path, other: dict[str, str]) -> None:
    found = make()
    file = keep_one(tmp_path, found, first(found))
    file.write_text(json.dumps({**json.loads(file.read_text()), **other}))
    assert reuse.found(found, tmp_path) == {}


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_what_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    keep_one(tmp_path, make(), None).write_text(content)
    with pytest.raises(InputError, match=r"record\.json"):
        reuse.found(make(), tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    keep_one(tmp_path, make(), None).write_text("{")
    with pytest.raises(InputError, match=r"record\.json"):
        reuse.found(make(), tmp_path)


def dense(folder: Path, sha256: str) -> Path:
    folder.mkdir()
    about = {
        **{"format": 2, "network": "resnet20", "dataset": "cifar10", "num_classes": 10, "input_shape": [3, 32, 32]},
        **{"mean": [0.5] * 3, "std": [0.2] * 3, "trained_on": ["train"], "plan": None, "provenance": {}},
        "weights_sha256": sha256,
    }
    (folder / "model.json").write_text(json.dumps(about))
    return folder


def test_a_record_is_taken_if_it_is_of_the_dense_network_that_is_here(tmp_path: Path) -> None:
    record = make_record()
    file, out = keep_one(tmp_path, make(), None), tmp_path / "out" / "record.json"
    out.parent.mkdir()
    reuse.take(file, dense(tmp_path / "same", record["base"]["sha256"]), out)
    for name in ("record.json", "plan.json"):
        assert json.loads(out.with_name(name).read_text()) == json.loads(file.with_name(name).read_text())
        out.with_name(name).unlink()
    with pytest.raises(InputError, match=r"of another one .*--config reuse=false"):
        reuse.take(file, dense(tmp_path / "other", "0" * 64), out)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"macs": 20275903},
            r"should be the plan of record\.json next to it, which is of 20,275,904 MACs, but leaves 20,275,903",
        ),
        ({"groups": 3}, r"plan\.json.*groups"),
    ],
)
def test_a_plan_that_is_not_the_record_s_is_not_taken(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file, out = keep_one(tmp_path, make(), None), tmp_path / "out" / "record.json"
    out.parent.mkdir()
    write_plan(file.parent, **changes)
    with pytest.raises(InputError, match=said):
        reuse.take(file, dense(tmp_path / "base", make_record()["base"]["sha256"]), out)
    assert not list(out.parent.iterdir())


def finish(found: definition.Suite, results: Path, commits: list[str | None]) -> Path:
    """Records of the suite's settings in order, one for each commit; returns the suite's folder."""
    for setting, commit in zip(found.settings, commits, strict=False):
        path = results / "small" / setting.path / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(make_record(commit=commit)))
        write_plan(path.parent)
    return results / "small"


def test_what_is_finished_is_kept(tmp_path: Path) -> None:
    found = make(seeds=[0, 1])
    source = finish(found, tmp_path / "results", ["1234567"])
    for name in ("suite.json", "tables/a.md", "figures/a.png", "collect.log"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "tables" / "elsewhere.md").symlink_to(__file__)
    (source / "tables" / "folder.md").mkdir()
    os.mkfifo(source / "tables" / "pipe.md")
    kept = reuse.keep(found, tmp_path / "results", tmp_path / "kept")
    assert kept == {"records": 1, "settings": 2}
    there = {str(path.relative_to(tmp_path / "kept" / "small")) for path in (tmp_path / "kept").rglob("*.*")}
    there = {name for name in there if (tmp_path / "kept" / "small" / name).is_file()}
    assert there == {
        *("suite.json", "tables/a.md", "figures/a.png", "environment.json"),
        *(f"{found.settings[0].path}/{name}" for name in ("record.json", "plan.json")),
    }


def test_where_kept_records_were_made_is_said_once_for_each_machine(tmp_path: Path) -> None:
    found = make(seeds=[0, 1, 2, 3])
    finish(found, tmp_path / "results", ["b", "a", "b", None])
    other = tmp_path / "results" / "small" / found.settings[3].path / "record.json"
    hardware = {"cpu": "another", "cores": 8, "gpu": "H100"}
    other.write_text(json.dumps({**json.loads(other.read_text()), "hardware": hardware}))
    reuse.keep(found, tmp_path / "results", tmp_path / "kept")
    said = json.loads((tmp_path / "kept" / "small" / "environment.json").read_text())["environments"]
    by_cores = {one["hardware"]["cores"]: (one["records"], one["commits"]) for one in said}
    assert by_cores == {make_record()["hardware"]["cores"]: (3, ["a", "b"]), 8: (1, ["outside a checkout"])}
    assert all(one["versions"] == make_record()["versions"] for one in said)


def test_a_damaged_record_is_not_kept(tmp_path: Path) -> None:
    found = make()
    (finish(found, tmp_path / "results", ["a"]) / found.settings[0].path / "record.json").write_text("{")
    with pytest.raises(InputError, match=r"record\.json"):
        reuse.keep(found, tmp_path / "results", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_record_without_its_plan_is_not_kept(tmp_path: Path) -> None:
    found = make()
    (finish(found, tmp_path / "results", ["a"]) / found.settings[0].path / "plan.json").unlink()
    with pytest.raises(InputError, match=r"plan\.json should be next to its record, but is not. Run the suite again."):
        reuse.keep(found, tmp_path / "results", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_nothing_finished_is_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run the suite first"):
        reuse.keep(make(), tmp_path / "results", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
