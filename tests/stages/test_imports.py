"""What each stage loads, run as the workflow runs it: a start is most of what a small stage costs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from daar.storage.bundled import ROOT
from tests.loaded import Loaded
from tests.loaded import loaded as having_loaded
from tests.report.report_files import write_importance
from tests.report.report_rows import DAAR, L1, csv

# the command, and then which of the modules named first it has loaded
COMMAND = """
import atexit, sys
names = sys.argv[1].split(",")
atexit.register(lambda: print("loaded", *[name for name in names if name in sys.modules]))
sys.argv[:2] = ["daar"]
from daar.__main__ import main
main()
"""
# torch's compiler, what only some networks or data need, and what only reports or mistakes need
HEAVY = (
    "torch._dynamo", "torch._inductor", "torchvision", "sklearn", "onnx", "onnxruntime", "pandas", "matplotlib",
    "scipy.stats", "jsonschema", "snakemake",
)  # fmt: skip
RECIPE = json.dumps({"epochs": 1, "lr": 0.01, "batch_size": 256})
COMMON = ("--dataset", "digits", "--images", "16", "--threads", "1", "--seed", "0")


def loaded(
    names: tuple[str, ...], *arguments: object, cwd: Path | None = None, python: Loaded | None = None
) -> list[str]:
    """Those of the modules that a command has loaded when it ends; `python` has torch to begin with."""
    command = [*(python.command if python else (sys.executable, "-P", "-c")), COMMAND]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, ",".join(names), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False,
        env=python.environment(os.environ) if python else environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.fixture(scope="module")
def with_torch() -> Iterator[Loaded]:
    """Every stage that computes loads torch; here a fork has it, alone."""
    with having_loaded("import torch") as python:
        yield python


class Made(NamedTuple):
    """Packed images, a dense network, and the folder of a setting that stages have filled, with what each loaded."""

    packs: Path
    dense: Path
    setting: Path
    loaded: dict[str, list[str]]


@pytest.fixture(scope="module")
def made(digits: Path, dense: Path, with_torch: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Made:
    setting = tmp_path_factory.mktemp("setting")
    packs, method = ("--packs", digits.parent), ("--method=l1", "--options={}")
    importance, plan, measured = setting / "importance.safetensors", setting / "plan.json", setting / "measured.json"
    uniform = ("--policy", "uniform", "--scope", "all", "--macs-reduction", "0.5")
    tuning = ("--plan", plan, *COMMON, *packs, "--recipe", RECIPE)
    of_suite = ("--suite", "tiny", "--variant", "l1", "--made-from", "0" * 12, "--base-measured", measured)
    stages = {
        "train": ("train", "--network", "resnet20", *COMMON[:2], *COMMON[4:], *packs, "--recipe", RECIPE, "--out",
                  setting / "trained"),
        "measure": ("measure", dense, "--dataset", "digits", *packs, "--out", measured),
        "score": ("score", dense, *method, *COMMON, *packs, "--out", importance),
        "plan": ("plan", dense, "--importance", importance, *method, *uniform, *COMMON, *packs, "--out", plan),
        "random-at": ("random-at", dense, "--plan", plan, "--out", setting / "random.json"),
        "explain": ("explain", dense, "--plan", plan, "--method=daar", "--options={}", *COMMON, *packs, "--out",
                    setting / "attention.safetensors"),
        "finetune": ("finetune", dense, *tuning, "--out", setting),
        "scratch": ("scratch", dense, *tuning, "--tuning-epochs", "0", "--out", setting / "scratch"),
        "record": ("record", setting, "--base", dense, *of_suite, *method, *COMMON, *packs, "--out",
                   setting / "record.json"),
        "reuse": ("reuse", setting / "record.json", "--base", dense, "--out", setting / "again" / "record.json"),
    }  # fmt: skip
    found = {name: loaded(HEAVY, *given, python=with_torch) for name, given in stages.items()}
    return Made(digits, dense, setting, found)


@pytest.mark.parametrize(
    "stage",
    ["train", "measure", "score", "plan", "random-at", "explain", "finetune", "scratch", "record", "reuse"],
)
def test_a_stage_loads_nothing_heavy(made: Made, stage: str) -> None:
    assert made.loaded[stage] == []


def test_latency_loads_the_compiler_only_for_its_export(made: Made, with_torch: Loaded) -> None:
    given = ("latency", made.dense, "--batch-sizes", "1", "--rounds", "2", "--no-onnxruntime")
    assert loaded(HEAVY, *given, python=with_torch) == []


def test_packing_loads_what_reads_the_source_alone(tmp_path: Path) -> None:
    names = ("torch._dynamo", "torchvision", "matplotlib", "sklearn")
    assert loaded(names, "data", "prepare", "digits", "--out", tmp_path / "digits") == ["sklearn"]


LIGHT = ("torch", "torchvision", "matplotlib", "scipy.stats", "jsonschema", "sklearn", "snakemake")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("tables", []), ("ledger", []), ("published", []), ("page", []),
        ("accuracy-macs", ["matplotlib"]), ("rank-correlation", ["matplotlib"]),
    ],
)  # fmt: skip
def test_a_report_loads_no_torch_and_matplotlib_for_figures_alone(
    tmp_path: Path, part: str, expected: list[str]
) -> None:
    suite = {
        "suite": "paper", "datasets": ["cifar10"], "networks": ["resnet56"], "methods": ["daar", "l1"],
        "policies": ["uniform"], "macs_reductions": [0.5], "seeds": [0, 1, 2], "finetune": {"epochs": 1},
    }  # fmt: skip
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    folder = tmp_path / "results" / "paper"
    folder.mkdir(parents=True)
    csv(folder, L1, [{**row, "policy": "uniform"} for row in DAAR])
    for name in ("l1", "daar") if part == "rank-correlation" else ():
        for seed in range(3):
            write_importance(folder / "cifar10" / "resnet56" / f"seed{seed}" / name, seed)
    assert loaded(LIGHT, "report", "suite.yaml", "--only", part, cwd=tmp_path) == expected


def test_collecting_needs_pandas_alone(made: Made, tmp_path: Path) -> None:
    suite = {
        "suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1"], "policies": ["uniform"],
        "macs_reductions": [0.5], "seeds": [0], "finetune": {"epochs": 1},
    }  # fmt: skip
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    place = tmp_path / "results/tiny/digits/resnet20/seed0/l1/uniform-all-0.5"
    place.mkdir(parents=True)
    (place / "record.json").write_bytes((made.setting / "record.json").read_bytes())
    names = (*LIGHT, "scipy", "pandas")
    assert loaded(names, "report", "suite.yaml", "--only", "collect", cwd=tmp_path) == ["pandas"]


def test_writing_a_suite_needs_no_numbers(tmp_path: Path) -> None:
    suite = {"suite": "s", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0]}
    given = json.dumps({**suite, "finetune": {"epochs": 1}})
    assert loaded((*LIGHT, "numpy"), "suite", "write", given, "--out", tmp_path / "suite.json") == []
