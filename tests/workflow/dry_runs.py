"""Build many DAGs: a process that has Snakemake loaded, and is forked for each.

Loading it takes four times as long as a DAG of a small suite. `serving` starts the process, `ask` is for tests, and
what they ask and get are lines of JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_servers: list[subprocess.Popen[str]] = []


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Have dry runs of this checkout's Snakefile made by forks of one process."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.workflow.dry_runs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    ) as process:  # fmt: skip
        _servers.append(process)
        try:
            yield
        finally:
            _servers.remove(process)
            assert process.stdin is not None
            process.stdin.close()


def ask(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str] | None:
    """`python -m snakemake` with arguments, of which one is `-n`; None where no process serves."""
    if not _servers:
        return None
    process = _servers[-1]
    assert process.stdin is not None
    assert process.stdout is not None
    asked = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment)}
    print(json.dumps(asked), file=process.stdin, flush=True)
    got = json.loads(process.stdout.readline())
    return subprocess.CompletedProcess(list(arguments), got["code"], got["out"], got["err"])


def dry_run(asked: dict[str, Any]) -> dict[str, Any]:
    """Exit code and output of what was asked."""
    import snakemake.cli

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            os.chdir(asked["cwd"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.argv = ["snakemake", *asked["arguments"]]
            snakemake.cli.main()
        _, status = os.waitpid(child, 0)
        out.seek(0), err.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read(), "err": err.read()}


def load() -> None:
    """Import what the Snakefile imports, and parse the stages' code."""

    import daar.run.handlers
    import daar.run.jobs  # noqa: F401
    from daar.methods import discovery
    from daar.run import code

    for stage in code.STAGES:
        for method in discovery.find().values():
            code.of(stage, network="resnet20", method=method, policy="adaptive", dataset="digits")


if __name__ == "__main__":
    for number, line in enumerate(sys.stdin):
        if not number:
            load()
        print(json.dumps(dry_run(json.loads(line))), flush=True)
