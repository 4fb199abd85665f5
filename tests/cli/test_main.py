import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from daar import __version__
from daar.cli import deployment, measuring, pruning, training
from daar.cli.main import main
from daar.errors import InputError
from daar.methods import discovery
from daar.storage.bundled import SCHEMAS
from daar.suite import reading
from tests.conformance.test_faults import METHOD

REPOSITORY = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    """Run a command in this process; its output, or its error if it should fail."""
    try:
        main([str(argument) for argument in arguments])
        ended = 0
    except SystemExit as stop:
        ended = int(stop.code or 0)
    out, err = capsys.readouterr()
    assert ended == code, err
    return err if code else out


def one_line(err: str) -> str:
    assert err.startswith("daar: error: ")
    assert err.count("\n") == 1, err
    return err


def commands() -> list[list[str]]:
    """Every command and subcommand, found by asking --help as a user would."""
    top = [
        "list",
        "describe",
        "train",
        "finetune",
        "import",
        "score",
        "plan",
        "prune",
        "measure",
        "record",
        "export",
        "latency",
        "random-at",
        "schedule",
        "scratch",
        "stability",
        "explain",
        "report",
    ]
    return [[name] for name in top] + [["data", "prepare"], ["data", "check"], ["suite", "check"], ["suite", "write"]]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert "usage: daar" in run(capsys, *command, "--help")


def test_help_says_where_the_keys_of_a_suite_are(capsys: pytest.CaptureFixture[str]) -> None:
    """In a line of its own, whole, also where the package is installed in a long path; and so does an unknown key."""
    place = SCHEMAS / "suite.schema.yaml"
    assert place.is_file()
    assert f"All keys that a suite can have: {place}" in run(capsys, "suite", "check", "--help").splitlines()
    with pytest.raises(InputError, match=re.escape(f"See {place}.")):
        reading.from_config({"what": 1}, "mine.yaml")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    listed = run(capsys, "--help")
    for command in commands():
        assert command[0] in listed
    assert run(capsys, "--version") == f"daar {__version__}\n"


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("methods", "l1"),
        ("networks", "resnet56"),
        ("datasets", "digits"),
        ("policies", "uniform"),
        ("recipes", "chip"),
        ("schedules", "soft"),
    ],
)
def test_list(capsys: pytest.CaptureFixture[str], what: str, known: str) -> None:
    assert known in json.loads(run(capsys, "list", what, "--json"))
    assert any(line.startswith(known) for line in run(capsys, "list", what).splitlines())


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    described = json.loads(run(capsys, "describe", "resnet20", "--json"))
    assert (described["macs"], described["params"], len(described["groups"])) == (40_551_040, 269_722, 12)
    stem = described["groups"][0]
    assert (stem["name"], stem["size"], len(stem["members"]), stem["scopes"]) == ("conv1", 16, 4, ["all"])
    assert stem["readers"] == [
        "layer1.0.conv1",
        "layer1.1.conv1",
        "layer1.2.conv1",
        "layer2.0.conv1",
        "layer2.0.shortcut",
    ]
    # 9·32·32 times 3, and times 16 for three convs that write it and three that read it; 9·16·16·32 for layer2.0.conv1
    assert (stem["macs"], stem["macs_per_channel"]) == (13_805_568, 986_112)
    assert stem["share"] == 13_805_568 / 40_551_040
    assert "layer3.2.conv1" in run(capsys, "describe", "resnet20")


