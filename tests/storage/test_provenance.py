import shutil
from pathlib import Path

import pytest

from daar.storage import provenance

STAGES = ["train", "import_weights", "score", "plan", "finetune", "measure", "record"]


def test_hash_ignores_comments_docstrings_and_layout(tmp_path: Path) -> None:
    one, other, changed = (tmp_path / name for name in ("one.py", "other.py", "changed.py"))
    one.write_text('"""What."""\n\n\ndef f(x):\n    """Why."""\n    return x + 1  # because\n')
    other.write_text("def f( x ):\n    return (x\n        + 1)\n")
    changed.write_text("def f(x):\n    return x + 2\n")
    hashes = [provenance.code_hash("daar.device.randomness", files=[path]) for path in (one, other, changed)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("stage", "depends", "does_not"),
    [
        ("train", "daar.training.engine", "daar.pruning.slim"),
        ("train", "daar.data.augmentation", "daar.cli.main"),
        ("train", "daar.training.recipe", "daar.suite.definition"),
        ("score", "daar.api", "daar.training.engine"),
        ("plan", "daar.pruning.policies", "daar.report.tables"),
        ("finetune", "daar.pruning.slim", "daar.report.collect"),
        ("finetune", "daar.training.recalibrate", "daar.cli.training"),
        ("record", "daar.measure.accuracy", "daar.report.figures"),
    ],
)
def test_a_stage_depends_on_what_shapes_its_result_and_on_nothing_else(stage: str, depends: str, does_not: str) -> None:
    found = provenance._closure(f"daar.stages.{stage}")
    assert depends in found
    assert does_not not in found


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_commands_or_reports(stage: str) -> None:
    for module in provenance._closure(f"daar.stages.{stage}"):
        assert module.split(".")[1] not in ("cli", "commands", "report", "gpu", "bench", "preflight"), module


def test_packing_depends_on_readers_and_splits() -> None:
    assert {"daar.data.readers", "daar.data.splits"} <= provenance._closure("daar.data.packed")


def test_a_network_s_hash_is_its_family_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hashes() -> dict[str, str]:
        provenance.forget()
        return {name: provenance.code_hash("daar.stages.train", network=name) for name in ("resnet20", "vgg16_bn")}

    shutil.copytree(provenance.PACKAGE, tmp_path / "daar")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "daar")
    before = hashes()
    for path, marks in [
        ("models/vgg_cifar.py", {"vgg16_bn"}),
        ("training/engine.py", {"resnet20", "vgg16_bn"}),
        ("models/__init__.py", set()),
    ]:
        file = tmp_path / "daar" / path
        text = file.read_text()
        file.write_text(text + "\n# a comment\n")
        assert hashes() == before, path
        file.write_text(text + "\n_EDITED = 1\n")
        assert {name for name, value in hashes().items() if value != before[name]} == marks, path
        file.write_text(text)
    provenance.forget()


def test_a_hash_does_not_depend_on_which_were_asked_for_before() -> None:
    provenance.forget()
    alone = provenance.code_hash("daar.stages.train")
    provenance.code_hash("daar.stages.train", network="vgg16_bn")
    provenance._hash.cache_clear()
    assert provenance.code_hash("daar.stages.train") == alone


def test_environment_says_where_a_number_was_made() -> None:
    found = provenance.environment()
    assert found["versions"]["torch"].startswith("2.")
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["cpu"]
    assert found["threads"] >= 1
