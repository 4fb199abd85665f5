"""How much longer a suite takes on a cluster than on one machine with as many slots, in pairs, one after the other.

    python -m tests.cluster.overhead FOLDER [--suite SUITE.yaml] [--pairs 2] [--slots 2]

Needs root, Debian's slurm-wlm and munge, and a core for each slot. docs/cluster.md has its figures.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.cluster.lost_nodes import say
from tests.cluster.slurm import ROOT, cluster, differences, missing, on_cluster, snakemake, written


def main() -> int:
    """Run the pairs; print both times of each, and whether the results are equal to the bit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", type=Path, default=ROOT / "workflow" / "config" / "demo.yaml")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2, help="jobs at once here, and nodes of one CPU there")
    a = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    folder, suite, equal = a.folder.resolve(), a.suite.resolve(), True
    for pair in range(a.pairs):
        one, other = folder / f"one{pair}", folder / f"cluster{pair}"
        start = time.monotonic()
        if snakemake(one, suite, "--cores", str(a.slots)).wait():
            return 1
        here = time.monotonic() - start
        with cluster(folder / f"slurm{pair}", a.slots):
            start = time.monotonic()
            if on_cluster(other, suite).wait():
                return 1
            there = time.monotonic() - start
        entries = written(other).count(" has been submitted with SLURM jobid ")
        count, unequal = differences(one / "results", other / "results")
        equal &= not unequal
        say(
            f"one machine {here:.0f} s, cluster {there:.0f} s ({100 * (there / here - 1):+.0f} %), {entries} entries; "
            f"{count} files, {len(unequal)} not equal to the bit"
        )
    return not equal


if __name__ == "__main__":
    sys.exit(main())
