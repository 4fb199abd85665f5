"""Before a suite goes to Slurm: would Slurm ever start its jobs, and would they see this folder?

Slurm queues what it can never start, and Snakemake waits for it without end. So Slurm itself is asked about every
request beforehand (`sbatch --test-only`), and one job tries whether a node has this folder.
"""

import functools
import getpass
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents
from daar.storage.bundled import ROOT

PROFILE = "workflow/profiles/slurm/config.yaml"
# how long a node may take to look at this folder; where all are busy it is not tried
_IMMEDIATE_SECONDS = 20
_ANSWER_SECONDS = 30
# resource of a rule → option of sbatch, as the executor has it
_OPTIONS = {
    "slurm_account": "--account", "slurm_partition": "--partition", "qos": "--qos", "constraint": "--constraint",
    "mem_mb": "--mem", "runtime": "--time", "nodes": "--nodes", "clusters": "--clusters",
}  # fmt: skip


def components() -> dict[str, int]:
    """How many chains of jobs share a queue entry, as the profile says; a group that it does not name has 1."""
    path = ROOT / PROFILE
    try:
        listed = (documents.read_yaml(path, "a profile") or {}).get("group-components", [])
        return {name: int(count) for name, _, count in (entry.partition("=") for entry in listed)}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} should be a profile with group-components as GROUP=N, got {error}.") from error


def require_startable(requests: Iterable[Mapping[str, Any]], *, status_command: str | None) -> None:
    """Stop a run whose jobs Slurm would refuse, or never start, or not tell the end of.

    Args:
        requests: resources of the jobs that will be submitted, by Snakemake's names; `_cores` are their CPUs.
        status_command: how the executor will ask for jobs: sacct or squeue.

    Raises:
        InputError: says what to change, and where.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no sbatch here. Start Snakemake on a login node of the cluster, or leave --profile out.")
    if status_command != "squeue" and (said := _sacct_problem()):
        raise InputError(
            f"sacct does not answer ({said}), by which the end of jobs would be noticed. "
            f"Set `slurm-status-command: squeue` in {PROFILE}."
        )
    if left := _left_over():
        raise InputError(
            f"{len(left)} jobs of an earlier run still wait or work in this folder, and would write the same files. "
            f"Wait for them, or end them (nothing that they saved is lost): scancel {' '.join(left)}"
        )
    for request in _largest(requests):
        _require_accepted(request)


def require_shared_folder(request: Mapping[str, Any], folder: Path) -> str | None:
    """Have a node read a file of a folder.

    Args:
        request: resources; only partition, account, QOS and cluster count.
        folder: that jobs will read and write.

    Returns:
        What to tell where that could not be tried, as all nodes are busy; else None.

    Raises:
        InputError: a node does not see the file, or something else there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    word, token = folder.resolve() / f".seen-by-a-node-{os.getpid()}", uuid.uuid4().hex
    word.write_text(token, encoding="utf-8")
    options = _flags({key: request.get(key) for key in ("slurm_account", "slurm_partition", "qos", "clusters")})
    command = ["srun", f"--immediate={_IMMEDIATE_SECONDS}", "--ntasks=1", "--time=1", "--job-name=daar-folder"]
    try:
        done = _run([*command, *options, "--chdir=/", "cat", str(word)], timeout=_IMMEDIATE_SECONDS + _ANSWER_SECONDS)
    finally:
        word.unlink(missing_ok=True)
    if done is None or (done.returncode and "cat:" not in done.stderr):
        return "no node was free to try whether it sees this folder"
    if done.stdout.strip() != token:
        raise InputError(
            f"a node does not see {folder.resolve()} ({_last_line(done.stderr) or 'another file is there'}), so that "
            "no job could hand its files on. Put the checkout, or --directory, on a file system that all nodes share."
        )
    return None