def test_importing_daar_and_asking_for_help_is_light() -> None:
    code = (
        "import sys; from daar.cli import main; heavy = {'torch', 'numpy', 'pandas', 'snakemake'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path) -> None:
    """The way a user walks without Snakemake: score, plan, tune, measure; and prune in one go."""
    data = ["--dataset", "digits", "--packs", digits.parent, "--threads", 2]
    scores, plan, tuned = tmp_path / "importance.safetensors", tmp_path / "plan.json", tmp_path / "tuned"
    run(capsys, "score", dense, "--method", "l1", "--out", scores, *data)
    said = run(capsys, "plan", dense, "--importance", scores, "--macs-reduction", 0.5, "--out", plan, *data)
    assert said.startswith("40,551,040 MACs become 20,2")
    said = run(
        capsys, "finetune", dense, "--plan", plan, "--out", tuned, "--epochs", 1, "--lr", 0.01, *data, "--label", "me"
    )
    assert said.splitlines()[0].startswith("me: slim network equals the masked one: ")
    # how steps run; where there are several cores, that so narrow a network trains on one thread
    for begin in ("me: cpu, ", "me: epoch 1/1  lr 0.0100"):
        assert len([line for line in said.splitlines() if line.startswith(begin)]) == 1
    measured = json.loads(run(capsys, "measure", tuned, "--json", "--out", tmp_path / "m.json", *data))
    assert measured == json.loads((tmp_path / "m.json").read_text())
    assert measured["macs"] == measured["macs_closed_form"] == json.loads(plan.read_text())["macs"]
    assert 0 <= measured["top1"] <= 100
    assert measured["images"] == 360
    assert "360 test images" in run(capsys, "measure", tuned, *data)

    said = run(capsys, "prune", dense, "--macs-reduction", 0.5, "--out", tmp_path / "pruned", *data)
    assert "it equals the masked one to" in said
    assert json.loads((tmp_path / "pruned" / "plan.json").read_text()) == json.loads(plan.read_text())


def test_training_options_override_the_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{epochs: 3, lr: 0.02, batch_size: 200, schedule: constant}")
    run(
        capsys,
        *("train", "--network", "resnet20", "--dataset", "digits", "--packs", digits.parent, "--out", tmp_path / "net"),
        *("--recipe", recipe, "--epochs", 1, "--no-nesterov", "--threads", 2),
    )
    kept = json.loads((tmp_path / "net" / "model.json").read_text())["provenance"]["recipe"]
    assert (kept["epochs"], kept["lr"], kept["batch_size"], kept["nesterov"]) == (1, 0.02, 200, False)
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["model.json", "model.safetensors"]


def bad_commands(dense: Path, digits: Path, tmp: Path) -> list[tuple[list[Any], str]]:
    data = ["--dataset", "digits", "--packs", digits.parent]
    plan = ["plan", dense, "--importance", tmp / "i.safetensors", "--out", tmp / "p.json", *data]
    train = ["train", "--network", "resnet20", "--out", tmp / "o", *data]
    score = ["score", dense, "--out", tmp / "i.safetensors", *data]

    def scheduled(name: str) -> list[Any]:
        return ["schedule", dense, name, "--epochs", "2", "--macs-reduction", "0.5", "--out", tmp / "o", *data]

    return [
        (["describe", "resnet21"], "unknown network 'resnet21'"),
        (["describe", "resnet20", "--dataset", "mnist"], "unknown dataset 'mnist'"),
        ([*score, "--method", "l3"], f"unknown method 'l3'; there are: {', '.join(discovery.find())}."),
        ([*score, "--options", '{"sides": 6}'], "unknown option of method 'l1' 'sides'"),
        ([*score, "--options", "[1]"], "must be a JSON object"),
        ([*score, "--options", "{"], "--options is not JSON"),
        ([*score, "--images", "9999"], "1,257"),
        ([*score, "--threads", "0"], "--threads is 0"),
        (["score", tmp / "none", "--out", tmp / "i", *data], "there is no such file"),
        ([*plan, "--macs-reduction", "1.2"], "importance"),
        ([*train, "--epochs", "-3"], "epochs is -3"),
        ([*train, "--recipe", '{"epocs": 3}'], "unknown key 'epocs'"),
        ([*train, "--recipe", tmp / "none.yaml"], "should be a recipe in YAML or JSON, but there is no such file"),
        (
            [*train, "--recipe", "fpgm"],
            "there are: fpgm-train, network-slimming-train, pfec-train. 'fpgm' is for finetune.",
        ),
        ([*train, "--recipe", "fpgm-trian"], "unknown train recipe in recipe 'fpgm-trian'; there are: fpgm-train,"),
        ([*train, "--recipe", "fpgm-train", "--distillation", "0.5"], "has no teacher"),
        ([*train, "--recipe", "fpgm-train", "--epochs", "-1"], "epochs is -1"),
        (
            [
                "train",
                "--network",
                "resnet20",
                "--dataset",
                "cifar10",
                "--out",
                tmp / "o",
                "--packs",
                tmp / "packs",
                "--data-root",
                tmp,
            ],
            "CIFAR-10 is not there",
        ),
        (
            ["measure", dense, "--dataset", "digits", "--packs", digits.parent, "--device", "cuda"],
            "device 'cuda' is not there",
        ),
        (
            [*scheduled("iterative"), "--schedule-options", '{"rounds": 3}'],
            "needs 3 rounds of one epoch or more, but the",
        ),
        ([*scheduled("iterative"), "--schedule-options", '{"steps": 1}'], "has no option 'steps'; it has rounds"),
        ([*scheduled("iterative"), "--schedule-options", "[3]"], "--schedule-options must be a JSON object, got '[3]'"),
        (
            [*scheduled("hard")],
            "unknown schedule in daar schedule 'hard'; there are: iterative, layerwise, one-shot, soft",
        ),
        ([*scheduled("one-shot")], "one-shot is what score, plan and finetune do, one after the other. Run those."),
        (["suite", "check", tmp / "none.yaml"], "unknown suite"),
        (["suite", "write", "{", "--out", tmp / "s.json"], "is not JSON"),
        (["report", REPOSITORY / "workflow/config/demo.yaml", "--results", tmp], "no such file"),
        (["report", REPOSITORY / "workflow/config/demo.yaml", "--results", tmp, "--where"], "has no report yet"),
        (["data", "check", tmp], "tmp"),
        ([*train[:3], "--out", dense / "model.json", *data], "model.json should be a folder, but is none"),
        (["measure", dense, *data, "--out", tmp], "should be a file, but is a folder"),
        (["score", tmp / "none", "--out", "/dev/null", *data], "/dev/null: it should be a file, but is a device"),
        (["reuse", tmp / "none", "--base", dense, "--out", "."], ".: it should be a file, but is a folder"),
    ]


@pytest.mark.parametrize("index", range(33))
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path, index: int
) -> None:
    arguments, said = bad_commands(dense, digits, tmp_path)[index]
    assert len(bad_commands(dense, digits, tmp_path)) == 33
    error = one_line(run(capsys, *arguments, code=2))
    assert said.replace("tmp", str(tmp_path)) in error
    assert not list(tmp_path.rglob("*.safetensors")), "something half-written was left"


