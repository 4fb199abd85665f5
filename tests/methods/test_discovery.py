"""Methods are found by their files, and a folder that is none says why."""

import ast
import os
from pathlib import Path

import pytest

from daar.errors import InputError
from daar.methods import discovery
from daar.storage import bundled

GOOD = """
from daar.api import MethodInfo

INFO = MethodInfo(name="mine", title="Mine", citation="me2026", uses=("weights",), policy="mine")


def score(model, batch, layers, *, power=1.0, seed=0):
    return {}


def plan(groups, importance, macs_target, *, macs, loss, steps=10):
    return {}
"""


def folder(root: Path, code: str | None = GOOD, name: str = "mine") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "rule.smk").write_text("use rule score as score_mine\n")
    if code is not None:
        (root / name / "method.py").write_text(code, encoding="utf-8", errors="surrogateescape")
    return root


def test_ours_are_found() -> None:
    found = discovery.find()
    assert {"l1", "random"} <= set(found)
    assert list(found) == sorted(found)
    for name, method in found.items():
        assert method.name == name == method.info["name"]
        assert method.rule.is_file()
        assert method.code in method.sources
    assert found["l1"].info["uses"] == ("weights",)
    assert found["l1"].plans is None
    assert (found["l1"].policy, found["random"].info["control"]) == ("uniform", True)


def test_a_folder_without_a_rule_is_no_method(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "method.py").write_text("1 / 0")
    (tmp_path / "README").write_text("")
    assert set(discovery.find([tmp_path])) - set(discovery.find()) == {"mine"}


def test_a_folder_with_an_underscore_is_no_method(tmp_path: Path) -> None:
    """Not even looked into: its INFO is not that of its folder."""
    folder(tmp_path, name="_draft")
    assert set(discovery.find([tmp_path])) == set(discovery.find())
    assert (bundled.ROOT / "baselines" / "_template" / "rule.smk").exists()
    assert not any("template" in name for name in discovery.find())


def test_an_extra_folder_is_found_and_loaded(tmp_path: Path) -> None:
    method = discovery.get("mine", [folder(tmp_path)])
    assert (set(method.plans or {}), method.policy) == ({"steps"}, "mine")
    module = discovery.load(method)
    assert module.score(None, None, []) == {}
    assert discovery.takes_seed(module.score)
    assert not discovery.takes_seed(module.plan)


def test_a_method_of_several_files_imports_its_own(tmp_path: Path) -> None:
    folder(
        tmp_path, GOOD.replace("def score", "from .parts import HALF\n\n\ndef score").replace("{}", "{'x': HALF}", 1)
    )
    (tmp_path / "mine" / "parts.py").write_text("import torch\n\nHALF = torch.tensor([0.5])\n")
    method = discovery.get("mine", [tmp_path])
    assert discovery.load(method).score(None, None, [])["x"].item() == 0.5
    assert [path.name for path in method.sources] == ["method.py", "parts.py"]


def test_listing_imports_nothing(tmp_path: Path) -> None:
    folder(tmp_path, GOOD + "\nraise RuntimeError('imported')\n")
    assert discovery.find([tmp_path])["mine"].info["title"] == "Mine"


BROKEN: dict[str, tuple[str | None, str]] = {
    "no file": (None, r"method\.py should be the module of method 'mine', but there is no such file"),
    "syntax": ("def score(:\n", r"method 'mine': .*method\.py cannot be read: .*It must define INFO and score\(\)"),
    "NUL": ("INFO = 0\0", r"method 'mine': .*method\.py cannot be read: .*null bytes"),
    "nested": ("x = " + "(" * 5000, r"method 'mine': .*method\.py cannot be read"),
    "not UTF-8": ("\udcff", r"in UTF-8, but byte 0 \(0xff\) is not"),
    "INFO with a list in a set": (GOOD.replace('("weights",)', "{[]}"), "must be written in literals"),
    "no INFO": ("def score(): pass\n", r"method\.py defines no INFO = MethodInfo"),
    "INFO of names": (GOOD.replace('"Mine"', "TITLE"), r"INFO in .*method\.py must be written in literals"),
    "INFO of calls": (GOOD.replace('("weights",)', "frozenset()"), "must be written in literals"),
    "other name": (
        GOOD.replace('name="mine"', 'name="yours"'),
        r"INFO\.name in .* is 'yours'; .* folder's name, 'mine'",
    ),
    "no name": (GOOD.replace('name="mine", ', ""), r"INFO\.name in .* is None; it must be the folder's name"),
}


