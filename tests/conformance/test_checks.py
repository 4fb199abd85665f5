"""Each check finds the fault that it is for and says how to pass, in one line; `daar method check` runs them all."""

import subprocess
import sys
from pathlib import Path

import pytest

from daar.cli.main import main
from daar.conformance import checks
from daar.methods import discovery
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

METHOD = '''"""A method."""

import random

import numpy as np
import torch
import torch.nn.functional as F

from daar.api import InputError, MethodInfo, filters, ranking, refill_by_importance_per_mac

INFO = MethodInfo(name="mine", title="Mine (Me 2026)", citation="me2026", uses=("weights",), policy="mine")


def score(model, batch, layers, *, seed=0):
    """|w|."""
    scores = {layer: filters(model, layer).abs().sum(dim=(1, 2, 3)) for layer in layers}
    return scores


def plan(groups, importance, macs_target, *, macs, loss):
    """Fills up."""
    if macs_target is None:
        raise InputError("policy 'mine' has no rate of its own. Give a target.")
    worth = {g.name: importance[g.name][ranking(g, importance[g.name])].tolist() for g in groups}
    counts = {group.name: group.min_kept for group in groups}
    return refill_by_importance_per_mac(counts, worth, macs, macs_target)
'''
RULE = """use rule score as score_mine with:
    wildcard_constraints:
        variant=variants_of("mine"),
"""
BIB = "@article{me2026,\n  title = {Mine},\n  author = {Me},\n  year = {2026},\n}\n"
SCORED, RETURNED = "    return scores\n", "    return refill_by_importance_per_mac(counts, worth, macs, macs_target)\n"


def before(fault: str) -> tuple[str, str]:
    """Replace score()'s return."""
    return SCORED, f"    {fault}\n{SCORED}"


def folder(root: Path, *changes: tuple[str, str], name: str = "method.py", **files: str) -> Path:
    (root / "mine").mkdir(parents=True)
    text = METHOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    for file, content in {"method.py": text, "rule.smk": RULE, "references.bib": BIB, **files}.items():
        (root / "mine" / file).write_text(content, encoding="utf-8")
    return root / "mine"


# seed=0 is an option that changes nothing
NO_SEED = ("*, seed=0", "")
LABELS = ("scores = {", "F.cross_entropy(model(batch.images), batch.labels)\n    scores = {")
FAULTS = {
    "metadata": (('uses=("weights",)', "uses=()"), "INFO.uses to name what scores depend on; got .*Name weights"),
    "documentation": (('    """|w|."""\n', ""), r"expected a docstring of score\(\); got none. Say what it does"),
    "bibliography": (
        ('citation="me2026"', 'citation="you"'),
        "expected the key 'you' in references.bib; got .*Add",
    ),
    "imports": (("import random", "import scipy"), "got scipy in method.py. Ask for what is missing in daar.api"),
    "scores-have-the-right-form": (
        before("scores = {layer: torch.ones(len(vector)) for layer, vector in scores.items()}"),
        "expected filters of different scores; got the same for all",
    ),
    "scores-of-the-layers-asked-for": (
        ("for layer in layers}", "for layer in ('layer3.0.conv2', *layers)}"),
        "expected scores of .* where only those are asked for; got .*Loop over the argument `layers`",
    ),
    "scores-are-deterministic": (
        before("scores[layers[0]] = torch.rand(16)"),
        "expected the same scores twice; got others after other random numbers. Declare the option `seed",
    ),
    "scores-under-no_grad": (
        before("with torch.no_grad(): model(batch.images).sum().backward()"),
        r"fails in score\(\): RuntimeError: .* It wants gradients of what records none: take filter_gradients",
    ),
    "labels-none": (LABELS, r"fails in score\(\): ValueError: .*\(method.py, line \d+\)"),
    "all-left-alone-in-eval-mode": (before("random.random()"), "expected random's state as it was; got another. Draw"),
    "all-left-alone-in-training-mode": (
        before("model.conv1.register_forward_hook(lambda *_: None)"),
        "expected no hooks left in the network; got one on 'conv1'. Call remove",
    ),
    "scores-and-images": (before("scores[layers[0]] += batch.images.mean()"), 'change with images; .*Add "images" to'),
    "scores-and-weights": (
        before("scores = {layer: torch.arange(len(vector)) / 7 for layer, vector in scores.items()}"),
        'expected scores that change with weights; got the same. Take "weights" out of INFO.uses',
    ),
    "another-seed": (("*, seed=0", "*, seed=1"), "expected other scores with another seed; got the same. Draw from"),
    "filters-reordered-in-layer1.0": (
        before("scores['layer1.0.conv1'] += torch.arange(16)"),
        "expected scores of layer1.0.conv1 reordered as its filters; got others, by up to .*Scores belong to filters",
    ),
    "plan-for-none": (("has no rate of its own", "wants a target"), "or one line that it 'has no rate of its own."),
    "plan-for-0.3": ((RETURNED, "    return counts\n"), "policy 'mine' misses the target: it keeps .*Fill the rest up"),
    "plan-for-0.6": (
        (RETURNED, "    importance[groups[0].name] *= 2\n" + RETURNED),
        "expected the importance as it was; got another. Work on a copy",
    ),
}


