"""Ten nodes lost at random moments under a suite on digits: does it end, and with the same bits as on one machine?

    python -m tests.cluster.lost_nodes FOLDER [--losses 10] [--seed 0]

Needs root, Debian's slurm-wlm and munge; takes half an hour on two cores. docs/cluster.md has its figures.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.cluster.slurm import Cluster, cluster, differences, missing, on_cluster, snakemake

NODES = 3
SUITE = {
    **{"suite": "lost", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["daar", "l1", "random"]},
    **{"macs_reductions": [0.5, 0.7], "seeds": [0, 1], "train": {"epochs": 20, "lr": 0.1, "batch_size": 64}},
    "finetune": {"epochs": 10, "lr": 0.02, "batch_size": 64},
}


def main() -> int:
    """Run it on one machine, then on a cluster that loses nodes; compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--losses", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of which nodes, and when")
    a = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    folder = a.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    start = time.monotonic()
    if snakemake(folder / "one", suite, "--cores", "2").wait():
        return 1
    say(f"on one machine: {time.monotonic() - start:.0f} s")
    with cluster(folder / "slurm", NODES) as running:
        start = time.monotonic()
        run = on_cluster(folder / "cluster", suite)
        lost = lose(running, run, random.Random(a.seed), a.losses)
        code = run.wait()
        restarts = sum(int(count) for count in _restarts())
        say(f"on the cluster: {time.monotonic() - start:.0f} s, {lost} nodes lost, {restarts} jobs requeued by Slurm")
    count, unequal = differences(folder / "one" / "results", folder / "cluster" / "results")
    say(f"{count} files of weights, importances and plans, {len(unequal)} of them not equal to the bit {unequal[:3]}")
    return code or bool(unequal)


def lose(running: Cluster, run: "subprocess.Popen[str]", chance: random.Random, losses: int) -> int:
    """Lose nodes that work, one after the other, as long as there is a run."""
    lost = 0
    while lost < losses and run.poll() is None:
        time.sleep(chance.uniform(5, 40))
        working = sorted(set(running.queue("%N", "-t", "RUNNING")))
        if not working or run.poll() is not None:
            continue
        node = chance.choice(working)
        running.do("lose", node)
        lost += 1
        say(f"lost {node}, of {', '.join(working)} that worked")
        running.back(node)
        running.release()
    return lost


def _restarts() -> list[str]:
    shown = subprocess.run(["scontrol", "show", "jobs"], capture_output=True, text=True, check=True).stdout
    return [part.split()[0] for part in shown.split("Restarts=")[1:]]


def say(text: str) -> None:
    """A line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
