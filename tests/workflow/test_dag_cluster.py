"""The workflow as a cluster would get it: a dry run with the Slurm profile, which needs no Slurm."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from daar.cluster import costs, simulation, slurm
from daar.cluster.costs import Cost, Measured
from daar.suite import figures, reading
from tests.workflow.test_dag import ROOT, snakemake
from tests.workflow.test_dag_devices import SUITE

PROFILE = ROOT / "workflow" / "profiles" / "slurm"
# run where Snakemake runs: they need the network, or take a second
LOCAL = {"pack", "suite", "collect", "tables", "ledger", "attention", "page", "stability_report", "all"}
LOCAL |= {figures.rule(kind) for kind in figures.KINDS}
SEEDS = {"seeds": [0, 1], "macs_reductions": [0.5, 0.7], "methods": ["l1", "hrank", "daar"]}


def dry_run(folder: Path, *arguments: str, **changes: Any) -> str:
    """What a dry run prints."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, **changes}))
    # a dry run alone would count on one core
    asked = ("-n", "-p", "--cores", "64", "--profile", str(PROFILE), "--configfile", "tiny.yaml", *arguments)
    done = snakemake(*asked, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(text: str) -> dict[str, list[dict[str, str]]]:
    """Rule → resources of each of its jobs, with `threads` and `command`."""
    found: dict[str, list[dict[str, str]]] = {}
    for part in re.split(r"\n *(?=(?:local)?rule \w+:\n)", text):
        if not (rule := re.match(r"(?:local)?rule (\w+):\n", part)):
            continue
        listed = re.search(r"^ *resources: (.*)$", part, re.MULTILINE)
        job = dict(re.findall(r"(\w+)=((?:(?!, \w+=).)*)", listed[1])) if listed else {}
        threads = re.search(r"^ *threads: (\d+)$", part, re.MULTILINE)
        command = re.search(r"Shell command: (.*)$", part, re.MULTILINE)
        found.setdefault(rule[1], []).append(
            {**job, "threads": threads[1] if threads else "1", "command": command[1] if command else ""}
        )
    return found


def test_every_rule_that_is_submitted_says_what_it_needs(tmp_path: Path) -> None:
    found = rules(dry_run(tmp_path, **SEEDS))
    submitted = set(found) - LOCAL
    assert {"train", "measure", "score_l1", "plan", "random_at", "finetune", "scratch", "record"} <= submitted
    assert {"latency", "stability", "explain", "record_scratch", "score_daar"} <= submitted
    # as the profile has it, for what says nothing of its own
    stated = dict(yaml.safe_load((PROFILE / "config.yaml").read_text())["default-resources"])
    for rule in submitted:
        for job in found[rule]:
            assert int(job["runtime"]) != stated["runtime"], rule
            assert int(job["mem_mb"]) != stated["mem_mb"], rule
            assert job.get("gpu") == "1" or rule == "random_at", rule
            assert job.get("turn") == "1" or rule in ("latency", "stability"), rule
            assert int(job["threads"]) <= 4, rule
    assert found["latency"][0]["slurm_extra"] == "--exclusive"
    assert {job["threads"] for rule in ("train", "finetune", "record") for job in found[rule]} == {"4"}


def test_jobs_share_queue_entries_as_the_simulation_says(tmp_path: Path) -> None:
    text = dry_run(tmp_path, **SEEDS)
    groups = Counter(name.partition("-")[0] for name in re.findall(r"Group job (\S+) \(", text))
    found = reading.load(tmp_path / "tiny.yaml")
    entries = Counter(entry.group for entry in simulation.entries(found, [], slurm.components()))
    assert groups == entries
    assert not set(re.findall(r"^    rule (\w+):", text, re.MULTILINE)) & LOCAL


def test_group_components_are_known_by_the_group_s_name(tmp_path: Path) -> None:
    text = dry_run(tmp_path, "--group-components", "importance=1", "tuning=20", **SEEDS)
    groups = Counter(name.partition("-")[0] for name in re.findall(r"Group job (\S+) \(", text))
    # three importances of two seeds each; all settings of a seed together
    assert (groups["importance"], groups["tuning"]) == (6, 2)


def test_on_one_machine_there_are_no_groups_and_no_turns(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    done = snakemake("-n", "--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Group job" not in done.stdout
    assert 'Resource("turn"' not in done.stdout + done.stderr


def test_a_job_works_out_no_hash_of_code_that_only_its_submitter_compares(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    packs = tmp_path / "results" / "data" / "digits"
    packs.mkdir(parents=True)
    for name in ("train.safetensors", "val.safetensors", "test.safetensors", "source.json"):
        (packs / name).touch()
    recipe = reading.load(tmp_path / "tiny.yaml").dense_path("digits", "resnet20", 0).split("/")[2]
    jobs = [f"{rule}:dataset=digits,network=resnet20,recipe={recipe},seed=0" for rule in ("train", "measure")]
    job = ["--mode", "remote", "--nolock", "--force", "--allowed-rules", "train", "measure", "--target-jobs", *jobs]
    assert hashed(tmp_path, *job) == set()
    assert {"train", "measure"} <= hashed(tmp_path)


def hashed(folder: Path, *arguments: str) -> set[str]:
    """Stages whose code is hashed while Snakemake reads the workflow."""
    spying = "from daar.run import code; of = code.of; "
    spying += "code.of = lambda *a, **k: (print('HASHED', *a), of(*a, **k))[1]; import snakemake.cli as c; c.main()"
    command = [sys.executable, "-c", spying, "--snakefile", str(ROOT / "Snakefile"), "--configfile", "tiny.yaml"]
    done = subprocess.run(
        [*command, "-n", "--cores", "1", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^HASHED (\S+)", done.stdout, re.MULTILINE))


def test_measured_costs_decide_the_time_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    found = reading.load(tmp_path / "tiny.yaml")
    tuning = Cost("finetune", "digits", "resnet20", 1, 3540.0, "l1", "uniform", 0.5)
    measured = Measured(costs.fingerprint(found), "cpu", "a machine", 4, 2000, (tuning,))
    costs.write(tmp_path / "results" / "tiny" / "costs.json", measured)
    jobs = rules(dry_run(tmp_path))["finetune"]
    assert sorted(int(job["runtime"]) for job in jobs)[-1] == 120
    assert {job["mem_mb"] for job in jobs} == {"2560"}


def test_without_gpus_no_job_asks_for_one(tmp_path: Path) -> None:
    found = rules(dry_run(tmp_path, "--resources", "gpu=0"))
    assert {job.get("gpu") for rule in ("train", "finetune", "score_l1") for job in found[rule]} == {"0"}


def test_a_training_on_nodes_is_an_entry_of_its_own_and_starts_its_processes_itself(tmp_path: Path) -> None:
    recipe = {"epochs": 1, "batch_size": 64}
    several = {"train": recipe, "finetune": recipe, "distributed": {"processes": 4, "nodes": 2}}
    text = dry_run(tmp_path, **several)
    found = rules(text)
    for rule in ("train", "finetune", "scratch"):
        for job in found[rule]:
            assert {job["gpu"], job["threads"]} == {"4"}, rule
            assert (job["mpi"], job["nodes"], job["tasks"]) == ("srun", "2", "2")
            assert job["command"].startswith("srun --nodes=2 --ntasks=2 ")
            assert " --nproc-per-node=2 " in job["command"]
            assert re.search(r" -m daar (train|finetune|scratch) .* --threads 2 ", job["command"])
    assert not re.findall(r"Group job (?!importance)", text)
    assert "-x4/seed0/model.safetensors" in text


def test_several_processes_on_one_machine(tmp_path: Path) -> None:
    recipe = {"epochs": 1, "batch_size": 64}
    several = {"train": recipe, "finetune": recipe, "distributed": {"processes": 2, "nodes": 2}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, **several}))
    done = snakemake("-n", "-p", "--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = re.search(r"Shell command: (.* -m daar train .*)", done.stdout)
    assert command is not None
    assert "--standalone --nproc-per-node=2" in command[1]
    assert " --threads 1 " in command[1]


@pytest.mark.parametrize(
    ("distributed", "words"),
    [
        ({"processes": 3}, "batch_size is 64; the 3 of distributed.processes cannot share it"),
        ({"processes": 64}, "Choose a multiple of 64 from 128 on"),
        ({"processes": 4, "nodes": 3}, "distributed.processes is 4, which 3 nodes cannot share equally"),
        ({"processes": 1}, "processes"),
        ({"nodes": 2}, "processes"),
    ],
)
def test_processes_that_do_not_go_with_a_batch_or_nodes(
    tmp_path: Path, distributed: dict[str, int], words: str
) -> None:
    recipe = {"epochs": 1, "batch_size": 64}
    content = {**SUITE, "train": recipe, "finetune": recipe, "distributed": distributed}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    done = snakemake("-n", "--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