@pytest.mark.parametrize("argument", ["\x1b[31m", "a\nb", "\u202e", "x" * 10_000])
def test_what_argparse_quotes_is_one_line_too(capsys: pytest.CaptureFixture[str], argument: str) -> None:
    said = run(capsys, "report", "demo", argument, code=2)
    line = said.splitlines()[-1]
    assert line.startswith("daar: error: unrecognized arguments: ")
    assert line.isprintable()
    assert len(line) < 2100


def test_ratios_out_of_range_and_out_of_reach(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path
) -> None:
    data = ["--dataset", "digits", "--packs", digits.parent]
    scores = tmp_path / "i.safetensors"
    run(capsys, "score", dense, "--out", scores, *data)
    plan = ["plan", dense, "--importance", scores, "--out", tmp_path / "p.json", *data]
    for ratio in ("1.2", "-0.1", "1", "nan"):
        assert "it must lie in [0, 1)" in one_line(run(capsys, *plan, f"--macs-reduction={ratio}", code=2))
    error = one_line(run(capsys, *plan, "--macs-reduction", "0.99", "--scope", "inner", code=2))
    closest = re.findall(r"the closest macs_reduction is (0\.\d+)", error)
    assert closest == ["0.905"]
    assert "has no rate of its own" in one_line(run(capsys, *plan, code=2))
    assert "unknown policy 'greedy'" in one_line(run(capsys, *plan, "--policy", "greedy", code=2))
    assert not (tmp_path / "p.json").exists()
    run(capsys, *plan, "--macs-reduction", closest[0], "--scope", "inner")


