"""Policies that folders bring: a method's plan(), or a policy without a method."""

import shutil
from pathlib import Path

import pytest

from daar.cli.main import main
from daar.conformance import checks
from daar.errors import InputError
from daar.methods import discovery, planners
from daar.pruning import policies
from daar.storage import bundled
from tests.methods.test_discovery import GOOD
from tests.methods.test_discovery import folder as method_folder
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

ALONE = """
from daar.api import PolicyInfo

INFO = PolicyInfo(name="alone", title="Alone (Me 2026)", citation="me2026")


def plan(groups, importance, macs_target, *, macs, loss, power: float = 1.0):
    return {}
"""
TEMPLATE, DOC = bundled.BASELINES / "_policy", bundled.ROOT / "docs" / "adding-a-policy.md"


def folder(root: Path, code: str = ALONE, name: str = "alone") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "policy.py").write_text(code, encoding="utf-8")
    return root


def test_a_folder_with_policy_py_is_a_policy_and_no_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = [folder(tmp_path)]
    assert set(discovery.find(extra)) == set(discovery.find())
    found = planners.find(extra)["alone"]
    assert (found.policy, found.is_policy, found.scores, set(found.plans or {})) == ("alone", True, None, {"power"})
    assert discovery.load(found).plan(None, None, None, macs=None, loss=None) == {}
    assert policies.names(extra)["alone"] == "Alone (Me 2026)"
    assert policies.get("alone", extra)(None, None, None, macs=None, loss=None) == {}
    main(["list", "policies", "--methods-dir", str(tmp_path)])
    assert "alone " in capsys.readouterr().out
    main(["list", "methods", "--methods-dir", str(tmp_path)])
    assert "alone" not in capsys.readouterr().out


def test_ours_are_found_and_those_that_measure_are_known() -> None:
    assert {"adaptive", "lamp", "erk"} <= set(planners.find())
    assert planners.measuring() == ["adaptive"]
    assert "shapes" in planners.find()["erk"].given


@pytest.mark.parametrize(
    ("body", "reads"),
    [
        ("return {}", False),
        ("return {'a': loss({})}", True),
        ("def inner():\n        return loss({})\n    return inner()", True),
    ],
)
def test_a_policy_measures_if_its_plan_reads_the_loss(tmp_path: Path, body: str, reads: bool) -> None:
    folder(tmp_path, ALONE.replace("return {}", body))
    assert ("alone" in planners.measuring([tmp_path])) is reads


def test_what_is_handed_on_counts_as_read(tmp_path: Path) -> None:
    code = ALONE.replace("*, macs, loss, power: float = 1.0", "**rest").replace("return {}", "return other(**rest)")
    assert "alone" in planners.measuring([folder(tmp_path, code)])


def test_a_method_may_have_a_file_of_that_name(tmp_path: Path) -> None:
    method_folder(tmp_path, GOOD)
    (tmp_path / "mine" / "policy.py").write_text(ALONE)
    assert "mine" in discovery.find([tmp_path])
    assert set(discovery.find_policies([tmp_path])) == set(discovery.find_policies())
    assert not discovery.read_folder(tmp_path / "mine").is_policy


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def plan(:\n", r"policy 'alone': .*policy\.py cannot be read: .*It must define INFO and plan\(\)"),
        ("def plan(): pass\n", r"policy\.py defines no INFO = PolicyInfo\(\.\.\.\)\. See docs/adding-a-policy\.md"),
        (ALONE.replace('name="alone"', 'name="other"'), r"INFO\.name in .* is 'other'; .* folder's name, 'alone'"),
    ],
)
def test_a_broken_policy_says_what_is_wrong(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        planners.find([folder(tmp_path, code)])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (ALONE.replace("def plan", "def plans"), None),
        (ALONE.replace("def plan", "async def plan"), None),
        (ALONE.replace("return {}", "raise SystemExit(0)"), r"policy 'alone' fails in plan\(\): SystemExit: 0"),
        (ALONE + "\n1 / 0\n", "policy 'alone' fails to import: ZeroDivisionError"),
        (ALONE.replace("Alone (Me 2026)", " "), "policy 'alone' fails to import: ValueError: .*title is blank"),
        (ALONE.replace("return {}", "1 / 0"), r"policy 'alone' fails in plan\(\)"),
    ],
)
def test_what_only_importing_or_running_shows_is_said_then(tmp_path: Path, code: str, message: str | None) -> None:
    folder(tmp_path, code)
    if message is None:  # without a plan() it is none
        with pytest.raises(InputError, match="unknown policy 'alone'"):
            policies.get("alone", [tmp_path])
        with pytest.raises(InputError, match=r"policy\.py defines no plan\. A policy has INFO and plan\(\)"):
            discovery.load(discovery.read_folder(tmp_path / "alone"))
        return
    with pytest.raises(InputError, match=message):
        policies.get("alone", [tmp_path])(None, None, None, macs=None, loss=None)


def test_two_policies_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    with pytest.raises(InputError, match=r"two policies are named 'alone': .*one.* and .*two.*\. Rename one"):
        planners.find([one, two])
    method_folder(one, GOOD.replace('policy="mine"', 'policy="alone"'))
    with pytest.raises(InputError, match=r"two policies are named 'alone': .*method\.py and .*policy\.py\. Rename one"):
        planners.find([one])


@pytest.mark.parametrize("name", ["uniform", "global", "published-x", "ratios-1"])
def test_names_of_daar_s_own_are_refused(tmp_path: Path, name: str) -> None:
    extra = [folder(tmp_path / "alone", ALONE.replace('"alone"', f'"{name}"'), name)]
    with pytest.raises(InputError, match=rf"is named '{name}', as one of daar's own is\. Give it another name\.$"):
        planners.find(extra)
    method_folder(tmp_path / "method", GOOD.replace('policy="mine"', f'policy="{name}"'))
    with pytest.raises(InputError, match=r"Give it another name, as INFO\.policy"):
        planners.find([tmp_path / "method"])


# the template


def test_a_copy_of_the_template_holds_the_contract(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "fresh")
    code = (tmp_path / "fresh" / "policy.py").read_text(encoding="utf-8")
    assert code.count("my_policy") == 2, "the document and the comments say two places"
    (tmp_path / "fresh" / "policy.py").write_text(code.replace("my_policy", "fresh"), encoding="utf-8")
    assert "fresh" in planners.find([tmp_path])
    outcomes = list(checks.outcomes(discovery.read_folder(tmp_path / "fresh")))
    assert len(outcomes) == 9
    assert [outcome for outcome in outcomes if outcome.problem is not None] == []


def test_the_document_shows_the_template() -> None:
    text = DOC.read_text(encoding="utf-8")
    for command in ("cp -r baselines/_policy baselines/my_policy", "daar method check baselines/my_policy"):
        assert command in text
    shown = [line.strip() for line in (TEMPLATE / "policy.py").read_text(encoding="utf-8").splitlines()]
    assert "within = counts(smallest_ratio(counts, macs, macs_target))" in shown
    assert all(line in text for line in shown if line.startswith(("return", "within", "ordered")))
