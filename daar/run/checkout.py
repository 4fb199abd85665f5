"""Another checkout of daar: what its code says, and what its commands make, to compare with this one's."""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daar.code.sources import MARKER, Sources
from daar.errors import InputError
from daar.storage import documents
from daar.storage.bundled import PACKAGE

# A checkout of before the folders has these at its root, and names in one set the modules that are marked now.
_EARLIER = "provenance.py"
_NEUTRAL = "_INDIFFERENT"
# what made_from gives to digest() is all that a record follows from
_FOLLOWED = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from daar.data import datasets
try:
    from daar.run import reuse
    from daar.suite import reading
except ImportError:
    from daar import reuse, suite as reading
suite, digest, told, said = reading.load(Path(sys.argv[1])), reuse.digest, [], {}
reuse.digest = lambda content: (told.append(content), digest(content))[1]
for setting in suite.settings:
    made_from = reuse.made_from(suite, setting)
    facts = {key: value for key, value in asdict(datasets.get(setting.dataset)).items() if key != "title"}
    said[setting.path] = {"made_from": made_from, "parts": told[-1], "dataset": facts}
print(json.dumps(said))
"""


def _counts_today(module: str) -> bool:
    """Whether there is a module of that name today which is not marked as neutral."""
    file = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    return file.is_file() and f"{MARKER} = " not in file.read_text(encoding="utf-8")


class Checkout:
    """A checkout of daar at another commit.

    Args:
        root: its folder.

    Raises:
        InputError: there is no such checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not (self.root / "daar" / "__init__.py").is_file():
            raise InputError(f"{root} should be a checkout of daar, but has no daar/__init__.py. Run: git worktree add")

    @property
    def commit(self) -> str:
        """Its commit.

        Raises:
            InputError: it is no git checkout of its own, or files in it differ from its commit.
        """
        try:
            top, changes = Path(self._git("rev-parse", "--show-toplevel")), self._git("status", "--porcelain", "-uno")
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"{self.root} should be a git checkout, but git says otherwise: {_reason(error)}."
            ) from error
        if top.resolve() != self.root or changes:
            what = "has changes that no commit holds" if top.resolve() == self.root else f"is a folder of {top}"
            raise InputError(
                f"{self.root} should be a git checkout without changes, but {what}. Make one: git worktree add"
            )
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def sources(self) -> Sources:
        """Its code, for hashes by today's rules."""
        return Sources(self.root, neutral=self._neutral())

    def _neutral(self) -> set[str]:
        file = self.root / "daar" / _EARLIER
        if not file.is_file():
            return set()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == _NEUTRAL:
                return {name for name in ast.literal_eval(node.value) if not _counts_today(name)}
        return set()

    def follow(self, suite: Path) -> Mapping[str, Any]:
        """The path of each of a suite's settings → what its record follows from, as its code has it.

        Returns:
            For each path `made_from`, the hash of its record; `parts`, what was hashed; and `dataset`, its facts.

        Raises:
            InputError: its code cannot read the suite.
        """
        where = f"what the code in {self.root} says of the suite"
        remedy = "Give a checkout whose packages are installed here."
        return dict(documents.parse_json(self._python(["-c", _FOLLOWED, str(suite)]), where, remedy))

    def run(self, command: Sequence[str]) -> None:
        """Run one of its commands, on one thread of the CPU.

        Raises:
            InputError: it fails.
        """
        self._python(["-m", "daar", *command, "--device", "cpu", "--threads", "1"])

    def _python(self, arguments: Sequence[str]) -> str:
        # -P: without it the working directory, maybe a checkout, would come before this one
        command = [sys.executable, "-P", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"the code in {self.root} failed: {last}. Give a checkout whose packages are installed here."
            )
        return done.stdout


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return " ".join(str(said).split()).rstrip(".")