def test_own_ratios_are_a_policy_of_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path
) -> None:
    data = ["--dataset", "digits", "--packs", digits.parent]
    scores, plan_file = tmp_path / "i.safetensors", tmp_path / "p.json"
    run(capsys, "score", dense, "--out", scores, *data)
    plan = ["plan", dense, "--importance", scores, "--out", plan_file, *data]
    for text in ('{"layer?.?.conv1": 0.5}', "[0.]+[0.5, 0]*9"):
        run(capsys, *plan, "--ratios", text)
        content = json.loads(plan_file.read_text())
        kept = {group["name"]: len(group["kept"]) / group["size"] for group in content["groups"]}
        assert kept == {name: 0.5 if ".conv1" in name else 1.0 for name in kept}
        assert content["policy"].startswith("ratios-")
        run(capsys, *plan, "--ratios", text, "--policy", content["policy"])  # as rules ask for it
    for words, said in {
        (
            "--ratios",
            '{"layer9": 0.5}',
        ): "ratios names 'layer9', but the network has no such layer with filters of its own; close to it: layer",
        ("--ratios", '{"layer1": 1}'): "--ratios['layer1'] is 1; it must lie in [0, 1)",
        ("--ratios", "{"): "--ratios is not JSON",
        ("--ratios", "[0.5]*3"): "ratios has 3 values; the network runs 19 convs",
        ("--ratios", "[0.5]*19", "--policy", "uniform"): "--ratios and --policy uniform are given",
        ("--ratios", "[0.5]*19", "--macs-reduction", "0.5"): "ratios say how much goes. Leave the target out",
    }.items():
        assert said in one_line(run(capsys, *plan, *words, code=2))


def test_options_of_a_policy_reach_it_from_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path
) -> None:
    data = ["--dataset", "digits", "--packs", digits.parent, "--images", "16"]
    scores, plan_file = tmp_path / "i.safetensors", tmp_path / "p.json"
    run(capsys, "score", dense, "--out", scores, *data)
    plan = ["plan", dense, "--importance", scores, "--out", plan_file, *data, "--macs-reduction", "0.5"]
    made = {}
    for policy, given in (
        ("adaptive", '{"adjust": false}'),
        ("erk", "{}"),
        ("erk", '{"power": 0.25}'),
        ("uniform", "{}"),
    ):
        run(capsys, *plan, "--policy", policy, "--policy-options", given)
        content = json.loads(plan_file.read_text())
        assert (content["method"], content["policy"]) == ("l1", policy)
        made[policy, given] = [len(group["kept"]) for group in content["groups"]]
        plan_file.unlink()
    assert len(set(map(tuple, made.values()))) == 4
    by_method = ["plan", dense, "--method", "daar", *plan[2:], "--options", '{"attention": "spatial", "adjust": false}']
    run(capsys, *by_method, "--policy", "adaptive")
    assert [len(group["kept"]) for group in json.loads(plan_file.read_text())["groups"]] == made[
        "adaptive", '{"adjust": false}'
    ]
    plan_file.unlink()
    prune = ["prune", dense, *data, "--macs-reduction", "0.5", "--out", tmp_path / "slim"]
    for words, said in {
        ("--policy-options", '{"adjust": false}'): "unknown option of policy 'uniform' 'adjust'; there are: none",
        ("--policy", "adaptive", "--policy-options", '{"adjust": 2}'): "'adjust' of policy 'adaptive' is 2; it takes a",
        (
            "--policy",
            "erk",
            "--policy-options",
            '{"power": -1}',
        ): "option 'power' of policy 'erk' is -1; it must",
        (
            "--policy-options",
            "[]",
        ): "--policy-options must be a JSON object, got '[]'. For example: '{",
        ("--policy-options", "{"): "--policy-options is not JSON",
        ("--ratios", "[0.5]*19", "--policy-options", '{"x": 1}'): "own ratios take no options, got 'x'",
    }.items():
        for command in (plan, prune):
            assert said in one_line(run(capsys, *command, *words, code=2))
    assert not plan_file.exists()
    assert not (tmp_path / "slim").exists()


