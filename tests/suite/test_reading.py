import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from daar.errors import InputError
from daar.methods import discovery
from daar.run import preflight
from daar.storage import schemas
from daar.suite import definition, reading
from daar.training.recipe import Recipe

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "workflow" / "config").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "suite": "small",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "macs_reductions": [0.5],
    "seeds": [0],
    "finetune": {"epochs": 1},
}


def make(**changes: Any) -> definition.Suite:
    return reading.from_config({**SMALL, **changes}, "here")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_suite_we_ship_is_valid(path: Path) -> None:
    found = reading.load(path)
    assert found.name == path.stem
    assert found.settings


def test_the_paper_suite_is_what_the_design_says() -> None:
    found = reading.load(next(path for path in CONFIGS if path.stem == "paper"))
    assert found.datasets == ("cifar10",)
    assert found.networks == ("resnet56", "resnet110", "vgg16_bn")
    assert found.targets == (0.5, 0.7, 0.841)
    assert (found.scope, found.seeds, found.allow_cpu) == ("all", (0, 1, 2), False)
    assert found.train == Recipe(epochs=200, lr=0.1, schedule="cosine", batch_size=128, weight_decay=5e-4)
    assert found.finetune == Recipe(
        epochs=150, lr=0.01, schedule="step", milestones=(50, 100), gamma=0.1, batch_size=256, weight_decay=5e-4
    )


def test_the_cifar100_suite_trains_and_tunes_as_the_paper_suite_does() -> None:
    paper, other = (reading.load(next(p for p in CONFIGS if p.stem == name)) for name in ("paper", "cifar100"))
    assert other.datasets == ("cifar100",)
    assert (other.train.hash, other.finetune.hash) == (paper.train.hash, paper.finetune.hash)
    assert (other.networks, other.scope, other.allow_cpu) == (paper.networks, paper.scope, False)


def test_settings_are_the_whole_grid() -> None:
    found = make(seeds=[0, 1], macs_reductions=[0.3, 0.5], methods=["l1", "random"], networks=["resnet20", "vgg16_bn"])
    assert len(found.settings) == 2 * 2 * 2 * 2
    assert len({setting.path for setting in found.settings}) == 16
    assert found.settings[0].path == "digits/resnet20/seed0/l1/uniform-all-0.3"


def test_methods_absent_means_all_there_are(tmp_path: Path) -> None:
    assert {"l1", "random"} <= {v.name for v in make().variants}
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "method.py").write_text(
        'INFO = MethodInfo(name="third", title="Third", citation="x", uses=())'
    )
    (tmp_path / "third" / "rule.smk").write_text("")
    assert "third" in {v.name for v in make(methods_dirs=[str(tmp_path)]).variants}


def test_keys_left_out_have_the_values_that_the_schema_and_the_protocol_state() -> None:
    found = make()
    assert found.calibration_images == 640  # docs/protocol.md
    assert (found.latency, found.reuse, found.allow_cpu, found.processes, found.nodes) == (False, False, True, 1, 1)
    assert (found.policies, found.slots_per_gpu, found.data_root, found.stability) == (None, None, None, None)
    assert (found.scope, found.base, found.methods_dirs, found.train) == ("all", {}, (), Recipe())


def test_variants_carry_options() -> None:
    found = make(methods=["l1"], variants={"wrong-way": {"method": "daar", "options": {"attention": "swapped"}}})
    assert [v.name for v in found.variants] == ["l1", "wrong-way"]
    assert found.variant("wrong-way").options == (("attention", "swapped"),)


def test_controls_take_the_policy_of_their_variant() -> None:
    controls = {
        "r": {"random_at": "daar"},
        "s": {"scratch_of": "daar"},
        "b": {"scratch_of": "daar", "budget": "compute"},
    }
    found = make(methods=["daar"], variants=controls)
    assert len({setting.policy for setting in found.settings}) == 1
    assert [v.of for v in found.variants] == [None, "daar", "daar", "daar"]
    policies = ["uniform", "global"]
    assert len(make(methods=["l1"], variants={"r": {"random_at": "l1"}}, policies=policies).settings) == 4


