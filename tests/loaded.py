"""Python programs in forks of a process that has torch and more loaded, as a run's jobs are: each start takes
hundredths of a second, where loading takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from daar.run.forks import messages, starting

_ROOT = Path(__file__).resolve().parents[1]
_SERVER = """
import os, sys
sys.path.insert(0, {root!r})
{imports}
from daar.run.forks import server
def run():
    del os.environ[{variable!r}]  # or `daar` would hand its own job over
    del sys.argv[1]
    exec(sys.argv.pop(1), {{"__name__": "__main__"}})
server.serve(run)
"""
_CLIENT = """
import sys
from daar.run.forks import client
code = client.hand_over(sys.argv[1:])
client.end_like(99 if code is None else code)
"""


def _server(imports: str) -> str:
    return _SERVER.format(root=str(_ROOT), imports=imports, variable=messages.VARIABLE)


@dataclass(frozen=True)
class Loaded:
    """`[*command, program, *arguments]` in `environment` runs as `[python, "-c", program, *arguments]` does."""

    name: str
    # the server takes what follows for a command of daar, before which it need not load the stages
    command: tuple[str, ...] = (sys.executable, "-P", "-c", _CLIENT, "list")

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """`given`, with what the command needs."""
        return {**given, messages.VARIABLE: self.name}


@contextlib.contextmanager
def loaded(imports: str) -> Iterator[Loaded]:
    """Start such a process; it ends at the end.

    Args:
        imports: statements that load what programs will need.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "_held", [])
        patch.delenv(messages.VARIABLE, raising=False)
        starting.start([sys.executable, "-P", "-c", _server(imports)])
        ((process, pipe),) = starting._held
        name = os.environ.pop(messages.VARIABLE)
    try:
        yield Loaded(name)
    finally:
        os.close(pipe)
        process.wait(60)
