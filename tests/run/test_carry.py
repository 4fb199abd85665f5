"""Kept records carried over from an earlier checkout, which is a copy of the present tree with one edit."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from daar import models
from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import loading
from daar.errors import InputError
from daar.methods import discovery
from daar.pruning import plan as plans
from daar.run import reuse
from daar.run.carry import FILE, Outcome, carry
from daar.run.checkout import Checkout
from daar.stages.plan import plan
from daar.stages.score import score
from daar.storage.bundled import BASELINES, PACKAGE, ROOT
from daar.suite import reading
from daar.suite.definition import Suite
from tests.code.real_tree import edited
from tests.code.trees import write
from tests.report.test_collect import record as make_record

SUITE: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0]},
    **{"methods": ["l1"], "variants": {"at": {"random_at": "l1"}, "fresh": {"scratch_of": "l1"}}},
    **{"calibration_images": 64, "finetune": {"epochs": 1, "batch_size": 128}, "train": {"epochs": 1}},
}
L1 = "baselines/l1/method.py"
# of the same bits, of other scores
DOUBLE_ABS = (L1, ".abs().sum(", ".abs().abs().sum(")
SQUARED = (L1, ".abs().sum(", ".abs().pow(2).sum(")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Both codes run on one thread, all other tests on two."""
    yield
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the present tree, committed; who edits it puts it back."""
    to = tmp_path_factory.mktemp("earlier")
    for folder in (PACKAGE, BASELINES, ROOT / "workflow"):
        shutil.copytree(folder, to / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", to)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        git(*command, at=to)
    return to


def git(*command: str, at: Path) -> None:
    subprocess.run(["git", "-C", str(at), "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)


class Kept(NamedTuple):
    """A suite of which records were kept.

    Attributes:
        folder: with the suite's file, results and reference.
        root: the earlier checkout.
    """

    folder: Path
    root: Path

    @property
    def file(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def suite(self) -> Suite:
        return reading.load(self.file)

    def path(self, variant: str, name: str = "record.json") -> Path:
        return self.folder / "reference" / "tiny" / self.setting(variant) / name

    def setting(self, variant: str) -> str:
        return next(setting.path for setting in self.suite.settings if setting.variant.name == variant)

    def keep(self, variant: str, **changes: Any) -> None:
        """Records of the earlier code as it is now."""
        base = self.folder / "results" / "dense" / self.suite.dense_path("digits", "resnet20", 0)
        sha256 = json.loads((base / "model.json").read_text())["weights_sha256"]
        made_from = self.earlier().follow(self.file)[self.setting(variant)]["made_from"]
        content = make_record(suite="tiny", variant=variant, made_from=made_from, base__sha256=sha256)
        self.path(variant).write_text(json.dumps({**content, **changes}))

    def earlier(self) -> Checkout:
        """The checkout with its edits, committed."""
        if subprocess.run(["git", "-C", str(self.root), "diff", "--quiet"], check=False).returncode:
            git("commit", "-q", "-am", "edited", at=self.root)
        return Checkout(self.root)

    def carry(self, sample: int = 0, say: Any = lambda _: None) -> Outcome:
        results, reference = self.folder / "results", self.folder / "reference"
        earlier = self.earlier()
        return carry(self.suite, self.file, earlier, results=results, reference=reference, sample=sample, say=say)

    def log(self) -> list[dict[str, Any]]:
        return list(json.loads((self.folder / "reference" / "tiny" / FILE).read_text())["entries"])

    def bears_today_s_hash(self, variant: str) -> bool:
        setting = next(setting for setting in self.suite.settings if setting.variant.name == variant)
        return bool(json.loads(self.path(variant).read_text())["made_from"] == reuse.made_from(self.suite, setting))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Folder of a dense checkpoint with fresh weights: what is compared does not ask how good a network is."""
    out, pack = tmp_path_factory.mktemp("untrained"), loading.load(digits / "train.safetensors")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get("resnet20").build(10)
    about = Description(
        network="resnet20",
        dataset="digits",
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=pack.mean,
        std=pack.std,
        trained_on=("train",),
        plan=None,
        provenance={"seed": 0},
    )
    checkpoint.save(out, model, about)
    return out


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, digits: Path, untrained: Path) -> Path:
    """importance.safetensors and plan.json by l1, on one thread."""
    out, device = tmp_path_factory.mktemp("planned"), torch.device("cpu")
    torch.set_num_threads(1)
    given: dict[str, Any] = {"method": discovery.get("l1"), "options": {}, "seed": 0, "images": 64, "device": device}
    score(base=untrained, packs=digits, out=out / "importance.safetensors", **given)
    how: dict[str, Any] = {"policy": "uniform", "scope": "all", "target": 0.5}
    plan(base=untrained, packs=digits, scores=out / "importance.safetensors", out=out / "plan.json", **how, **given)
    return out