def test_a_variant_may_have_a_policy_of_its_own_which_its_controls_share() -> None:
    variants = {"l1-adaptive": {"method": "l1", "policy": "adaptive"}, "r": {"random_at": "l1-adaptive"}}
    found = make(methods=["daar", "l1"], variants=variants, seeds=[0], macs_reductions=[0.5])
    rates = {setting.variant.name: setting.policy for setting in found.settings}
    assert rates == {"daar": "adaptive", "l1": "uniform", "l1-adaptive": "adaptive", "r": "adaptive"}
    policies = ["uniform", "global"]
    both = make(methods=["l1"], variants=variants, seeds=[0], macs_reductions=[0.5], policies=policies).settings
    names = [(setting.variant.name, setting.policy) for setting in both]
    assert names == [("l1", "uniform"), ("l1", "global"), ("l1-adaptive", "adaptive"), ("r", "adaptive")]


@pytest.mark.parametrize(
    ("method", "policy", "given"),
    [
        ("l1", "adaptive", {"adjust": False}),
        ("daar", "adaptive", {"adjust": False}),
        ("daar", None, {"adjust": False}),
        ("lamp", "erk", {"power": 0.5}),
        ("hrank", "erk", {"power": 1}),
    ],
)
def test_options_of_a_policy_go_with_any_method(method: str, policy: str | None, given: dict[str, Any]) -> None:
    entry = {"method": method, "policy_options": given, **({"policy": policy} if policy else {})}
    found = make(variants={"x": entry}, seeds=[0], macs_reductions=[0.5])
    assert dict(found.variant("x").policy_options) == given
    assert found.variant("x").recorded == {"policy_options": given}
    assert found.settings[-1].policy == (policy or "adaptive")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"policy": "adaptive", "policy_options": {"adjst": 1}}, "policy 'adaptive' 'adjst'; there are: adjust"),
        (
            {"policy": "adaptive", "policy_options": {"adjust": 1}},
            "'adjust' of policy 'adaptive' is 1; it takes a",
        ),
        (
            {"policy": "erk", "policy_options": {"power": "1"}},
            "option 'power' of policy 'erk' is '1'; it takes a",
        ),
        ({"policy": "erk", "policy_options": {"shapes": {}}}, "policy 'erk' 'shapes'; there are: power"),
        ({"policy": "lamp", "policy_options": {"adjust": False}}, "policy 'lamp' 'adjust'; there are: none"),
        ({"policy": "global", "policy_options": {"adjust": False}}, "policy 'global' 'adjust'; there are: none"),
        ({"policy_options": {"adjust": False}}, "policy 'uniform' 'adjust'; there are: none"),
        (
            {"policy": "[0.5]*19", "policy_options": {"x": 1}},
            "own ratios take no options, got 'x'. Take",
        ),
        ({"policy": "published-hrank", "policy_options": {"x": 1}}, "policy 'published-hrank' 'x'; there are: none"),
        ({"policy_options": [1]}, "variants.x.policy_options"),
    ],
)
def test_options_that_a_policy_has_not_are_named(entry: dict[str, Any], said: str) -> None:
    target = None if "[" in str(entry.get("policy")) or "published" in str(entry.get("policy")) else 0.5
    with pytest.raises(InputError, match=r"^here: .*variants\.x\.policy_options") as error:
        make(variants={"x": {"method": "l1", **entry}}, macs_reductions=[target])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_control_takes_no_options_of_a_policy() -> None:
    with pytest.raises(InputError, match=r"has 'policy_options', which random_at does not take. Take it out"):
        make(methods=["l1"], variants={"r": {"random_at": "l1", "policy_options": {"adjust": False}}})


