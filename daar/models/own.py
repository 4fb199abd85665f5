"""Networks of one's own: Python files in folders that a suite (`networks_dirs`) or a command (`--networks-dir`) names.

A file's name is the network's. It defines `build(num_classes)` and `INPUT_SHAPE = (3, H, W)`, and may define `TITLE`,
and `initialise(model)` for weights that do not have torch's default initialisation. A file whose name starts with `_`
is none: what several networks share may lie there. Listing is light: metadata is read as literals, and a file is run
only to build its network.
"""

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from daar.errors import InputError, said
from daar.models.network import Network
from daar.storage import documents

if TYPE_CHECKING:
    from torch import nn

RESULT_NEUTRAL = "finds networks; the file of the network itself counts"

# the folders, as PATH has its own: jobs of a suite find them so
FOLDERS = "DAAR_NETWORKS_DIRS"
# what no one has measured; a suite's cost is estimated from it until `daar suite check` times the network
ASSUMED_MACS = 500_000_000
_CLASSES = 10
_LARGEST = 4096
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_REMEDY = "See docs/adding-a-network.md."
_of_suite: list[Path] = []


@dataclass(frozen=True)
class OwnNetwork(Network):
    """A network that is a file.

    Attributes:
        file: that defines it.
        initialises: whether it has an `initialise(model)`.
    """

    file: Path = Path()
    initialises: bool = False

    def build(self, num_classes: int) -> "nn.Module":
        """Build the network with fresh weights, drawn from torch's global generator.

        Raises:
            InputError: the file fails, or what it builds does not give `num_classes` logits.
        """
        from daar.models import built

        family = self._family()
        where = f"build({num_classes}) of {documents.shown(self.file)}"
        try:
            model = family.build(num_classes)
        except (InputError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"{where} fails: {type(error).__name__}: {said(error)}. {_REMEDY}") from error
        return built.require_logits(model, self.input_shape, num_classes, where)

    def initialise(self, model: "nn.Module") -> None:
        """Draw the weights that the file initialises in its own way, if it does."""
        if self.initialises:
            self._family().initialise(model)

    def code(self, functions: Iterable[str]) -> list[str]:
        """All of its file, and whatever that imports from its folder."""
        return [f"{self.file}:*"] if tuple(functions) else []

    def _family(self) -> Any:
        return _loaded(self.file, self.file.stat().st_mtime_ns)


def use(folders: Sequence[Path]) -> None:
    """Look for networks in the folders of a suite, instead of those of a suite that was read before."""
    _of_suite[:] = folders


def export(folders: Iterable[Path]) -> None:
    """Look for networks in further folders, here and in processes that are started from here.

    Raises:
        InputError: a folder cannot be named in an environment variable.
    """
    for folder in folders:
        if os.pathsep in str(folder):
            raise InputError(f"{folder} has a {os.pathsep!r} in its path, which {FOLDERS} cannot have. Move it.")
    os.environ[FOLDERS] = os.pathsep.join(dict.fromkeys(str(folder.absolute()) for folder in [*folders, *_exported()]))


def _exported() -> list[Path]:
    return [Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def find() -> dict[str, OwnNetwork]:
    """All networks of the folders by name, sorted.

    Raises:
        InputError: a folder or file cannot be read, a file defines no network, or two have one name.
    """
    networks: dict[str, OwnNetwork] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in [*_of_suite, *_exported()]):
        for file in _files(folder):
            if file.stem in networks:
                raise InputError(
                    f"two networks are named {file.stem!r}: {documents.shown(networks[file.stem].file)} and "
                    f"{documents.shown(file)}. Rename one."
                )
            networks[file.stem] = _read(file, file.stat().st_mtime_ns)
    return dict(sorted(networks.items()))


def _files(folder: Path) -> list[Path]:
    """The files of networks in a folder, sorted; their names become folders of results."""
    correct = "Correct --networks-dir, or networks_dirs in the suite."
    try:
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "does not exist"
            raise InputError(f"networks folder {documents.shown(folder)} {what}. {correct}")
        files = sorted(f for f in folder.iterdir() if f.suffix == ".py" and not f.name.startswith(("_", ".")))
    except OSError as error:
        raise InputError(
            f"networks folder {documents.shown(folder)} cannot be read: {error.strerror}. {correct}"
        ) from error
    for file in files:
        if not _NAME.fullmatch(file.stem):
            raise InputError(
                f"the file of a network should have a name of letters, digits and _, the first a letter; got "
                f"{documents.shown(file)}. Rename it."
            )
    return files


@cache
def _read(file: Path, _modified: int) -> OwnNetwork:
    """What a file says of its network."""
    shown = documents.shown(file)
    try:
        tree = ast.parse(documents.read_text(file, "the file of a network"), file.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: a NUL in it
        raise InputError(f"network {shown} is not Python: {said(error)}. {_REMEDY}") from error
    if any(alias.name == "*" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names):
        raise InputError(f"network {shown} has `import *`, which hides what its results follow from. Import by name.")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    build = functions.get("build")
    if build is None or not [*build.args.posonlyargs, *build.args.args]:
        lacks = "has no such function" if build is None else "its build takes no argument"
        raise InputError(
            f"network {shown} should define build(num_classes), but {lacks}. {_REMEDY} A file that is no network has a "
            "name that starts with _."
        )
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    return OwnNetwork(
        name=file.stem,
        title=_title(constants.get("TITLE"), file),
        module="",
        input_shape=_shape(constants.get("INPUT_SHAPE"), shown),
        classes=_CLASSES,
        macs=ASSUMED_MACS,
        source=file.name,
        file=file,
        initialises="initialise" in functions,
    )


def _shape(node: ast.expr | None, shown: str) -> tuple[int, int, int]:
    value = None if node is None else _literal(node)
    sides = [side for side in value if type(side) is int] if isinstance(value, tuple | list) else []
    if len(sides) != 3 or (isinstance(value, tuple | list) and len(value) != 3) or sides[0] != 3:
        got = "nothing" if node is None else ast.unparse(node)[:50]
        raise InputError(
            f"network {shown} should say which images it takes, as INPUT_SHAPE = (3, HEIGHT, WIDTH) in numbers; got "
            f"{got}. {_REMEDY}"
        )
    if not all(1 <= side <= _LARGEST for side in sides):
        raise InputError(f"network {shown}: INPUT_SHAPE has {sides}; sides are from 1 to {_LARGEST:,}. Correct it.")
    return sides[0], sides[1], sides[2]


def _title(node: ast.expr | None, file: Path) -> str:
    value = None if node is None else _literal(node)
    return value if isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable() else file.stem


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


@cache
def _loaded(file: Path, _modified: int) -> ModuleType:
    """Run a file, once; it may import others of its folder, `from ._blocks import Block`."""
    import torch

    name = f"daar_network_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with torch.random.fork_rng(devices=[]):  # what it draws is no matter of whose network comes after
            spec.loader.exec_module(module)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"network {documents.shown(file)} fails to import: {type(error).__name__}: {said(error)}. Mend it."
        ) from error
    return module
