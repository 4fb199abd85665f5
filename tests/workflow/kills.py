"""Kill a small suite with -9 again and again, give the same command each time, and compare the results to the byte.

    python -m tests.workflow.kills 100

Chains take turns: `snakemake`, of which the whole process group or Snakemake alone is killed, and `daar run`, of which
the process in front of Snakemake is killed. The script says a line per kill and, in the end, how many were gone on
from. A chain is let finish after eight kills, or ends before; the next begins in an empty folder.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from daar.storage.bundled import ROOT

SUITE = {
    "suite": "killed",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "methods": ["l1", "daar"],
    "macs_reductions": [0.5],
    "seeds": [0],
    "calibration_images": 64,
    "train": {"epochs": 2, "lr": 0.05, "batch_size": 128, "precision": "float32"},
    "finetune": {"epochs": 1, "lr": 0.02, "batch_size": 128, "precision": "float32"},
}
# what is of a run and not of its result
_TIMED = ("seconds", "peak_memory_mib", "threads", "hardware", "versions", "commit", "curve")
# a run is killed after as many seconds as are drawn between these
_SECONDS = (0.3, 25.0)
_IN_A_CHAIN = 8


class Outcome(NamedTuple):
    """Of a number of kills.

    Attributes:
        kills: how often a run was killed.
        refused: after how many of them the same command did not go on, with the end of what it said.
        chains: how often the suite was begun.
        differing: files of finished suites that differ from those of the undisturbed run.
    """

    kills: int
    refused: list[str]
    chains: int
    differing: list[str]


def command(cores: int = 2, by_daar: bool = False) -> list[str]:
    if by_daar:
        return [sys.executable, "-P", "-m", "daar", "run", "suite.yaml", "--cores", str(cores)]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", str(cores)),
        *("--configfile", "suite.yaml"),
    ]


def start(folder: Path, by_daar: bool = False) -> subprocess.Popen[bytes]:
    """The same command each time, with a log of its own each time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    log = folder / f"run-{len(list(folder.glob('run-*.log')))}.log"
    with log.open("wb") as file:
        return subprocess.Popen(command(by_daar=by_daar), cwd=folder, stdout=file, stderr=file, start_new_session=True)


def results(folder: Path) -> dict[str, str]:
    """File → hash of what is of its result, for all files that stages have written."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("."):  # what a killed process was writing; a later write removes it, after an hour
            continue
        if "accuracy-costs" in path.name:  # a figure of seconds
            continue
        if path.suffix in (".safetensors", ".png") or path.name == "plan.json":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name in ("record.json", "model.json"):
            found[name] = json.dumps(_untimed(json.loads(path.read_text())), sort_keys=True)
    return found


def _untimed(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _untimed(value) for key, value in content.items() if key not in _TIMED}
    return content


def chain(folder: Path, draw: random.Random, most: int, by_daar: bool) -> Iterator[str]:
    """Kill at most so many times, then let the suite finish; yields what was killed, each time.

    Raises:
        ChildProcessError: a run did not go on; says how it ended.
    """
    killed = 0
    while True:
        run = start(folder, by_daar)
        try:
            code = run.wait(draw.uniform(*_SECONDS) if killed < most else None)
        except subprocess.TimeoutExpired:
            alone = draw.random() < 0.3 and not by_daar  # its jobs live on
            (os.kill if alone else os.killpg)(run.pid, signal.SIGKILL)
            run.wait()
            killed += 1
            yield "daar run" if by_daar else "Snakemake alone" if alone else "all its processes"
            continue
        if code:
            raise ChildProcessError(sorted(folder.glob("run-*.log"), key=os.path.getmtime)[-1].read_text()[-500:])
        return


def kill(kills: int, folder: Path, seed: int = 0, say: Callable[[str], None] = print) -> Outcome:
    """Kill as many times, in chains.

    Args:
        kills: how often.
        folder: an empty one, for all runs.
        seed: of the moments.
        say: gets a line per kill and per chain.
    """
    draw = random.Random(seed)
    undisturbed = start(folder / "undisturbed")
    assert undisturbed.wait() == 0, (folder / "undisturbed" / "run-0.log").read_text()
    expected, done, chains = results(folder / "undisturbed"), 0, 0
    refused: list[str] = []
    differing: list[str] = []
    while done < kills:
        place = folder / f"chain-{chains}"
        chains += 1
        try:
            for what in chain(place, draw, min(_IN_A_CHAIN, kills - done), by_daar=chains % 2 == 1):
                done += 1
                say(f"kill {done}: {what}")
        except ChildProcessError as error:
            refused.append(str(error))
            say(f"refused after kill {done}: {error}")
            continue
        got = results(place)
        odd = [f"{place.name}/{name}" for name in expected.keys() | got.keys() if expected.get(name) != got.get(name)]
        say(f"chain {chains} is finished: {len(got)} files, {len(odd)} differ")
        differing += odd
    return Outcome(done, refused, chains, differing)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        outcome = kill(int(sys.argv[1]), Path(temporary), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(outcome)
    sys.exit(bool(outcome.differing or outcome.refused))
