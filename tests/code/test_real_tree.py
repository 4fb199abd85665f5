"""The present tree under other names, in other folders, in other words; and what its stages reach."""

import ast
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from daar.code.sources import Sources
from daar.run.code import STAGES
from daar.storage.bundled import PACKAGE
from tests.code.real_tree import CASES, copied, entries, hashes

Names = Mapping[str, str]  # module → its new name
REPORTS = {"collect", "tables", "ledger", "published", "stability_report", "attention", "page"}
REPORTS |= {stage for stage in STAGES if stage.startswith("figure_")}


def files_of(root: Path) -> Iterator[Path]:
    for folder in ("daar", "baselines"):
        yield from sorted((root / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    """The module of a path below the root."""
    return ".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).parts)


MODULES = sorted(dotted(file.relative_to(PACKAGE.parent)) for file in PACKAGE.rglob("*.py"))
MODULES.remove("daar")
# a package goes where all its modules go
LEAVES = [name for name in MODULES if not any(other.startswith(f"{name}.") for other in MODULES)]


def _imports(node: ast.Import | ast.ImportFrom, package: str, new: Names) -> list[ast.stmt]:
    """An import by the new names: a statement for each name, as these may lie in different folders now."""
    if isinstance(node, ast.Import):
        return [ast.Import([ast.alias(new.get(alias.name, alias.name), alias.asname)]) for alias in node.names]
    assert node.level < 2
    source = ".".join(filter(None, [package if node.level else "", node.module]))
    made: list[ast.stmt] = []
    for alias in node.names:
        base, name, asname = new.get(source, source), alias.name, alias.asname
        if (module := f"{source}.{name}") in MODULES:
            base, _, last = new.get(module, module).rpartition(".")
            name, asname = last, asname or (name if last != name else None)
        made.append(ast.ImportFrom(base, [ast.alias(name, asname)], 0))
    return made


def _renamed(text: str, package: str, new: Names) -> str:
    """A file's text with its imports, and strings that name modules, by the new names; relative imports no longer."""
    lines = text.encode().splitlines(keepends=True)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(nodes, key=lambda node: -node.lineno):
        assert node.end_lineno is not None
        rest = lines[node.end_lineno - 1][node.end_col_offset :]
        line = "; ".join(ast.unparse(one) for one in _imports(node, package, new)).encode()
        lines[node.lineno - 1 : node.end_lineno] = [lines[node.lineno - 1][: node.col_offset] + line + rest]
    named = "|".join(re.escape(name) for name in sorted(new, key=len, reverse=True))
    return re.sub(rf"""(['"])({named})\1""", lambda m: f"{m[1]}{new[m[2]]}{m[1]}", b"".join(lines).decode())


def _path(module: str, new: Names) -> Path:
    """Where a module's file lies by the new names."""
    name = new.get(module, module)
    place = Path(*name.split("."))
    taken = [new.get(other, other) for other in MODULES]
    return place / "__init__.py" if any(one.startswith(f"{name}.") for one in taken) else place.with_suffix(".py")


def _write_renamed(tree: Path, to: Path, new: Names) -> None:
    for file in files_of(tree):
        path = file.relative_to(tree)
        text = _renamed(file.read_text(encoding="utf-8"), ".".join(path.parent.parts), new)
        if path.parts[0] == "daar":
            path = _path(dotted(path), new)
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text, encoding="utf-8")


def _code(root: Path, new: Names | None = None) -> dict[str, str]:
    """Case → the hash of its code, entries named accordingly; without data files."""
    sources, made = Sources(root), {}
    for name, case in CASES.items():
        own = []
        for entry in entries(case, root):
            where, _, function = entry.rpartition(":")
            if where == str(root / "daar" / "method" / "__init__.py"):
                where = str(root / _path("daar.method", new or {}))
            own.append(f"{(new or {}).get(where, where)}:{function}")
        made[name] = sources.code_hash(own)
    return made


@pytest.fixture(scope="module")
def of_code(tree: Path) -> dict[str, str]:
    return _code(tree)


def test_all_modules_may_be_renamed(tree: Path, tmp_path: Path, of_code: dict[str, str]) -> None:
    new = {name: ".".join(["daar", *(f"{part}_x" for part in name.split(".")[1:])]) for name in MODULES}
    _write_renamed(tree, tmp_path, new)
    assert _code(tmp_path, new) == of_code


def _check_moves(tree: Path, folder: Path, of_code: dict[str, str], moved: set[str], seed: int) -> None:
    dice = random.Random(seed)
    places = ["daar", "daar.storage", "daar.report", "daar.elsewhere", "daar.elsewhere.below"]
    new = {name: f"{dice.choice(places)}.m{number}" for number, name in enumerate(sorted(moved))}
    _write_renamed(tree, folder, new)
    assert _code(folder, new) == of_code


@settings(max_examples=3, phases=[Phase.generate])  # to shrink would take minutes
@given(moved=st.sets(st.sampled_from(LEAVES), min_size=1), seed=st.integers(0, 10**6))
def test_any_modules_may_be_moved(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, of_code: dict[str, str], moved: set[str], seed: int
) -> None:
    _check_moves(tree, tmp_path_factory.mktemp("moved"), of_code, moved, seed)


@pytest.mark.slow
@settings(max_examples=40, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(moved=st.sets(st.sampled_from(LEAVES), min_size=1), seed=st.integers(0, 10**6))
def test_any_modules_may_be_moved_in_many_ways(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, of_code: dict[str, str], moved: set[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("moved")
    _check_moves(tree, folder, of_code, moved, seed)
    shutil.rmtree(folder)


class _Reworded(ast.NodeTransformer):
    """Other docstrings, messages, prints and names of locals; `ast.unparse` drops comments and layout."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant("Other words."))
        if isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "print":
            return ast.Expr(ast.Call(node.value.func, [ast.Constant("other words")], []))
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = ast.Call(node.exc.func, [ast.Constant("other words")], [])
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.Assert(node.test, ast.Constant("other words"))


class _Counted(ast.NodeTransformer):
    """Every number within is one more."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        return ast.Constant(node.value + 1) if is_number else node  # type: ignore[operator]


def _rewrite(file: Path, transformer: ast.NodeTransformer) -> None:
    changed = transformer.visit(ast.parse(file.read_text(encoding="utf-8")))
    file.write_text(ast.unparse(ast.fix_missing_locations(changed)), encoding="utf-8")


def test_comments_docstrings_and_messages_count_nowhere(tmp_path: Path, before: dict[str, str]) -> None:
    root = copied(tmp_path)
    for file in files_of(root):
        _rewrite(file, _Reworded())
    assert hashes(Sources(root)) == before


def test_neutral_modules_count_only_where_the_table_names_them(tmp_path: Path, before: dict[str, str]) -> None:
    root = copied(tmp_path)
    neutral = [f for f in files_of(root) if re.search("^RESULT_NEUTRAL = ", f.read_text(encoding="utf-8"), re.M)]
    assert len(neutral) > 15
    for file in neutral:
        _rewrite(file, _Counted())
    after = hashes(Sources(root))
    # its entry is in daar/data/packed.py, which is neutral for what reads packs
    assert {case for case in CASES if after[case] != before[case]} == {"pack"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stage not in REPORTS])
def test_nothing_that_makes_numbers_reaches_commands_or_reports(tree: Path, reached: Sources, name: str) -> None:
    for definition in reached.definitions(entries(CASES[name], tree)):
        assert not re.match(r"daar\.(cli|report|cluster|run|suite)\b|.*benchmarks", definition), definition


@pytest.mark.parametrize("stage", sorted(REPORTS))
def test_no_report_reaches_commands_or_training(tree: Path, reached: Sources, stage: str) -> None:
    for definition in reached.definitions(entries(CASES[stage], tree)):
        # own ratios are named in titles
        heavy = r"daar\.(cli|cluster|run|stages|pruning(?!\.own_ratios)|device|training\.engine)\b"
        assert not re.match(heavy, definition), definition


@pytest.fixture(scope="module")
def reached(tree: Path) -> Sources:
    return Sources(tree)


@pytest.mark.parametrize(
    ("stage", "depends", "does_not"),
    [
        ("pack", "daar.data.readers", "daar.training"),
        ("pack", "daar.data.splits", "daar.pruning"),
        ("train", "daar.training.engine", "daar.pruning"),
        ("train", "daar.data.augmentation", "daar.method"),
        ("score", "daar.pruning.scoring", "daar.training"),
        ("plan", "daar.pruning.policies", "daar.training"),
        ("finetune", "daar.training.recalibrate", "daar.pruning.policies"),
        ("finetune", "daar.pruning.slim", "daar.measure.latency"),
        ("record", "daar.measure.accuracy", "daar.training"),
    ],
)
def test_a_stage_reaches_what_shapes_its_result_and_nothing_else(
    tree: Path, reached: Sources, stage: str, depends: str, does_not: str
) -> None:
    modules = {definition.rpartition(":")[0] for definition in reached.definitions(entries(CASES[stage], tree))}
    assert depends in modules
    assert not [module for module in modules if module == does_not or module.startswith(f"{does_not}.")]


def test_a_hash_does_not_depend_on_which_were_asked_for_before(tree: Path, of_code: dict[str, str]) -> None:
    for name in ("train", "score/daar", "page"):
        assert Sources(tree).code_hash(entries(CASES[name], tree)) == of_code[name]


_PRINTED = """
import json, sys
from pathlib import Path
from daar.code.sources import Sources
sources = Sources(Path(sys.argv[1]))
print(json.dumps({name: sources.code_hash(entries) for name, entries in json.loads(sys.argv[2]).items()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", ["python3.12", "python3.13", "python3.14"])
def test_every_version_of_python_has_the_same_hashes(tree: Path, of_code: dict[str, str], python: str) -> None:
    path = shutil.which(python)
    # a version manager's shim may be there without the version
    if path is None or subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no {python} here")
    given = json.dumps({name: entries(case, tree) for name, case in CASES.items()})
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    command = [path, "-c", _PRINTED, str(tree), given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == of_code