@pytest.fixture
def kept(tmp_path: Path, root: Path, digits: Path, untrained: Path, planned: Path) -> Kept:
    """Results and a plan of l1's, without a record."""
    found = Kept(tmp_path, root)
    found.file.write_text(yaml.safe_dump(SUITE))
    for made, path in (
        (digits, "data/digits"),
        (untrained, f"dense/{found.suite.dense_path('digits', 'resnet20', 0)}"),
    ):
        place = tmp_path / "results" / path
        place.parent.mkdir(parents=True)
        place.symlink_to(made, target_is_directory=True)
    for variant in ("l1", "at", "fresh"):
        found.path(variant).parent.mkdir(parents=True)
    shutil.copy(planned / "plan.json", found.path("l1", "plan.json"))
    return found


def swap(file: Path) -> None:
    """Another plan of the same widths, as another CPU may make it."""
    content = json.loads(file.read_text())
    group = next(group for group in content["groups"] if len(group["kept"]) < group["size"])
    group["kept"] = sorted([*group["kept"][1:], min(set(range(group["size"])) - set(group["kept"]))])
    file.write_text(json.dumps(content))


def test_records_of_equal_code_are_current(kept: Kept) -> None:
    kept.keep("l1")
    kept.keep("fresh")
    assert kept.carry() == Outcome(carried=0, current=2, refused={})
    assert not (kept.folder / "reference" / "tiny" / FILE).exists()


def test_names_and_words_leave_records_current(kept: Kept) -> None:
    """The earlier code has a constant of another name, and a comment."""
    file = kept.root / "daar" / "training" / "steps.py"
    text = file.read_text()
    assert "_WARM_UP" in text
    file.write_text(text.replace("_WARM_UP", "_FIRST") + "\n# a comment\n")
    try:
        kept.keep("l1")
        assert kept.carry() == Outcome(carried=0, current=1, refused={})
    finally:
        file.write_text(text)


def test_a_record_is_carried_over_where_changed_code_scores_to_the_same_bits(kept: Kept) -> None:
    with edited(kept.root / L1, *DOUBLE_ABS[1:]):
        kept.keep("l1")
        before = json.loads(kept.path("l1").read_text())
        assert kept.carry() == Outcome(carried=1, current=0, refused={})
        commit = kept.earlier().commit
    after = json.loads(kept.path("l1").read_text())
    assert kept.bears_today_s_hash("l1")
    assert {**after, "made_from": None} == {**before, "made_from": None}
    (entry,) = kept.log()
    plan = hashlib.sha256(kept.path("l1", "plan.json").read_bytes()).hexdigest()
    words = {"scores": "the same bits by both", "plan": "as kept", "plan_sha256": plan}
    names = {"before": before["made_from"], "now": after["made_from"]}
    assert entry["records"] == {kept.setting("l1"): {**names, **words}}
    assert entry["from_commit"] == commit
    assert {name for name, code in entry["code"].items() if code["before"] != code["now"]} == {"score resnet20 l1"}
    assert entry["sample"] is None
    # and then there is nothing left to do
    assert kept.carry() == Outcome(carried=0, current=1, refused={})


