"""Whatever a file holds that a command reads, it ends with exit code 0, or with 2 and one line; never a traceback."""

import json
import os
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
import yaml

from daar.cli.main import main
from daar.data import packed
from daar.data.readers import Part
from daar.run import start
from tests.cli import mutations

# /dev/zero and alarms
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")

# a hang, not slowness
_PATIENCE_SECONDS = 300
SUITE = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1", "random"], "seeds": [0]},
    **{"macs_reductions": [0.5], "policies": ["uniform"], "scope": "all", "calibration_images": 32, "latency": True},
    **{"finetune": {"epochs": 0}, "stability": {"images": [8, 16], "seeds": 2, "variants": ["random"]}},
}

Mutate = Callable[[bytes, random.Random], bytes]


class Target(NamedTuple):
    """A file, how it may be damaged beyond its bytes, and a command that reads it."""

    file: Path
    mutate: Mutate
    command: list[Any]


def call(*arguments: Any) -> int:
    """Exit code of a command in this process."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def sealed(content: bytes, dice: random.Random) -> bytes:
    """A damaged pack whose checksum is right."""

    def seal(document: dict[str, Any], tensors: dict[str, Any]) -> None:
        about = {key: value for key, value in document.items() if key not in ("version", "checksum")}
        document["checksum"] = packed._checksum(about, Part(tensors["images"], tensors["labels"]))

    return mutations.in_safetensors(content, dice, seal)


@pytest.fixture(scope="module")
def tree(digits: Path, dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run's files, of two methods: everything that a command may be given."""
    root = tmp_path_factory.mktemp("run")
    results = root / "results"
    packs, base = results / "data", results / "dense" / "digits" / "resnet20" / "0123456789ab" / "seed0"
    shutil.copytree(digits, packs / "digits")
    shutil.copytree(dense, base)
    (root / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    images = ["--dataset", "digits", "--packs", packs]
    home = results / "tiny" / "digits" / "resnet20"
    assert call("measure", base, *images, "--out", base / "measured.json") == 0
    for method in ("l1", "random"):
        variant = home / "seed0" / method
        setting, options = variant / "uniform-all-0.5", ["--method", method, "--images", 32, *images]
        plan = ["--policy", "uniform", "--macs-reduction", 0.5, "--out", setting / "plan.json"]
        assert call("score", base, *options, "--out", variant / "importance.safetensors") == 0
        assert call("plan", base, "--importance", variant / "importance.safetensors", *options, *plan) == 0
        tune = ["--plan", setting / "plan.json", "--images", 32, *images, "--epochs", 0]
        assert call("finetune", base, *tune, "--out", setting) == 0
        (variant / "score.benchmark.tsv").write_text("s\th:m:s\tmax_rss\n1.5\t0:00:01\t200.25\n")
        assert call(*record(base, setting, method, images, setting / "record.json")) == 0
        times = ["--rounds", 2, "--batch-sizes", 1, "--no-onnxruntime", "--out", setting / "latency.json"]
        assert call("latency", setting, *times) == 0
    found = ["--images", 8, 16, "--seeds", 0, 1, "--method", "random", *images]
    assert call("stability", base, *found, "--out", home / "stability" / "random.json") == 0
    assert call("suite", "write", json.dumps(SUITE), "--out", results / "tiny" / "suite.json") == 0
    (root / "recipe.yaml").write_text("epochs: 1\nlr: 0.1\n")
    shutil.copytree(Path("baselines/_template"), root / "methods" / "mine", dirs_exist_ok=True)
    text = (root / "methods/mine/method.py").read_text()
    (root / "methods/mine/method.py").write_text(text.replace('name="my_method"', 'name="mine"'))
    return root


def record(base: Path, setting: Path, method: str, images: list[Any], out: Path) -> list[Any]:
    """The command that measures a setting."""
    command = ["record", setting, "--base", base, "--base-measured", base / "measured.json", "--suite", "tiny"]
    command += ["--variant", method, "--method", method, *images, "--images", 32, "--out", out]
    return [*command, "--benchmarks", f"score={setting.parent / 'score.benchmark.tsv'}"]


@pytest.fixture(scope="module")
def targets(tree: Path) -> list[Target]:
    """Every kind of file, with a command that reads it."""
    results, scratch = tree / "results", tree / "scratch"
    packs = results / "data" / "digits"
    base = next(results.glob("dense/*/*/*/seed0"))
    setting = results / "tiny/digits/resnet20/seed0/l1/uniform-all-0.5"
    images = ["--dataset", "digits", "--packs", packs.parent]
    report = ["report", tree / "tiny.yaml", "--results", results, "--only"]
    assert call(*report, "collect") == 0
    in_json, in_tensors = mutations.in_json, mutations.in_safetensors
    plan = setting / "plan.json"
    draw = ["random-at", base, "--plan", plan, "--out", scratch / "plan.json"]
    options = ["--method", "l1", "--policy", "uniform", "--macs-reduction", 0.5, "--images", 32, *images]
    again = ["plan", base, "--importance", setting.parent / "importance.safetensors", *options]
    take = ["reuse", setting / "record.json", "--base", base, "--out", scratch / "record.json"]
    rerun = ["reproduce", setting / "record.json", "--out", scratch / "again"]
    recipe, methods = tree / "recipe.yaml", tree / "methods"
    unknown = ["--dataset", "none", "--out", scratch / "trained"]  # read after the recipe, and nothing is trained
    return [
        Target(packs / "test.safetensors", sealed, ["data", "check", packs]),
        Target(packs / "train.safetensors", sealed, ["score", base, *images, "--images", 32, "--out", scratch / "s"]),
        Target(packs / "source.json", in_json, ["data", "check", packs]),
        Target(base / "model.json", in_json, draw),
        Target(setting / "model.json", in_json, ["random-at", setting, "--plan", plan, "--out", scratch / "p"]),
        Target(plan, in_json, draw),
        Target(plan, in_json, take),
        Target(plan, in_json, [*report, "pruning-ratios"]),
        Target(setting.parent / "importance.safetensors", in_tensors, [*again, "--out", scratch / "plan.json"]),
        Target(setting.parent / "importance.safetensors", in_tensors, [*report, "rank-correlation"]),
        Target(setting / "record.json", in_json, [*report, "collect"]),
        Target(setting / "record.json", in_json, take),
        Target(setting / "record.json", in_json, rerun),
        Target(results / "tiny/suite.json", in_json, rerun),
        Target(setting / "latency.json", in_json, [*report, "collect"]),
        Target(results / "tiny/results.csv", mutations.in_csv, [*report, "tables"]),
        Target(results / "tiny/results.csv", mutations.in_csv, [*report, "ledger"]),
        Target(results / "tiny/digits/resnet20/stability/random.json", in_json, [*report, "stability"]),
        Target(base / "measured.json", in_json, record(base, setting, "l1", images, scratch / "record.json")),
        Target(recipe, mutations.in_bytes, ["train", "--network", "resnet20", "--recipe", recipe, *unknown]),
        Target(methods / "mine/method.py", mutations.in_bytes, ["list", "methods", "--methods-dir", methods]),
    ]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hang, and no run of Snakemake."""

    def hangs(_: int, __: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    monkeypatch.setattr(start, "run", lambda *_, **__: 1)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def require_one_line(targets: list[Target], count: int, seed: int, capsys: pytest.CaptureFixture[str]) -> int:
    """Damage files one after another and put them back; gives how many were refused."""
    dice = random.Random(seed)
    refused = 0
    for case in range(count):
        target = targets[case % len(targets)]
        whole = target.file.read_bytes()
        mutate = mutations.in_bytes if dice.random() < 0.3 else target.mutate
        damaged = mutate(whole, dice)
        kept = target.file.with_name("whole")
        target.file.rename(kept)
        shutil.rmtree(target.file.parents[0] / "again", ignore_errors=True)
        try:
            target.file.write_bytes(damaged)
            signal.alarm(_PATIENCE_SECONDS)
            with warnings.catch_warnings(action="ignore"):
                code = call(*target.command)
        except BaseException as error:
            raise AssertionError(f"case {case} of seed {seed}, {target}: {damaged[:3000]!r}") from error
        finally:
            signal.alarm(0)
            kept.replace(target.file)
        errors = capsys.readouterr().err
        said = f"case {case} of seed {seed}, {target}: {code}, {errors[:2000]}\n{damaged[:3000]!r}"
        assert code in (0, 2), said
        if code == 2:
            refused += 1
            assert errors.startswith("daar: error: "), said
            assert errors.count("\n") == 1, said
            assert len(errors) < 3000, said
    return refused


def test_any_damage_gives_one_line(targets: list[Target], capsys: pytest.CaptureFixture[str]) -> None:
    count = 105  # five of each target
    assert require_one_line(targets, count, 0, capsys) > count / 2


@pytest.mark.slow
def test_any_damage_gives_one_line_at_length(targets: list[Target], capsys: pytest.CaptureFixture[str]) -> None:
    count = 5_000
    assert require_one_line(targets, count, 1, capsys) > count / 2


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a device", "a loop of links", "absent", "an endless link"])
def test_what_is_no_file_hangs_nothing(targets: list[Target], capsys: pytest.CaptureFixture[str], what: str) -> None:
    made: dict[str, Callable[[Path], Any]] = {
        "a pipe": os.mkfifo,
        "a folder": lambda path: path.mkdir(),
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a loop of links": lambda path: path.symlink_to(path),
        "absent": lambda _: None,
        "an endless link": lambda path: path.symlink_to("/dev/random"),
    }
    for target in targets:
        kept = target.file.with_name("whole")
        target.file.rename(kept)
        try:
            made[what](target.file)
            signal.alarm(_PATIENCE_SECONDS)
            code = call(*target.command)
        finally:
            signal.alarm(0)
            if target.file.is_dir() and not target.file.is_symlink():
                target.file.rmdir()
            kept.replace(target.file)
        errors = capsys.readouterr().err
        # a record needs neither a plan nor a latency next to it
        optional = "reuse" in target.command or target.file.name == "latency.json"
        needed = what not in ("absent", "a loop of links") or not optional
        assert code == 2 or not needed, (target, errors)
        if not code:
            continue
        assert errors.startswith("daar: error: "), (target, errors)
        assert errors.count("\n") == 1, (target, errors)