def test_own_ratios_are_policies_named_by_what_they_say() -> None:
    said = {"layer3.*": 0.5, "layer1.?.conv1": 0.25}
    variants: dict[str, Any] = {
        "own": {"method": "l1", "policy": {"ratios": said}},
        "same": {"method": "fpgm", "policy": {"ratios": dict(reversed(said.items()))}},
        "text": {"method": "l1", "policy": "[0.]+[0.5, 0]*9"},
        "spaced": {"method": "fpgm", "policy": {"ratios": "[0.] + [0.5,0]*9"}},
        "other": {"method": "l1", "policy": {"ratios": {"layer3.*": 0.6}}},
    }
    found = make(variants=variants, seeds=[0], macs_reductions=[None])
    policies = {setting.variant.name: setting.policy for setting in found.settings}
    assert policies["own"] == policies["same"]
    assert policies["text"] == policies["spaced"]
    assert len(set(policies.values())) == 3
    assert found.ratios[policies["own"]] == said
    listed = make(
        methods=["l1"], policies=["published-hrank", {"ratios": said}], macs_reductions=[None], networks=["resnet56"]
    )
    assert listed.policies == ("published-hrank", policies["own"])
    typed = reading.normal_form({"policies": [{"ratios": {"layer3.*": "0.5"}}]})  # as --config hands it on
    assert typed == {"policies": [{"ratios": {"layer3.*": 0.5}}]}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"ratios": {"a": 1.0}}, r"variants.x.policy.ratios.a"),
        ({"ratios": {}}, "ratios"),
        ({"ratio": {"a": 0.5}}, "ratio"),
        ("[0.5", r"variants.x.policy.ratios has the part '\[0.5'; a paper's text is lists"),
        ({"ratios": "[1.5]"}, r"variants.x.policy.ratios is 1.5; it must lie in \[0, 1\)"),
    ],
)
def test_own_ratios_that_cannot_be_are_named(policy: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(variants={"x": {"method": "l1", "policy": policy}}, macs_reductions=[None])


def test_own_ratios_take_no_target() -> None:
    with pytest.raises(InputError, match=r"ratios say how much goes\. Leave the target out"):
        make(variants={"x": {"method": "l1", "policy": {"ratios": {"a": 0.5}}}}, macs_reductions=[0.5])


def test_weights_that_are_not_there_stop_a_run_and_say_where_to_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAAR_DATA_ROOT", "root")
    entry = {"file": "a.th", "url": "https://example.org/a.th"}
    [problem] = preflight.problems(make(base={"resnet20": entry}), tmp_path)
    assert problem == (
        "no weights for resnet20: looked for a.th and root/a.th; fetch them from https://example.org/a.th"
    )
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.th").touch()
    assert preflight.problems(make(base={"resnet20": entry}), tmp_path) == []


def test_an_imported_base_is_one_for_all_seeds() -> None:
    found = make(base={"resnet20": {"file": "a.th", "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}, seeds=[0, 1])
    paths = {found.dense_path("digits", "resnet20", seed) for seed in (0, 1)}
    assert len(paths) == 1
    assert "/import-" in paths.pop()
    assert found.base["resnet20"].options == [
        *("--mean", "0.5", "0.5", "0.5", "--std", "1", "1", "1"),
        *("--trained-on", "train", "val"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epocs": 3}, "'epocs' was unexpected"),
        ({"epocs": 3}, "known keys are allow_cpu, base"),
        ({"methods": ["l1", "l3"]}, f"unknown method in here 'l3'; there are: {', '.join(discovery.find())}."),
        ({"networks": ["resnet21"]}, "unknown network 'resnet21'; there are: densenet40"),
        ({"datasets": ["mnist"]}, "unknown dataset 'mnist'"),
        ({"policies": ["greedy"]}, "unknown policy in here 'greedy'; there are: "),
        ({"variants": {"x": {"method": "l1", "policy": "greedy"}}}, "unknown policy in here 'greedy'; there are: "),
        ({"variants": {"x": {"random_at": "l1", "policy": "uniform"}}}, "has 'policy', which random_at does not take"),
        ({"macs_reductions": [1.2]}, "macs_reductions[0]: 1.2"),
        ({"macs_reductions": [0]}, "macs_reductions[0]: 0"),
        ({"macs_reductions": [None]}, "policy 'uniform' has no rate of its own"),
        ({"macs_reductions": [0.5, 0.5]}, "names 0.5 twice"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds[0]"),
        ({"scope": "outer"}, "scope"),
        ({"finetune": {"lr": -1}}, "finetune.lr"),
        (
            {"finetune": {"epochs": 2, "warmup_epochs": 3}},
            "here: finetune: warmup_epochs is 3; it must be 0 to epochs (2)",
        ),
        (
            {"finetune": "hrank"},
            "unknown finetune recipe in here: finetune 'hrank'; there are: chip, fpgm, hrankplus, pfec.",
        ),
        (
            {"train": "hrankplus"},
            "recipe in here: train 'hrankplus'; there are: fpgm-train, network-slimming-train, pfec-train.",
        ),
        ({"train": "hrankplus"}, "'hrankplus' is for finetune"),
        ({"finetune": {"recipe": "chip", "epocs": 3}}, "'epocs' was unexpected"),
        ({"finetune": {"recipe": "chip", "epochs": 3}}, "finetune: warmup_epochs is 5; it must be 0 to epochs (3)"),
        ({"finetune": {"recipe": ["chip"]}}, "finetune.recipe: ['chip'] is not of type 'string'"),
        ({"finetune": 3}, "finetune: 3 is not of type 'object', 'string'"),
        ({"finetune": {"distillation": 1.5}}, "finetune.distillation: 1.5"),
        ({"train": {"distillation": 0.5}}, "train: distillation is 0.5, but what trains from scratch has no teacher"),
        ({"train": {"recipe": "fpgm-train", "distillation": 0.5}}, "no teacher. Take it out, or give it to the tuning"),
        ({"calibration_images": 5000}, "digits has 1,257 train images"),
        ({"suite": "Über Suite"}, "suite: 'Über Suite'"),
        ({"variants": {"l1": {"method": "l1"}}, "methods": ["l1"]}, "names 'l1' twice"),
        ({"base": {"resnet56": {"file": "a.th"}}}, "unknown network in here: base 'resnet56'"),
        (
            {"variants": {"dice": {"method": "random", "options": {"sides": 6}}}},
            "unknown option of method 'random' 'sides'; there are: ",
        ),
        (
            {"variants": {"d": {"method": "daar", "options": {"attention": "both"}}}},
            "option 'attention' of method 'daar' is 'both'; it takes 'dual', 'spatial', 'channel', 'swapped'.",
        ),
        (
            {"methods": ["l1"], "variants": {"c": {"random_at": "l2"}}},
            "unknown variant in here: variants.c.random_at 'l2'; there are: l1.",
        ),
        (
            {"methods": ["l1"], "variants": {"c": {"random_at": "l1"}, "d": {"scratch_of": "c"}}},
            "unknown variant in here: variants.d.scratch_of 'c'; there are: l1.",
        ),
        ({"variants": {"c": {"random_at": "l1", "scratch_of": "l1"}}}, "variants.c has random_at and scratch_of"),
        ({"variants": {"c": {"random_at": "l1", "method": "l1"}}}, "variants.c has method and random_at"),
        ({"variants": {"c": {}}}, "variants.c has none of method, random_at, scratch_of. Give one."),
        ({"variants": {"c": {"random_at": "l1", "budget": "epochs"}}}, "'budget', which random_at does not take"),
        ({"variants": {"c": {"scratch_of": "l1", "options": {}}}}, "'options', which scratch_of does not take"),
        ({"variants": {"c": {"scratch_of": "l1", "budget": "time"}}}, "variants.c.budget"),
        (
            {"methods": ["l1"], "variants": {"c": {"scratch_of": "l1"}}, "base": {"resnet20": {"file": "a.th"}}},
            "c trains from scratch, but the base of resnet20 is imported",
        ),
        ({"reuse": True, "latency": True}, "reuse takes records in place of tuned networks, but latency times those"),
    ],
)
def test_bad_suites_are_named(changes: dict, said: str) -> None:
    with pytest.raises(InputError) as error:
        make(**changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["suite", "datasets", "networks", "macs_reductions", "seeds", "finetune"])
def test_missing_keys_are_named(missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        reading.from_config({key: value for key, value in SMALL.items() if key != missing}, "here")


@pytest.mark.parametrize("content", ["a: [", "just text", "- a\n- b", ""])
def test_files_that_are_no_suite(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(InputError):
        reading.load(tmp_path / "s.yaml")
    with pytest.raises(InputError, match="there is no such file"):
        reading.load(tmp_path / "none.yaml")


def test_schema_and_recipe_agree() -> None:
    schema = schemas.schema("suite")
    assert set(schema["$defs"]["recipe"]["properties"]) == {"recipe", *Recipe.__dataclass_fields__}
    for name, part in schema["properties"].items():
        assert "description" in part, name


def test_loading_a_suite_is_light() -> None:
    code = (
        "import sys; from daar.run import preflight; from daar.storage import provenance;"
        "from daar.suite import reading;"
        f"reading.load({str(CONFIGS[0])!r}); heavy = {{'torch', 'numpy', 'pandas'}} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# before a run


def test_a_suite_that_cannot_run_says_why_where_how_long_and_what_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daar.data.sources.reachable", lambda: False)
    monkeypatch.setattr("daar.run.preflight._has_gpu", lambda: False)
    found = make(datasets=["cifar10"], data_root=str(tmp_path), allow_cpu=False)
    with pytest.raises(InputError) as error:
        preflight.require_runnable(found, tmp_path / "packs")
    message = str(error.value)
    for part in (
        "CIFAR-10 is not there",
        str(tmp_path),
        "no network",
        "no GPU",
        "roughly",
        "hours",
        "daar run demo",
        "allow_cpu",
    ):
        assert part in message, part
    assert "\n" not in message


def test_a_suite_that_can_run_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daar.run.preflight._has_gpu", lambda: False)
    preflight.require_runnable(make(), tmp_path)
    assert preflight.problems(make(allow_cpu=False), tmp_path) == [
        "no GPU: looked for NVIDIA's driver and CUDA_VISIBLE_DEVICES"
    ]
    monkeypatch.setattr("daar.data.sources.reachable", lambda: True)
    assert not preflight.problems(make(datasets=["cifar10"], data_root=str(tmp_path)), tmp_path / "packs")


def test_suites_are_written_as_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert reading.load(path) == reading.from_config(SMALL, "here")


def test_what_the_command_line_hands_on_as_text_gets_its_type() -> None:
    """Snakemake parses `--config a=true b=[0.5]` to {"a": "true", "b": ["0.5"]}."""
    text = {"allow_cpu": "false", "macs_reductions": ["0.5", "0.841"], "seeds": ["0", "1"]}
    found = make(**text, finetune={"epochs": "2", "lr": "1e-2", "milestones": ["1"], "schedule": "step"})
    assert (found.allow_cpu, found.targets, found.seeds) == (False, (0.5, 0.841), (0, 1))
    assert (found.finetune.epochs, found.finetune.lr, found.finetune.milestones) == (2, 0.01, (1,))
    named = make(finetune={"recipe": "hrankplus", "epochs": "2", "nesterov": "true"})
    assert named.finetune == make(finetune={"recipe": "hrankplus", "epochs": 2, "nesterov": True}).finetune
    assert make(suite="2025").name == "2025"  # a name stays text
    with pytest.raises(InputError, match="allow_cpu"):
        make(allow_cpu="perhaps")