FAULTS = {
    "scores": ("good['conv1'][2] = float('nan')", "pass", "method 'faulty' scores filter 2 of 'conv1' as nan"),
    "network": ("model.conv1.weight.data[3] = 0", "pass", "method 'faulty' changes 'conv1.weight' of the network"),
    "raises": (
        "1 / 0",
        "pass",
        "method 'faulty' fails in score(): ZeroDivisionError: division by zero (method.py, line ",
    ),
    "target": ("pass", "counts = {g.name: g.min_kept for g in groups}", "policy 'faulty' misses the target: it keeps"),
    "layer": ("pass", "counts['fc'] = 3", "policy 'faulty' keeps channels of 'fc', which is none of its"),
    "plan": ("pass", "1 / 0", "policy 'faulty' fails in plan(): ZeroDivisionError: division by zero (method.py, line "),
}


@pytest.mark.parametrize(("score", "plan", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_method_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Path, dense: Path, score: str, plan: str, said: str
) -> None:
    """Of score, of plan and of a suite before it runs; nothing is left."""
    (tmp_path / "methods" / "faulty").mkdir(parents=True)
    code = METHOD.replace("SCORE", score).replace("PLAN", plan)
    (tmp_path / "methods" / "faulty" / "method.py").write_text(code, encoding="utf-8")
    rule = 'use rule score as score_faulty with:\n    wildcard_constraints:\n        variant=variants_of("faulty"),\n'
    (tmp_path / "methods" / "faulty" / "rule.smk").write_text(rule, encoding="utf-8")
    data = ["--dataset", "digits", "--packs", digits.parent, "--images", "8"]
    data += ["--method", "faulty", "--methods-dir", tmp_path / "methods"]
    given = {"train": {"epochs": 1}, "finetune": {"epochs": 0}, "calibration_images": 8}
    suite = {"suite": "x", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["faulty"], **given}
    suite |= {"macs_reductions": [0.5], "seeds": [0], "methods_dirs": [str(tmp_path / "methods")]}
    (tmp_path / "s.yaml").write_text(json.dumps(suite))
    packs = ["--packs", digits.parent, "--threads", "1"]
    if score.startswith("model") or "min_kept" in plan:  # it times other work too: once for score, once for plan
        assert said in one_line(run(capsys, "suite", "check", tmp_path / "s.yaml", *packs, code=2))
    scores = tmp_path / "i.safetensors"
    if score != "pass":
        assert said in one_line(run(capsys, "score", dense, "--out", scores, *data, code=2))
        assert not scores.exists()
        return
    run(capsys, "score", dense, "--out", scores, *data)
    out = ["--out", tmp_path / "p.json", "--macs-reduction", "0.5"]
    assert said in one_line(run(capsys, "plan", dense, "--importance", scores, *data, *out, code=2))
    assert not (tmp_path / "p.json").exists()


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("daar.cli.views.list_names", interrupt)
    assert "goes on from what was saved last" in run(capsys, "list", "methods", code=130)


OUT_OF_MEMORY = (
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes\nmore"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
    ImportError("/x/_cyutility.cpython-311-x86_64-linux-gnu.so: failed to map segment from shared object"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("command", "lower"),
    [
        ("train --network resnet20 --dataset digits --out x", "Lower batch_size in the recipe"),
        ("finetune c --plan p --dataset digits --out x", "Lower batch_size in the recipe"),
        ("score c --dataset digits --out x", "Lower --images"),
        ("latency c", "Lower --batch-sizes"),
        ("measure c --dataset digits", "Close other programs"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, lower: str, error: Exception
) -> None:
    def fail(_: Any) -> None:
        raise error

    name = command.split(maxsplit=1)[0]
    for family in (training, pruning, measuring, deployment):
        if hasattr(family, name):
            monkeypatch.setattr(family, name, fail)
    said = one_line(run(capsys, *command.split(), code=2))
    assert said.startswith("daar: error: out of memory: ")
    assert lower in said


@pytest.mark.parametrize("kind", [RuntimeError, ImportError])
def test_bugs_are_not_dressed_up_as_bad_input(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def fail(_: Any) -> None:
        raise kind("a bug of ours")

    monkeypatch.setattr("daar.cli.views.list_names", fail)
    with pytest.raises(kind, match="a bug of ours"):
        main(["list", "methods"])
