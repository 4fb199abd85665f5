"""What rules are told of a suite, against what the suite's file says; wildcards are Snakemake's own."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from snakemake.iocontainers import Wildcards

from daar.code.sources import Sources
from daar.run import code as stages_code
from daar.run import reuse
from daar.run.dag import Dag
from daar.storage import bundled
from daar.suite import figures, reading
from tests.run.test_reuse import keep_one

SUITE: dict[str, Any] = {
    **{"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5, 0.7]},
    **{"seeds": [0, 3], "finetune": {"epochs": 1}, "methods": ["l1", "hrank"]},
    "variants": {
        **{"at": {"random_at": "l1"}, "fresh": {"scratch_of": "hrank", "budget": "compute"}},
        "power-2": {"method": "daar", "options": {"attention": "spatial"}},
    },
}
FRONT = "results/small/digits/resnet20"


def make(**changes: Any) -> Dag:
    return Dag(reading.from_config({**SUITE, **changes}, "here"))


def cell(variant: str = "l1", **changes: str) -> Wildcards:
    """Wildcards of a setting."""
    of = {"dataset": "digits", "network": "resnet20", "seed": "3", "variant": variant}
    return Wildcards(fromdict={**of, "policy": "uniform", "scope": "all", "target": "0.5", **changes})


def matched(expression: str, names: list[str]) -> set[str]:
    return {name for name in names if re.fullmatch(expression, name)}


def test_variants_are_told_apart_by_their_methods() -> None:
    dag, names = make(), ["l1", "hrank", "at", "fresh", "power-2", "", "l", "l12"]
    assert matched(dag.variants_of("l1"), names) == {"l1"}
    assert matched(dag.variants_of("daar"), names) == {"power-2"}
    assert matched(dag.variants_of("random_at", "scratch_of"), names) == {"at", "fresh"}
    assert matched(dag.variants_but("random_at", "scratch_of"), names) == {"l1", "hrank", "power-2"}
    assert matched(dag.variants_of("fpgm"), names) == set()
    assert matched(make(variants={}).variants_but("l1", "hrank"), names) == set()


def test_a_tuning_sees_no_test_images() -> None:
    packs, test = make().packs(cell()), make().test_pack(cell())
    assert packs == [f"results/data/digits/{name}" for name in ("train.safetensors", "val.safetensors", "source.json")]
    assert test == "results/data/digits/test.safetensors"


def test_settings_start_from_the_dense_network_of_their_seed() -> None:
    dag = make()
    folder = f"results/dense/digits/resnet20/{dag.suite.train.hash}"
    assert dag.dense(cell()) == f"{folder}/seed3"
    assert dag.dense_files(cell()) == [f"{folder}/seed3/model.safetensors", f"{folder}/seed3/model.json"]
    assert dag.first_dense_files(cell()) == [f"{folder}/seed0/model.safetensors", f"{folder}/seed0/model.json"]
    # a setting tells the same as wildcards
    setting = next(s for s in dag.settings.values() if s.seed == 3)
    assert dag.dense_files(setting) == dag.dense_files(cell())


def test_a_control_takes_the_plan_of_its_variant() -> None:
    assert make().plan_of_origin(cell("at")) == f"{FRONT}/seed3/l1/uniform-all-0.5/plan.json"
    assert make().plan_of_origin(cell("fresh", target="0.7")) == f"{FRONT}/seed3/hrank/uniform-all-0.7/plan.json"


def test_figures_wait_for_what_they_read() -> None:
    dag = make()
    cells = [f"{FRONT}/seed{seed}/{{}}/{{}}-all-{target}" for seed in (0, 3) for target in (0.5, 0.7)]
    rates = {"l1": "uniform", "hrank": "uniform", "at": "uniform", "power-2": "adaptive"}
    plans = {f"{place.format(name, policy)}/plan.json" for place in cells for name, policy in rates.items()}
    records = {f"{place.format(name, policy)}/record.json" for place in cells for name, policy in rates.items()}
    scores = [f"{FRONT}/seed{seed}/{name}/importance.safetensors" for seed in (0, 3) for name in rates if name != "at"]
    assert set(dag.figure_inputs("pruning-ratios")) == plans
    assert set(dag.figure_inputs("tuning-curves")) == records | {
        f"{place.format('fresh', 'uniform')}/record.json" for place in cells
    }
    assert dag.figure_inputs("rank-correlation") == sorted(scores)
    assert dag.figure_inputs("accuracy-macs") == dag.figure_inputs("accuracy-latency") == []


def test_tables_are_named_after_datasets_and_networks_and_ablations_after_methods() -> None:
    dag = make(datasets=["digits", "cifar10"], networks=["resnet20", "resnet56"])
    assert dag.pairs == ("digits-resnet20", "digits-resnet56", "cifar10-resnet20", "cifar10-resnet56")
    assert dag.published == ("cifar10-resnet20", "cifar10-resnet56")
    assert dag.pages == {"": "table", "-costs": "costs"}
    variants = {"daar-spatial": {"method": "daar", "options": {"attention": "spatial"}}}
    pages = make(methods=["daar"], variants=variants).pages
    assert pages == {"": "table", "-costs": "costs", "-ablation-daar": "ablation"}


def test_every_caption_and_title_is_there() -> None:
    captions = {path.stem for path in (bundled.ROOT / "workflow" / "report").glob("*.rst")}
    assert set(figures.TITLES) <= captions
    assert set(make(variants={"p": {"method": "l1", "policy": "adaptive"}}).pages.values()) <= captions
    assert all(title[0].isupper() for title in figures.TITLES.values())


def test_the_method_is_told_with_options_control_and_folders(tmp_path: Path) -> None:
    dag = make(methods_dirs=[str(tmp_path)])
    folder = f"--methods-dir={tmp_path}"
    assert dag.method_options(cell("power-2")) == ["--method=daar", '--options={"attention": "spatial"}', folder]
    control = ["--method=scratch_of", '--options={"budget": "compute"}', "--of=hrank", folder]
    assert dag.method_options(cell("fresh")) == control
    assert make().method_options(cell()) == ["--method=l1", "--options={}"]
    assert dag.budget(cell("fresh")) == "compute"


def test_the_policy_s_own_rate_is_no_target() -> None:
    assert make().target_options(cell(target="own")) == []
    assert make().target_options(cell(target="0.841")) == ["--macs-reduction=0.841"]


def test_steps_of_widths_reach_the_plan() -> None:
    dag = make(round_to=8)
    assert dag.target_options(cell(target="0.5")) == ["--macs-reduction=0.5", "--round-to=8"]
    assert dag.target_options(cell(target="own")) == ["--round-to=8"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"layer3.*": 0.5, "a": 0}, '--ratios={"layer3.*": 0.5, "a": 0}'),
        ("[0.]+[0.5, 0]*9", "--ratios=[0.]+[0.5, 0]*9"),
    ],
)
def test_own_ratios_reach_the_plan_and_name_its_folder(spec: Any, said: str) -> None:
    variants = {"own": {"method": "l1", "policy": {"ratios": spec}}, "r": {"random_at": "own"}}
    suite = {key: value for key, value in SUITE.items() if key != "methods"}
    dag = Dag(reading.from_config({**suite, "variants": variants, "macs_reductions": [None]}, "here"))
    folders = {path: setting for path, setting in dag.settings.items() if setting.variant.name == "own"}
    [policy] = {setting.policy for setting in folders.values()}
    assert all(f"/own/{policy}-" in path for path in folders)
    assert dag.target_options(cell("own", target="own", policy=policy)) == [said]
    assert dag.target_options(cell("own", target="own", policy="uniform")) == []


def test_options_of_the_policy_reach_the_plan_and_the_record() -> None:
    variants = {"plain": {"method": "l1", "policy": "adaptive", "policy_options": {"adjust": False}}}
    dag, said = make(variants=variants), '--policy-options={"adjust": false}'
    assert dag.target_options(cell("plain", target="own")) == [said]
    assert dag.target_options(cell("plain", target="0.841")) == ["--macs-reduction=0.841", said]
    assert dag.recorded_options(cell("plain")) == ["--method=l1", "--options={}", said]
    assert dag.method_options(cell("plain")) == dag.recorded_options(cell()) == ["--method=l1", "--options={}"]


def test_weights_count_by_their_content_and_their_absence_stops_no_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dag = make(base={"resnet20": {"file": "a.th", "mean": [0.5, 0.5, 0.5]}}, variants={})
    assert dag.weights_content(cell()) == []
    Path("a.th").write_bytes(b"weights")
    assert dag.weights(cell()) == "a.th"
    assert dag.weights_content(cell()) == [hashlib.sha256(b"weights").hexdigest()]
    assert dag.import_options(cell()) == ["--mean", "0.5", "0.5", "0.5", "--trained-on", "train", "val"]


def test_a_record_knows_what_it_was_made_from() -> None:
    dag = make()
    setting = dag.settings["digits/resnet20/seed3/hrank/uniform-all-0.7"]
    assert dag.made_from(cell("hrank", target="0.7")) == reuse.made_from(dag.suite, setting)


def test_kept_records_of_networks_from_scratch_are_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dag = make(reuse=True)
    assert (dag.reused_settings(scratch=True), dag.reused_settings(scratch=False)) == ("(?!)", "(?!)")
    kept = {name: next(s for s in dag.suite.settings if s.variant.name == name) for name in ("l1", "fresh")}
    first = keep_one(reuse.REFERENCE, dag.suite, reuse.made_from(dag.suite, kept["l1"]))
    other = reuse.REFERENCE / "small" / kept["fresh"].path / "record.json"
    other.parent.mkdir(parents=True)
    named = {"variant": "fresh", "made_from": reuse.made_from(dag.suite, kept["fresh"])}
    other.write_text(json.dumps({**json.loads(first.read_text()), **named}))
    dag = make(reuse=True)
    every = list(dag.settings)
    assert dag.reused == {kept["l1"].path: first, kept["fresh"].path: other}
    assert matched(dag.reused_settings(scratch=False), every) == {kept["l1"].path}
    assert matched(dag.reused_settings(scratch=True), every) == {kept["fresh"].path}


def test_a_job_works_out_no_hash() -> None:
    suite = reading.from_config(SUITE, "here")
    assert Dag(suite, in_job=True).code("train")(cell()) == ""
    assert re.fullmatch("[0-9a-f]{12}", Dag(suite).code("train")(cell()))


def test_code_follows_the_setting_s_method_policy_and_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(bundled.ROOT / "baselines" / "l1", folder)
    code = folder / "method.py"
    text = code.read_text().replace('name="l1"', 'name="mine"').replace('policy="uniform"', 'policy="own"')
    code.write_text(f"{text}\ndef plan(groups, importance, macs_target, *, macs, loss):\n    return {{}}\n")
    dag = make(methods=["l1", "mine"], variants={}, methods_dirs=[str(tmp_path)])
    stages = ("score", "plan", "explain", "stability", "finetune", "record", "train")

    def hashes(variant: str, policy: str) -> dict[str, str]:
        return {stage: dag.code(stage)(cell(variant, policy=policy)) for stage in stages}

    given = [("mine", "uniform"), ("l1", "own"), ("l1", "uniform")]
    before = [hashes(*one) for one in given]
    assert code.read_text().count(".abs()") == code.read_text().count("return {}") == 1
    code.write_text(code.read_text().replace(".abs()", ".square()").replace("return {}", "return {'conv1': 1}"))
    monkeypatch.setattr(stages_code, "HERE", Sources(bundled.PACKAGE.parent))
    changed = [
        {stage for stage, value in hashes(*one).items() if value != old[stage]}
        for one, old in zip(given, before, strict=True)
    ]
    assert changed == [{"score", "explain", "stability"}, {"plan"}, set()]
    other = dag.code("finetune")(cell(network="vgg16_bn"))
    assert other != before[0]["finetune"]
    # a param of rules without wildcards
    assert dag.code("collect")(Wildcards(fromdict={})) == dag.code("collect")(cell())
