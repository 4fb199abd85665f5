"""A real small Slurm cluster on this machine, and the workflow on it; for tests and for lost_nodes.py."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("slurm-cluster")
PROFILE = ROOT / "workflow" / "profiles" / "slurm"
RECIPE = {"epochs": 12, "lr": 0.05, "batch_size": 64}
TINY: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1"]},
    **{"macs_reductions": [0.5], "seeds": [0], "train": RECIPE, "finetune": {**RECIPE, "epochs": 2}},
}
# a cluster without accounts, whose jobs take seconds
OPTIONS = (
    "--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2",
    "--seconds-between-status-checks", "2", "--max-threads", "1", "--nocolor",
)  # fmt: skip


def missing() -> str | None:
    """Why no such cluster can be started here."""
    if absent := [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]:
        return f"not run: no {', '.join(absent)} here; install Debian's slurm-wlm and munge"
    return None if os.geteuid() == 0 else "not run: a Slurm cluster is started by root alone"


class Cluster:
    """A running cluster.

    Args:
        folder: of its state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self, verb: str, *arguments: str) -> None:
        """One of slurm-cluster's verbs."""
        subprocess.run([str(SCRIPT), verb, str(self.folder), *arguments], check=True, capture_output=True, timeout=120)

    @staticmethod
    def queue(form: str, *options: str) -> list[str]:
        """Lines of squeue."""
        return ask("squeue", "-h", *options, "-o", form).splitlines()

    @staticmethod
    def state(node: str) -> str:
        """A node's state, as `idle` or `down*`."""
        return ask("sinfo", "-h", "-n", node, "-o", "%T").strip()

    def release(self) -> None:
        """Start what Slurm requeued soon; by itself it waits for two minutes."""
        with contextlib.suppress(TimeoutError):  # nothing was running there
            wait(self._delayed, 20, "a requeued job")
        for job in self._delayed():
            # not at once: changing what is just being started crashes slurmctld 22.05
            ask("scontrol", "update", f"JobId={job}", "StartTime=now+5")

    def _delayed(self) -> list[str]:
        return [line.split()[0] for line in self.queue("%A %r", "-t", "PENDING") if line.endswith("BeginTime")]

    def back(self, node: str) -> None:
        """Bring a lost node back, once Slurm has noticed that it was lost."""
        wait(lambda: self.state(node).startswith("down"), 120, f"{node} to be down")
        self.do("back", node)
        wait(lambda: not self.state(node).startswith("down"), 120, f"{node} to be back")


@contextlib.contextmanager
def cluster(folder: Path, nodes: int, cpus: int = 1, gpus: int = 1) -> Iterator[Cluster]:
    """A cluster with so many nodes, of so many CPUs and fake GPUs each."""
    running = Cluster(folder)
    running.do("start", str(nodes), str(cpus), str(gpus))
    try:
        yield running
    finally:
        running.do("stop")


def ask(*command: str) -> str:
    """What a command of Slurm's prints; empty while the controller does not answer."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""


def wait(ready: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.5)


def snakemake(folder: Path, suite: Path, *options: str) -> subprocess.Popen[str]:
    """Snakemake on its way; it writes to snakemake.log in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(suite), "--directory", str(folder), *options]
    with open(folder / "snakemake.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True)


def on_cluster(folder: Path, suite: Path, *options: str) -> subprocess.Popen[str]:
    """Snakemake on its way, on the cluster."""
    return snakemake(folder, suite, "--profile", str(PROFILE), *OPTIONS, *options)


def differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """How many files of weights, importances and plans two results hold, and which of them are not equal to the bit."""
    files = sorted([*one.rglob("*.safetensors"), *one.rglob("plan.json")])
    names = [str(file.relative_to(one)) for file in files]
    return len(names), [
        n for n in names if not (other / n).exists() or (one / n).read_bytes() != (other / n).read_bytes()
    ]


def written(folder: Path) -> str:
    """What Snakemake has said in a folder."""
    return (folder / "snakemake.log").read_text()


def ended(run: "subprocess.Popen[str]", folder: Path) -> int:
    """The exit code of a run that must come to an end."""
    try:
        return run.wait(timeout=600)
    except subprocess.TimeoutExpired:
        run.kill()
        raise AssertionError(written(folder)) from None