def test_a_record_is_refused_where_a_fact_of_its_dataset_has_changed(kept: Kept) -> None:
    """The code of no stage differs then, nor do scores and plan."""
    with edited(kept.root / "daar" / "data" / "datasets.py", "flip=False", "flip=True"):
        kept.keep("l1")
        before = kept.path("l1").read_text()
        outcome = kept.carry()
    assert outcome.carried == 0
    assert "follows from another dataset than today" in outcome.refused[kept.setting("l1")]
    assert kept.path("l1").read_text() == before


@pytest.mark.parametrize(
    ("said", "carried"),
    [
        ({"precision": "bf16"}, True),
        ({"precision": "float32"}, False),
        ({"precision": None}, False),
        ({"precision": "float32", "curve": []}, True),  # nothing was trained in it
    ],
)
def test_a_suite_may_fix_the_precision_that_its_records_say(kept: Kept, said: dict[str, Any], carried: bool) -> None:
    kept.keep("l1", **said)
    before, auto = kept.path("l1").read_text(), kept.suite
    kept.file.write_text(yaml.safe_dump({**SUITE, "finetune": {**SUITE["finetune"], "precision": "bf16"}}))
    outcome = kept.carry()
    record = json.loads(kept.path("l1").read_text())
    if carried:
        assert outcome == Outcome(carried=1, current=0, refused={})
        assert record["made_from"] == reuse.made_from(kept.suite, kept.suite.settings[0])
        assert record["recipe"] == kept.suite.finetune.hash != auto.finetune.hash
        assert {**record, "made_from": "", "recipe": ""} == {**json.loads(before), "made_from": "", "recipe": ""}
        assert kept.carry() == Outcome(carried=0, current=1, refused={})
    else:
        assert "another finetune than today" in outcome.refused[kept.setting("l1")]
        assert kept.path("l1").read_text() == before


def test_a_checkout_has_no_changes_and_is_one_of_git_s(kept: Kept, tmp_path: Path) -> None:
    with edited(kept.root / L1, *SQUARED[1:]), pytest.raises(InputError, match="has changes that no commit holds"):
        assert Checkout(kept.root).commit
    root = write(tmp_path / "none", {"daar/__init__.py": ""})
    with pytest.raises(InputError, match="should be a git checkout"):
        assert Checkout(root).commit


def test_a_record_is_refused_where_changed_code_scores_otherwise(kept: Kept) -> None:
    with edited(kept.root / L1, *SQUARED[1:]):
        kept.keep("l1")
        before = kept.path("l1").read_text()
        outcome = kept.carry()
    assert (outcome.carried, outcome.current, set(outcome.refused)) == (0, 0, {kept.setting("l1")})
    assert "other scores" in outcome.refused[kept.setting("l1")]
    assert kept.path("l1").read_text() == before


def test_a_plan_of_another_cpu_is_taken_only_where_both_codes_agree_here(kept: Kept) -> None:
    swap(kept.path("l1", "plan.json"))
    with edited(kept.root / L1, *DOUBLE_ABS[1:]):
        kept.keep("l1")
        record = kept.path("l1").read_text()
        assert kept.carry().carried == 1
        assert kept.log()[0]["records"][kept.setting("l1")]["plan"].startswith("the same by both, but not as kept")
    # another bisection, which ends elsewhere
    with edited(kept.root / "daar" / "pruning" / "policies.py", "for _ in range(60)", "for _ in range(1)"):
        kept.keep("l1")
        record = kept.path("l1").read_text()
        outcome = kept.carry()
    assert "neither the kept one nor" in outcome.refused[kept.setting("l1")]
    assert kept.path("l1").read_text() == record


def test_records_of_other_code_or_another_dense_network_are_refused(kept: Kept) -> None:
    kept.keep("l1", made_from="0" * 12)
    with edited(kept.root / L1, *DOUBLE_ABS[1:]):
        outcome = kept.carry()
        assert "it bears 000000000000, but the code of" in outcome.refused[kept.setting("l1")]
        kept.keep("l1", base={"sha256": "0" * 64, "imported": False, "saw_val": False})
        assert "it is of the dense network 000000000000…" in kept.carry().refused[kept.setting("l1")]