def _largest(requests: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of requests that differ only in time, memory and CPUs, the largest: what it may have, all may."""
    sizes = ("runtime", "mem_mb", "_cores")
    largest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for request in requests:
        rest: dict[str, Any] = {k: request[k] for k in (*_OPTIONS, "gpu", "gpu_model", "tasks") if k in request}
        key = tuple(sorted((name, str(value)) for name, value in rest.items() if name not in sizes))
        kept = largest.setdefault(key, {**rest, "_cores": 1})
        for size in sizes:
            kept[size] = max(kept.get(size) or 0, request.get(size) or 0)
    return list(largest.values())


def _flags(request: Mapping[str, Any]) -> list[str]:
    """Options of sbatch for a request."""
    flags = [f"{option}={request[key]}" for key, option in _OPTIONS.items() if request.get(key)]
    if gpus := request.get("gpu"):
        flags.append(f"--gpus={request['gpu_model']}:{gpus}" if request.get("gpu_model") else f"--gpus={gpus}")
    flags.append(f"--ntasks={request.get('tasks') or 1}")
    return [*flags, f"--cpus-per-task={request['_cores']}"] if "_cores" in request else flags


def _require_accepted(request: Mapping[str, Any]) -> None:
    partition, runtime = request.get("slurm_partition"), request.get("runtime") or 0
    known = _partitions()
    if partition and known and str(partition) not in known:
        raise InputError(
            f"partition {partition!r} is not there; this cluster has: {', '.join(known)}. "
            f"Set slurm_partition in {PROFILE}."
        )
    here = _partition(partition)
    if here and (problem := _partition_problem(here["name"], request.get("slurm_account"))):
        raise InputError(problem)
    if here and here["minutes"] is not None and runtime > here["minutes"]:
        raise InputError(
            f"a job asks for {runtime} minutes, partition {here['name']} allows {here['minutes']}: it would wait for "
            f"ever. Choose a partition with a longer limit as slurm_partition in {PROFILE}, or lower group-components "
            "there."
        )
    if here and not here["up"]:
        raise InputError(
            f"no node of partition {here['name']} is up (sinfo -R says why), so that no job would start. "
            f"Choose another as slurm_partition in {PROFILE}, or ask your administrators."
        )
    done = _run(["sbatch", "--test-only", *_flags(request), "--wrap=true"], timeout=_ANSWER_SECONDS)
    if done is not None and done.returncode == 0:
        return
    said = _last_line(done.stderr) if done else f"no answer within {_ANSWER_SECONDS} s"
    raise InputError(f"Slurm would not start a job with {' '.join(_flags(request))}: {said}. {_advice(said, request)}")


def _partition_problem(partition: str, account: object) -> str | None:
    """Why a partition would not take a job that Slurm queues there all the same."""
    shown = _run(["scontrol", "show", "partition", "-o", partition], timeout=_ANSWER_SECONDS)
    facts = dict(re.findall(r"\b(State|AllowAccounts)=(\S+)", shown.stdout if shown else ""))
    if (state := facts.get("State", "UP")) != "UP":
        return (
            f"partition {partition} is {state}, so that no job would start there. "
            f"Choose another as slurm_partition in {PROFILE}, or ask your administrators."
        )
    allowed = facts.get("AllowAccounts", "ALL")
    if account is None and allowed != "ALL" and shutil.which("sacctmgr"):
        user = getpass.getuser()
        default = _run(["sacctmgr", "-nP", "show", "user", user, "format=defaultaccount"], timeout=_ANSWER_SECONDS)
        account = default.stdout.strip() if default and not default.returncode else None
    if allowed == "ALL" or str(account) in allowed.split(","):
        return None
    return (
        f"partition {partition} is for the accounts {allowed.replace(',', ', ')}, got {account or 'none'}: a job would "
        f"wait for ever. Set slurm_account in {PROFILE} to one of them."
    )


def _advice(said: str, request: Mapping[str, Any]) -> str:
    low = said.lower()
    if "account" in low:
        return f"Set slurm_account in {PROFILE} to one of yours: sacctmgr show associations user=$USER."
    if "qos" in low:
        return f"Set qos in {PROFILE} to one of yours: sacctmgr show associations user=$USER format=qos."
    if "gres" in low or "configuration" in low:
        nodes = _run(["sinfo", "-h", "-o", "%P: %D nodes of %c CPUs, %m MB, GPUs %G"], timeout=_ANSWER_SECONDS)
        has = "; ".join(nodes.stdout.split("\n")[:4]).rstrip("; ") if nodes else "see sinfo"
        model = ", gpu_model" if request.get("gpu") else ""
        return f"This cluster has {has}. Change slurm_partition{model}, max-threads or gpu in {PROFILE}."
    if "unable to contact" in low or "no answer" in low:
        return "The controller does not answer: try `sinfo`, and again later."
    return f"Change it in {PROFILE}."


def ceiling(partition: object) -> tuple[int | None, int | None]:
    """The most memory (MB) and time (minutes) that a job may ask for there, so that a retry asks for no more.

    Args:
        partition: by name; None for the default one.

    Returns:
        None for what has no limit, or is not known here.
    """
    here = _partition(partition) if shutil.which("sinfo") else None
    return (here["mb"], here["minutes"]) if here else (None, None)


def _partition(name: object) -> dict[str, Any] | None:
    known = _partitions()
    return known.get(str(name)) if name else next((one for one in known.values() if one["default"]), None)


@functools.cache
def _partitions() -> dict[str, dict[str, Any]]:
    """Name → whether it is the default, its limit in minutes, its largest node's MB, and whether a node of it is up."""
    listed = _run(["sinfo", "-h", "-o", "%P|%l|%T|%m"], timeout=_ANSWER_SECONDS)
    partitions: dict[str, dict[str, Any]] = {}
    for line in listed.stdout.splitlines() if listed else ():
        name, limit, state, memory = line.split("|")
        entry: dict[str, Any] = {"name": name.rstrip("*"), "default": name.endswith("*"), "mb": 0, "up": False}
        entry = partitions.setdefault(entry["name"], {**entry, "minutes": _minutes(limit)})
        # a star: the node does not answer
        entry["up"] |= not state.endswith("*") and not re.match("down|drain|fail|maint|unknown", state)
        entry["mb"] = max(entry["mb"], int(memory.rstrip("+")))
    return partitions


def _minutes(limit: str) -> int | None:
    """Minutes of Slurm's [days-][[hours:]minutes:]seconds."""
    if limit == "infinite" or not re.fullmatch(r"(\d+-)?(\d+:)*\d+", limit):
        return None
    days, _, rest = limit.rpartition("-")
    hours, minutes, _ = ([0, 0, 0, *map(int, rest.split(":"))])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes


def _sacct_problem() -> str | None:
    done = _run(["sacct", "-n", "-X", "--name=daar"], timeout=_ANSWER_SECONDS)
    if done is None:
        return f"no answer within {_ANSWER_SECONDS} s"
    return _last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else None


def _left_over() -> list[str]:
    """Jobs of the user that were submitted from this folder and are not over."""
    done = _run(["squeue", "--me", "-h", "-o", "%A|%Z"], timeout=_ANSWER_SECONDS)
    jobs = (line.split("|", 1) for line in done.stdout.splitlines()) if done else ()
    here = Path.cwd().resolve()
    return sorted({job for job, folder in jobs if Path(folder) == here}, key=int)


def _run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
    """None where it did not end in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None
    except FileNotFoundError as error:
        raise InputError(f"no {command[0]} here. Start Snakemake on a login node of the cluster.") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(sbatch|srun|sacct|slurmstepd|allocation failure): (error: )?", "", lines[-1]) if lines else ""
