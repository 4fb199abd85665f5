"""docs/architecture.md: the order of the folders is the one that is checked, and what is called light is."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# those that wait for torch until something is run
LIGHT = (
    *("errors", "code", "methods", "suite", "cli", "storage.files", "storage.schemas", "storage.bundled"),
    *("run.dag", "run.jobs", "run.handlers", "run.start", "run.reuse"),
)


def rows() -> list[set[str]]:
    """Folders by row of the page's table, from bottom to top."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text.partition("| folder | what it has")[2].partition("\n\n")[0].splitlines()[2:]
    return [set(re.findall(r"`([a-z_]+)`", line.split("|")[1])) for line in lines]


def test_the_page_has_the_layers_that_are_checked() -> None:
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    checked = [set(layer.split(" | ")) for layer in reversed(layers) if layer != "__main__"]
    assert rows() == checked
    there = {path.stem for path in (ROOT / "daar").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set().union(*checked) == there - {"__init__", "__main__"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-cache", str(folder / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is checked."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("daar", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_folder_keeps_its_place(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("pruning/slim.py", "from daar.checkpoint import checkpoint"),  # upwards
        ("training/engine.py", "from daar.method import boundary"),  # within its own row
        ("report/tables.py", "def late():\n    from daar.report import page"),  # a circle, lazy
        ("report/tables.py", "if TYPE_CHECKING:\n    from daar.report import page"),  # and for types only
        ("method/rates.py", "from daar.suite import definition"),
        ("stages/train.py", "import benchmarks"),
    ],
)
def test_an_import_that_breaks_the_order_is_found(tree: Path, file: str, line: str) -> None:
    path = tree / "daar" / file
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n\n{line}\n", encoding="utf-8")
    back = tree / "daar" / "report" / "page.py"
    before = back.read_text(encoding="utf-8")
    if "report import page" in line:
        back.write_text(f"{before}\nfrom daar.report import tables\n", encoding="utf-8")
    try:
        assert lint(tree).returncode == 1
    finally:
        path.write_text(text, encoding="utf-8")
        back.write_text(before, encoding="utf-8")


def test_light_folders_import_neither_torch_nor_numpy() -> None:
    modules = []
    for name in LIGHT:
        place = ROOT / "daar" / name.replace(".", "/")
        files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        modules += [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "heavy = {'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