def test_an_interrupted_command_goes_on(kept: Kept) -> None:
    at = plans.load(kept.path("l1", "plan.json"))
    plans.save(kept.path("at", "plan.json"), at)

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with edited(kept.root / L1, *DOUBLE_ABS[1:]):
        kept.keep("l1")
        kept.keep("fresh")
        with pytest.raises(KeyboardInterrupt):
            kept.carry(say=stop)
        assert [kept.bears_today_s_hash(variant) for variant in ("l1", "fresh")] == [True, False]
        assert kept.carry() == Outcome(carried=1, current=1, refused={})
    (entry,) = kept.log()
    assert set(entry["records"]) == {kept.setting("l1"), kept.setting("fresh")}
    assert entry["records"][kept.setting("fresh")]["scores"] == "none of its own"


def test_changed_training_wants_a_sample(kept: Kept) -> None:
    with edited(kept.root / "daar" / "training" / "recalibrate.py", "batch_size: int = 128", "batch_size: int = 256"):
        kept.keep("l1")
        before = kept.path("l1").read_text()
        with pytest.raises(InputError, match=r"has changed: finetune resnet20\. Say by --retune N"):
            kept.carry()
    assert kept.path("l1").read_text() == before


@pytest.mark.slow
def test_a_sample_tuned_to_the_same_bytes_by_both_is_evidence(kept: Kept) -> None:
    # 64 images are one batch by both
    with edited(kept.root / "daar" / "training" / "recalibrate.py", "batch_size: int = 128", "batch_size: int = 256"):
        kept.keep("l1")
        assert kept.carry(sample=3) == Outcome(carried=1, current=0, refused={})
    (entry,) = kept.log()
    assert entry["sample"] == {"changed": ["finetune resnet20"], "out_of": 1, "tuned_by_both": [kept.setting("l1")]}


@pytest.mark.slow
def test_a_network_from_scratch_is_trained_by_both(kept: Kept) -> None:
    """Code that only it runs has changed: to tune others would be no evidence."""
    kept_epochs, other = "train.epochs + tuning_epochs\n", "tuning_epochs + train.epochs\n"
    with edited(kept.root / "daar" / "training" / "budget.py", kept_epochs, other):
        kept.keep("l1")
        kept.keep("fresh")
        assert kept.carry(sample=1) == Outcome(carried=1, current=1, refused={})
    (entry,) = kept.log()
    assert entry["sample"] == {"changed": ["scratch resnet20"], "out_of": 1, "tuned_by_both": [kept.setting("fresh")]}


@pytest.mark.slow
def test_a_sample_tuned_to_other_bytes_carries_nothing_over(kept: Kept) -> None:
    with edited(kept.root / "daar" / "data" / "augmentation.py", "2 * padding + 1", "2 * padding"):
        kept.keep("l1")
        before = kept.path("l1").read_text()
        with pytest.raises(InputError, match="to other bytes"):
            kept.carry(sample=1)
    assert kept.path("l1").read_text() == before


# The checkout


def test_what_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should be a checkout of daar, but has no daar/__init__\.py"):
        Checkout(tmp_path)


def test_a_checkout_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    root = write(tmp_path, {"daar/__init__.py": "raise OSError('no such thing')\n"})
    with pytest.raises(InputError, match=r"failed: OSError: no such thing\."):
        Checkout(root).follow(tmp_path / "suite.yaml")


def test_of_a_checkout_of_before_the_markers_the_list_of_neutral_modules_counts(tmp_path: Path) -> None:
    code = {"daar/__init__.py": "", "daar/a.py": "from daar import b\n\ndef m():\n    return b.read()\n"}
    marked = 'RESULT_NEUTRAL = "reads"\n\ndef read():\n    return 1\n'
    listed = {"daar/b.py": "def read():\n    return 2\n", "daar/provenance.py": '_INDIFFERENT = {"daar.b"}\n'}
    now = Checkout(write(tmp_path / "now", {**code, "daar/b.py": marked}))
    before = Checkout(write(tmp_path / "before", {**code, **listed}))
    assert before.sources().code_hash(["daar.a:m"]) == now.sources().code_hash(["daar.a:m"])