def test_a_module_that_memory_does_not_suffice_for_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, GOOD)

    def full(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr("daar.methods.discovery.ast.parse", full)
    with pytest.raises(InputError, match="nested too deeply, or no memory is left"):
        discovery.find([tmp_path])


@pytest.mark.parametrize("name", ["a b", "o'brien", "$(ls)", "a;b", "é", "-n", ".m", "a\nb", "a" * 101, "x|y"])
def test_a_folder_whose_name_is_no_name_of_a_method_is_refused(tmp_path: Path, name: str) -> None:
    folder(tmp_path, GOOD)
    (tmp_path / "mine").rename(tmp_path / name)
    with pytest.raises(InputError, match="the folder of a method should have a name of letters, digits"):
        discovery.find([tmp_path])


@pytest.mark.parametrize("root", ["no\0where", "x" * 5000, "none"])
def test_a_folder_of_methods_that_cannot_be_is_named(tmp_path: Path, root: str) -> None:
    with pytest.raises(InputError, match=r"methods folder .* (cannot be read|does not exist)"):
        discovery.find([tmp_path / root])


def test_a_pipe_in_place_of_a_method_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rule.smk").touch()
    os.mkfifo(tmp_path / "mine" / "method.py")
    with pytest.raises(InputError, match="is a pipe"):
        discovery.find([tmp_path])


def test_an_interpreter_or_checkout_that_path_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "PACKAGE", tmp_path / "a:b" / "daar")
    with pytest.raises(InputError, match="has a ':' in its path, which PYTHONPATH cannot have"):
        discovery.export_interpreter()


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_method_says_what_is_wrong(tmp_path: Path, code: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        discovery.find([folder(tmp_path, code)])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (GOOD.replace("def score", "def scores"), r"defines no score\. A method has INFO and score\(\)"),
        (GOOD + "\nimport nonexistent_thing\n", "'mine' fails to import: ModuleNotFoundError: .*nonexistent_thing"),
        (GOOD + "\n1 / 0\n", "'mine' fails to import: ZeroDivisionError: division by zero"),
        (GOOD + "\nraise SystemExit(0)\n", "'mine' fails to import: SystemExit: 0"),
        (GOOD + "\nraise ValueError('a\\nb\\x1b[1m')\n", r"'mine' fails to import: ValueError: a b\\x1b\[1m\. See"),
        (GOOD.replace('citation="me2026"', 'citation=" "'), "'mine' fails to import: ValueError: .*citation is blank"),
        (GOOD.replace('("weights",)', '("gradients",)'), "'mine' fails to import: ValueError: .*uses names"),
    ],
)
def test_what_only_importing_shows_is_said_then(tmp_path: Path, code: str, message: str) -> None:
    method = discovery.get("mine", [folder(tmp_path, code)])
    with pytest.raises(InputError, match=message):
        discovery.load(method)


def test_two_methods_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    with pytest.raises(InputError, match=r"two methods are named 'mine': .*one.* and .*two.*\. Rename one"):
        discovery.find([one, two])
    theirs = folder(tmp_path / "three", GOOD.replace('"mine"', '"l1"'), "l1")
    with pytest.raises(InputError, match=r"two methods are named 'l1': .*baselines/l1/method\.py"):
        discovery.find([theirs])


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"methods folder .*nowhere does not exist"):
        discovery.find([tmp_path / "nowhere"])


def test_an_unknown_method_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown method 'l3'; there are: .*l1, .*mine, .*random.*method\.py"):
        discovery.get("l3", [folder(tmp_path)])


def test_options_are_divided_between_score_and_plan(tmp_path: Path) -> None:
    method = discovery.get("mine", [folder(tmp_path)])
    assert discovery.split_options(method, {}) == ({}, {})
    assert discovery.split_options(method, {"steps": 3, "power": 2.0}) == ({"power": 2.0}, {"steps": 3})
    for name in ("pwer", "seed", "macs", "loss", "model"):
        with pytest.raises(InputError, match=f"unknown option of method 'mine' '{name}'; there are: power, steps"):
            discovery.split_options(method, {name: 1})


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ('Literal["a", 2]', ["a", 2], ["b", 2.0, True, None]),
        ("float", [1, 0.5], ["1", True, None]),
        ("int", [1], [1.0, True]),
        ("bool", [True], [1, "true"]),
        ('Literal["a"] | float', ["a", 0.5], ["b", None, False]),
        ("dict[str, int]", [{}, "anything"], []),
        ("Literal['a'] | None", ["a", None], ["b", 1]),
        ("float | None", [0.5, None], ["1", True]),
        ("Literal[NAMES]", ["what names stand for is left to the method"], []),
    ],
)
def test_values_are_held_against_the_annotation(tmp_path: Path, annotation: str, good: list, bad: list) -> None:
    method = discovery.get("mine", [folder(tmp_path, GOOD.replace("power=1.0", f"power: {annotation} = 1.0"))])
    for value in good:
        assert discovery.split_options(method, {"power": value}) == ({"power": value}, {})
    for value in bad:
        with pytest.raises(InputError, match=r"option 'power' of method 'mine' is .*; it takes .*\.$"):
            discovery.split_options(method, {"power": value})


def test_options_of_a_program_of_its_own_are_left_to_it(tmp_path: Path) -> None:
    method = discovery.get("mine", [folder(tmp_path, 'INFO = MethodInfo(name="mine")\n')])
    assert discovery.split_options(method, {"whatever": 1}) == ({}, {})


def test_a_policy_that_a_method_brings_is_found_under_its_name(tmp_path: Path) -> None:
    from daar.pruning import policies

    extra = [folder(tmp_path)]
    assert policies.names(extra)["mine"] == "brought by method 'mine'"
    assert policies.get("mine", extra)(None, None, None, macs=None, loss=None) == {}
    with pytest.raises(InputError, match="unknown policy 'mine'"):
        policies.get("mine")


def loads_code(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"spec_from_file_location", "exec_module", "run_path", "__import__", "exec"}


def imports_a_method(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return False
    return any(name.startswith("baselines") or f"{name}.".startswith("daar.method.") for name in names)


def test_nothing_but_discovery_loads_methods() -> None:
    root = bundled.ROOT / "daar"
    files = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "method"]
    loaders = set()
    for path in files:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        assert not any(imports_a_method(node) for node in nodes), path
        if any(loads_code(node) for node in nodes):
            loaders.add(path.relative_to(root).as_posix())
    assert loaders == {"methods/discovery.py", "models/own.py"}  # the other loads networks of one's own
