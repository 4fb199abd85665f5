"""The table of what defines each stage's result: it names what is there, and each rule asks for its own."""

import ast
import re
from pathlib import Path

import pytest

from daar import models
from daar.code.sources import Sources
from daar.methods import discovery
from daar.run import code
from daar.storage import bundled
from daar.suite import figures


def functions(module: str) -> set[str]:
    """Functions at the top of a module, by its source."""
    tree = ast.parse((bundled.PACKAGE.parent / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("stage", code.STAGES)
def test_every_entry_is_a_function_and_every_file_is_there(stage: str) -> None:
    for network in (None, "resnet20"):
        for entry in code.defined_by(stage, network=network)[0]:
            module, _, function = entry.partition(":")
            assert function in functions(module)
    assert all(path.exists() for path in code.STAGES[stage].data)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_a_network_counts_by_its_own_family(name: str) -> None:
    module = models.get(name).module
    own = {
        stage: [entry for entry in code.defined_by(stage, network=name)[0] if entry.startswith("daar.models")]
        for stage in ("train", "finetune", "latency")
    }
    assert own == {"train": [f"{module}:build", f"{module}:initialise"], "finetune": [f"{module}:build"], "latency": []}


def test_every_rule_has_the_hash_of_its_own_stage() -> None:
    """Rules that inherit (`use rule`) inherit it."""
    asked = {}
    for file in sorted((bundled.ROOT / "workflow" / "rules").glob("*.smk")):
        for part in re.split(r"^(?= *rule\b)", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
            if rule := re.match(r" *rule (\w+):", part):
                asked[rule[1]] = re.findall(r'code=dag\.code\("(\w+)"\)', part)
    without = {"suite", "reuse"}  # what they write is their input
    assert {rule for rule, stages in asked.items() if not stages} == without
    assert {rule: stages for rule, stages in asked.items() if stages and stages != [rule]} == {}
    assert set(asked) - without | {figures.rule(kind) for kind in figures.KINDS} == set(code.STAGES)


def test_files_and_folders_count_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = tmp_path / "a.csv", tmp_path / "templates"
    folder.mkdir()
    file.write_text("a")
    (folder / "one").write_text("1")
    own = code.STAGES["ledger"].entries

    def hashed(*data: Path) -> str:
        monkeypatch.setitem(code.STAGES, "ledger", code.Stage(own, data=data))
        monkeypatch.setattr(code, "HERE", Sources(bundled.PACKAGE.parent))  # which reads a file once
        return code.of("ledger")

    seen = [hashed(), hashed(file), hashed(folder), hashed(file, folder)]
    file.write_text("b")
    seen += [hashed(file), hashed(file, folder)]
    (folder / "one").write_text("2")
    seen += [hashed(folder)]
    (folder / "two").write_text("2")
    seen += [hashed(folder)]
    assert len(set(seen)) == len(seen)
    assert hashed(folder) == seen[-1]


def test_only_what_a_stage_uses_counts() -> None:
    l1, hrank = (discovery.get(name) for name in ("l1", "hrank"))
    assert code.of("score", method=l1) != code.of("score", method=hrank)
    assert code.of("finetune", method=l1) == code.of("finetune", method=hrank) == code.of("finetune")
    # DAAR brings this policy
    assert code.of("plan", policy="adaptive") != code.of("plan", policy="uniform") == code.of("plan")
    assert code.of("score", policy="adaptive") == code.of("score")
    assert code.of("latency", network="resnet20") == code.of("latency")
    assert code.of("train", network="resnet20") != code.of("train", network="vgg16_bn")
