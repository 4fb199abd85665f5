"""Build the DAGs of many suites: a program that imports Snakemake once and is forked for every suite.

It reads paths of suite files, one a line, and answers each with a line of JSON: {"code": exit code, "said": output}.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import snakemake.cli

import daar.run.handlers
import daar.run.jobs  # noqa: F401  # with those above and below what the Snakefile imports
from daar.methods import discovery
from daar.run import code

ROOT = Path(__file__).resolve().parents[2]


def dry_run(suite: str) -> tuple[int, str]:
    """Exit code and output of `snakemake -n` for a suite."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
            sys.argv = ["snakemake"]
            command = ["-n", "--quiet", "all", "--cores", "1", "--snakefile", str(ROOT / "Snakefile")]
            # without the line that says that there is a profile
            snakemake.cli.main([*command, "--workflow-profile", "none", "--configfile", suite])
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


if __name__ == "__main__":
    # the code is parsed once
    for stage in code.STAGES:
        for method in discovery.find().values():
            code.of(stage, network="resnet20", method=method, policy="adaptive", dataset="digits")
    for line in sys.stdin:
        exit_code, said = dry_run(line.rstrip("\n"))
        print(json.dumps({"code": exit_code, "said": said}), flush=True)
