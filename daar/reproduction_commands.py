"""`daar reproduce`: one record, made again."""

import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from daar import files, gpu, provenance
from daar.errors import InputError
from daar.reproduce import around
from daar.reproduce import reproduce as run_again


def reproduce(a: Namespace) -> None:
    """`daar reproduce`; exits with 1 where a number differs."""
    cores = gpu.count_cores() if a.cores is None else a.cores
    if cores < 1:
        raise InputError(f"--cores should be 1 or more, got {cores}.")
    out = Path(tempfile.mkdtemp(prefix="daar-reproduce-")) if a.out is None else a.out
    found = run_again(a.record, out, keep_base=a.keep_base, cores=cores)
    for line in around(files.read_json(a.record, "a record of one setting"), provenance.environment()):
        print(f"around   {line}")
    for one in found:
        print(one)
    same = sum(one.same for one in found)
    print(f"{same} of {len(found)} numbers are the same. The rerun is in {out}.")
    if same < len(found):
        sys.exit(1)