@pytest.mark.parametrize(("name", "change", "said"), [(name, *fault) for name, fault in FAULTS.items()], ids=FAULTS)
def test_a_check_finds_its_fault(name: str, change: tuple[str, str], said: str, tmp_path: Path) -> None:
    changes = [change] if change[0] == NO_SEED[0] else [NO_SEED, change]
    method = discovery.read_folder(folder(tmp_path, *changes))
    [check] = [check for check in checks.of(method) if check.name == name]
    problem = checks.problem(check, method)
    assert problem is not None
    assert "\n" not in problem
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(problem)


@pytest.mark.parametrize(
    ("files", "name", "said"),
    [
        ({"rule.smk": RULE.replace("mine", "my_method")}, "rule", "Rename both in it, after the folder"),
        ({"rule.smk": "x = 1\n"}, "rule", "neither. Copy baselines/_template/rule.smk"),
        ({"references.bib": BIB.replace("year", "yaer")}, "bibliography", "no year in .*Add it"),
        ({"references.bib": BIB.replace("title =", "subtitle =")}, "bibliography", "no title in .*Add it"),
        ({"references.bib": BIB * 2}, "bibliography", "'me2026' twice. Take one out"),
    ],
)
def test_a_fault_of_another_file_is_found(files: dict[str, str], name: str, said: str, tmp_path: Path) -> None:
    method = discovery.read_folder(folder(tmp_path, NO_SEED, **files))
    [check] = [check for check in checks.of(method) if check.name == name]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(checks.problem(check, method))


def test_without_a_rule_it_says_where_to_get_one(tmp_path: Path) -> None:
    (folder(tmp_path, NO_SEED) / "rule.smk").unlink()
    method = discovery.read_folder(tmp_path / "mine")
    problems = {outcome.check.name: outcome.problem for outcome in checks.outcomes(method) if outcome.problem}
    assert problems == {"rule": "expected rule.smk in the folder; got none. Copy baselines/_template/rule.smk."}


def test_the_command_passes_what_is_right(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["method", "check", str(folder(tmp_path, NO_SEED))])
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "method 'mine' passes all 28 checks"
    assert all(line.endswith(" ok") for line in lines[:-1])
    assert len(lines) == 29


def test_the_command_says_what_is_wrong_and_ends_with_2(tmp_path: Path) -> None:
    """Outside a checkout: from any folder, by the package alone."""
    at = folder(tmp_path, NO_SEED, before("model.conv1.weight.data[3] = 0"))
    command = [sys.executable, "-P", "-m", "daar", "method", "check", "mine"]
    done = subprocess.run(command, cwd=at.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [last] = done.stderr.splitlines()
    assert last.startswith("daar: error: method 'mine' fails ")
    assert "each line above says what to do. See docs/adding-a-method.md." in last
    line = next(line for line in done.stdout.splitlines() if line.startswith("scores-have-the-right-form"))
    assert "FAILS: method 'mine' changes 'conv1.weight' of the network; score() must leave" in line


# a fault that many checks meet: the line that says it, and the checks beyond the form's that are run all the same
WIDESPREAD = {
    "NaN": (before("scores = {k: v / 0 * 0 for k, v in scores.items()}"), "as nan; scores must be finite. Look for", 3),
    "constant": (before("scores = {k: v * 0 for k, v in scores.items()}"), "filters of different scores", 3),
    "changed": (before("model.train()"), "changes the training mode of the network; score() must leave", 0),
}


@pytest.mark.parametrize(("change", "said", "run"), WIDESPREAD.values(), ids=list(WIDESPREAD))
def test_a_fault_of_all_scores_is_said_once(
    change: tuple[str, str], said: str, run: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["method", "check", str(folder(tmp_path, NO_SEED, change))])
    assert ended.value.code == 2
    output = capfd.readouterr()
    lines = output.out.splitlines()
    [failed] = [line for line in lines if "FAILS" in line]
    assert failed.startswith("scores-have-the-right-form")
    assert said in failed
    skipped = 28 - 6 - run  # four of the files, the rule's, the form's
    assert lines[-1].startswith(f"{skipped} other checks ")
    assert "skipped: they need scores that pass scores-have-the-right-form. Mend that first." in lines[-1]
    assert len(lines) == 6 + run + 1
    assert f"'mine' fails 1 of 28 checks ({skipped} skipped); each line above says what to do." in output.err


def test_another_fault_is_said_though_scores_have_not_the_right_form(tmp_path: Path) -> None:
    faults = "scores = {k: v * 0 for k, v in scores.items()}\n    random.random()"
    method = discovery.read_folder(folder(tmp_path, NO_SEED, before(faults)))
    failed = [outcome.check.name for outcome in checks.outcomes(method) if outcome.problem]
    assert failed == ["scores-have-the-right-form", "all-left-alone-in-eval-mode", "all-left-alone-in-training-mode"]


def test_a_hook_on_the_whole_network_is_named(tmp_path: Path) -> None:
    change = before("model.register_forward_hook(lambda *_: None)")
    method = discovery.read_folder(folder(tmp_path, NO_SEED, change))
    [check] = [check for check in checks.of(method) if check.name == "all-left-alone-in-eval-mode"]
    assert "no hooks left in the network; got one on the network itself. Call" in str(checks.problem(check, method))


@pytest.mark.parametrize("end", ["__import__('os')._exit(0)", "__import__('ctypes').string_at(0)"])
def test_a_method_that_ends_the_process_does_not_pass(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["method", "check", str(folder(tmp_path, NO_SEED, before(end)))])
    assert ended.value.code == 2
    assert "'mine' should return from every check, but ended the process in the one after" in capfd.readouterr().err


@pytest.mark.parametrize("make", [None, "empty"])
def test_a_folder_that_is_none_is_said(make: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if make:
        (tmp_path / "mine").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["method", "check", str(tmp_path / "mine")])
    assert ended.value.code == 2
    assert "should be the folder of a method, with method.py and rule.smk, or of a policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "entry",
    [
        "@misc{me2026, author={Me}, title={T}, year={2026}}\n",
        '@article{me2026,\n  Title = "T",\n  AUTHOR = "Me",\n  year = 2026\n}\n',
    ],
)
def test_bibtex_may_be_written_as_bibtex_is(entry: str, tmp_path: Path) -> None:
    method = discovery.read_folder(folder(tmp_path, NO_SEED, **{"references.bib": entry}))
    [check] = [check for check in checks.of(method) if check.name == "bibliography"]
    assert checks.problem(check, method) is None


@pytest.mark.parametrize("name", ["uniform", "published-mine", "erk"])
def test_a_policy_s_name_is_its_own(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    info = f'PolicyInfo(name="{name}", title="Mine", citation="me2026")'
    (place / "policy.py").write_text(f"from daar.api import PolicyInfo\nINFO = {info}\ndef plan(groups): pass\n")
    check = next(check for check in checks.of(discovery.read_folder(place)) if check.name == "metadata")
    assert f"expected a name that no other policy has; got '{name}'" in str(
        checks.problem(check, discovery.read_folder(place))
    )
