"""The real DAG on real images, small: what a user gets, what a second run does, and what survives a kill."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from daar.suite import figures
from daar.training import precision
from daar.training.recipe import Recipe
from tests.workflow.test_dag import dry_run, snakemake

SUITE = {
    "suite": "tiny",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "methods": ["l1", "random"],
    "variants": {"l1-at": {"random_at": "l1"}, "l1-anew": {"scratch_of": "l1"}},
    "macs_reductions": [0.5],
    "seeds": [0, 1],
    "calibration_images": 64,
    "train": {"epochs": 2, "lr": 0.05, "batch_size": 128},
    "finetune": {"epochs": 1, "lr": 0.02, "batch_size": 128},
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    return snakemake("--configfile", "tiny.yaml", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_setting_has_its_record_and_the_table_its_numbers(finished: Path) -> None:
    records = [json.loads(path.read_text()) for path in sorted(finished.glob("results/tiny/**/record.json"))]
    assert len(records) == 8
    frame = pd.read_csv(finished / "results" / "tiny" / "results.csv")
    assert len(frame) == 8
    for record in records:
        assert record["macs"]["slim"] == record["macs"]["slim_closed_form"]
        assert abs(record["macs_reduction"] - 0.5) < 0.002
        assert record["slim_error"]["max_relative"] <= 1e-10
        stages = {"random_at": {"plan"}, "scratch_of": set()}.get(record["method"], {"score", "plan"})
        assert set(record["seconds"]) == stages | {"finetune", "measure"}
        assert (record["top1"]["test"]["pruned"] is None) == (record["method"] == "scratch_of")
        assert (record["of"] == "l1") == (record["variant"] in ("l1-at", "l1-anew"))
        assert record["curve"][0]["epoch"] == 1
        assert record["precision"] == precision.choose(Recipe(), torch.device("cpu")).precision
        assert record["top1"]["val"]["tuned"] == record["curve"][-1]["val_top1"]
        row = frame[(frame["seed"] == record["seed"]) & (frame["variant"] == record["variant"])].iloc[0]
        assert row["top1_tuned"] == record["top1"]["test"]["tuned"]
    # the same dense network for every method of a seed, another for another seed
    bases = {(r["seed"], r["base"]["sha256"]) for r in records}
    assert len(bases) == 2

    table = (finished / "results/tiny/tables/digits-resnet20.md").read_text()
    mean = frame[frame["variant"] == "l1"]["top1_tuned"].mean()
    std = frame[frame["variant"] == "l1"]["top1_tuned"].std(ddof=1)
    assert f"{mean:.2f} ± {std:.2f} (2)" in table
    assert "random (control)" in table
    assert "random, at L1's widths (control)" in table
    assert "from scratch, at L1's widths, same epochs (control)" in table
    written = {path.name for path in (finished / "results/tiny/tables").iterdir()}
    forms = ("md", "csv", "tex", "html")
    pages = {f"digits-resnet20{page}.{form}" for page in ("", "-costs") for form in forms}
    assert written == {*pages, "digits-resnet20-differences.csv", "ledger.md", "ledger.csv"}
    with Image.open(finished / "results/tiny/figures/digits-resnet20-accuracy-macs.png") as figure:
        assert figure.width > 600


def test_logs_have_a_line_per_epoch_with_eta(finished: Path) -> None:
    for log in finished.glob("results/dense/**/train.log"):
        lines = log.read_text().splitlines()
        assert ": cpu, " in lines[0]  # how steps run
        assert [line.split(":")[1].split("  ")[0].strip() for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"]
        assert all("ETA" in line for line in lines[1:])


def test_a_second_run_does_nothing(finished: Path) -> None:
    done = run(finished)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_touching_the_code_reruns_nothing(finished: Path) -> None:
    package = Path(__file__).resolve().parents[2] / "daar" / "training" / "engine.py"
    package.touch()
    assert "Nothing to be done" in (done := run(finished, "-n")).stdout + done.stderr


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The results alone in another folder, as `cp -r`, unzip or git bring them: with dates in no order."""
    shutil.copytree(finished / "results", tmp_path / "results", copy_function=shutil.copyfile)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    draw = random.Random(0)
    for path in tmp_path.rglob("*"):
        moment = 1_700_000_000 + draw.randrange(10_000_000)
        os.utime(path, (moment, moment))
    return tmp_path


def test_copied_results_are_not_made_again_whatever_their_dates(copied: Path) -> None:
    assert "Nothing to be done" in (done := run(copied, "-n")).stdout + done.stderr
    shutil.rmtree(copied / "results" / "data")  # as large data often stay where they were
    assert "Nothing to be done" in (done := run(copied, "-n")).stdout + done.stderr


def test_a_copy_with_all_of_snakemake_s_own_is_not_made_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copyfile, symlinks=True)
    assert "Nothing to be done" in (done := run(tmp_path / "copy", "-n")).stdout + done.stderr


def test_what_has_changed_is_noticed_in_a_copy_whatever_its_date(copied: Path) -> None:
    pack = copied / "results/data/digits/val.safetensors"
    *before, last = pack.read_bytes()
    pack.write_bytes(bytes([*before, last ^ 1]))
    os.utime(pack, (1_000_000_000, 1_000_000_000))
    jobs = dry_run("--configfile", "tiny.yaml", cwd=copied)
    assert {rule: jobs[rule] for rule in ("train", "score_l1", "finetune", "scratch", "measure")} == {
        "train": 2, "score_l1": 2, "finetune": 6, "scratch": 2, "measure": 2,
    }  # fmt: skip


def test_a_changed_suite_is_noticed_in_a_copy(copied: Path) -> None:
    jobs = dry_run("--configfile", "tiny.yaml", "--config", "calibration_images=128", cwd=copied)
    assert jobs["score_l1"] == 2
    assert "train" not in jobs


def test_a_changed_result_is_noticed_in_a_copy(copied: Path) -> None:
    plan = copied / "results/tiny/digits/resnet20/seed0/l1/uniform-all-0.5/plan.json"
    plan.write_text(plan.read_text() + " ")
    jobs = dry_run("--configfile", "tiny.yaml", cwd=copied)
    # and of the controls at its widths
    assert {rule: jobs[rule] for rule in ("finetune", "random_at", "scratch")} == {
        "finetune": 2, "random_at": 1, "scratch": 1,
    }  # fmt: skip


def test_published_weights_are_told_by_what_they_hold_not_by_their_date(dense: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(dense / "model.safetensors", weights)
    assert weights.stat().st_size > 1_000_000  # of smaller files Snakemake itself compares the content
    suite = {key: value for key, value in SUITE.items() if key not in ("train", "variants")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**suite, "base": {"resnet20": {"file": weights.name}}}))
    asked = ("--configfile", "tiny.yaml", "--", "results/tiny/digits/resnet20/seed0/l1/importance.safetensors")
    done = snakemake(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    weights.touch()
    assert "Nothing to be done" in (done := snakemake("-n", *asked, cwd=tmp_path)).stdout + done.stderr
    past = weights.stat()
    *before, last = weights.read_bytes()
    weights.write_bytes(bytes([*before, last ^ 1]))
    os.utime(weights, ns=(past.st_atime_ns, past.st_mtime_ns))
    assert dry_run(*asked, cwd=tmp_path) == {"import_weights": 1, "score_l1": 1, "total": 2}


def test_any_record_can_be_reproduced(finished: Path, tmp_path: Path) -> None:
    record = finished / "results/tiny/digits/resnet20/seed1/l1/uniform-all-0.5/record.json"
    command = [sys.executable, "-m", "daar", "reproduce", str(record), "--keep-base", "--cores", "2", "--out"]
    done = subprocess.run([*command, str(tmp_path / "again")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("same", "differs"))]
    assert not [line for line in said if line.startswith("differs")]
    for name in ("top1.test.tuned", "macs.slim", "base.sha256", "kept.conv1", "tuned weights' sha256"):
        assert any(line.startswith(f"same     {name}: ") for line in said), name
    # only what the one record needs
    assert len(list((tmp_path / "again").rglob("record.json"))) == 1


def test_kept_records_stand_for_settings_and_give_the_same_table(finished: Path, tmp_path: Path) -> None:
    """In another folder: of eight records one was not kept, and that one alone is run."""
    for made in ("data", "dense"):
        shutil.copytree(finished / "results" / made, tmp_path / "results" / made)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, "reuse": True}))
    there = [sys.executable, "-m", "daar", "suite", "keep", "tiny.yaml"]
    command = [*there, "--results", str(finished / "results")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "8 of 8 records are in results/reference/tiny\n"
    (tmp_path / "results/reference/tiny/digits/resnet20/seed1/l1/uniform-all-0.5/record.json").unlink()
    jobs = dry_run("--configfile", "tiny.yaml", cwd=tmp_path)
    wanted = {"reuse": 5, "reuse_scratch": 2, "plan": 1, "finetune": 1, "record": 1}
    assert {rule: jobs[rule] for rule in wanted} == wanted
    assert not {"scratch", "random_at"} & set(jobs)
    assert dry_run("--configfile", "tiny.yaml", "--config", "reuse=false", cwd=tmp_path)["finetune"] == 6
    done = snakemake("--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 of 8 settings have a record in results/reference/tiny" in done.stderr
    once, again = (pd.read_csv(folder / "results/tiny/results.csv") for folder in (finished, tmp_path))
    # what was tuned here took its own time
    timed = "^(?:seconds|peak_memory_mib)_"
    once, again = (frame.loc[:, ~frame.columns.str.match(timed)] for frame in (once, again))
    pd.testing.assert_frame_equal(once, again)
    plans = [sorted((folder / "results/tiny").rglob("plan.json")) for folder in (finished, tmp_path)]
    assert len(plans[0]) == len(plans[1]) == 6
    assert [json.loads(path.read_text()) for path in plans[0]] == [json.loads(path.read_text()) for path in plans[1]]


def test_changing_the_tuning_retrains_no_dense_network(finished: Path) -> None:
    done = run(finished, "-n", "--quiet", "rules", "--config", "finetune={epochs: 2, lr: 0.02, batch_size: 128}")
    jobs = done.stdout + done.stderr
    assert "finetune" in jobs
    assert "train " not in jobs
    assert "score" not in jobs


def test_asking_for_latency_retrains_nothing(finished: Path) -> None:
    asked = ("--configfile", "tiny.yaml", "--config", "latency=true")
    jobs = {"latency": 8, "suite": 1, "collect": 1, "tables": 1, "ledger": 1, "page": 1, "all": 1}
    jobs |= {figures.rule(kind): 1 for kind in figures.KINDS}
    assert dry_run(*asked, cwd=finished) == {**jobs, "total": 21}
    # all that --cores gives, so that nothing runs beside
    assert re.findall(r"threads: (\d+)", snakemake("-n", *asked, cwd=finished).stdout) == ["2"] * 8


@pytest.mark.slow
def test_latency_of_one_setting(finished: Path) -> None:
    path = "results/tiny/digits/resnet20/seed0/l1/uniform-all-0.5/latency.json"
    done = run(finished, "--config", "latency=true", "--", path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((finished / path).read_text())
    beside = json.loads((finished / path).with_name("record.json").read_text())
    assert (found["dense"]["macs"], found["slim"]["macs"]) == (beside["macs"]["dense"], beside["macs"]["slim"])
    assert found["dense"]["sha256"] == beside["base"]["sha256"]
    assert [(batch["batch_size"], len(batch["torch"]["slim"]["windows_ms"])) for batch in found["batches"]] == [
        *((1, found["rounds"]), (128, found["rounds"]))
    ]
    assert found["threads"] == 2
    assert "dense / slim" in (finished / path).with_name("latency.log").read_text()


def test_snakemake_s_own_report_is_built_offline(finished: Path) -> None:
    done = run(finished, "--report", "report.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (finished / "report.zip").stat().st_size > 100_000


def test_a_failed_job_s_last_line_is_repeated_at_the_end(tmp_path: Path) -> None:
    done = run(tmp_path, "--config", "train={epochs: 1, lr: 1.0e+6, batch_size: 128}", "seeds=[0]")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "daar: error: the loss is" in line]
    assert said
    assert "train.log: daar: error: the loss is nan at epoch 1" in said[-1]
    assert "Lower lr" in said[-1]
    assert not list(tmp_path.glob("results/dense/**/model.*"))


# kill -9 in mid-training


def command(folder: Path, digits: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "daar", "train", "--network", "resnet20", "--dataset", "digits"),
        *("--packs", str(digits.parent), "--out", str(folder), "--threads", "1", "--seed", "3"),
        *("--epochs", "3", "--lr", "0.05", "--batch-size", "64"),
    ]


def fingerprint(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow  # test_preemption has one killed within a run, test_kills ten of a training alone
def test_killed_training_goes_on_and_ends_bit_identical(tmp_path: Path, digits: Path) -> None:
    subprocess.run(command(tmp_path / "undisturbed", digits), check=True, capture_output=True)
    folder = tmp_path / "killed"
    victim = subprocess.Popen(command(folder, digits), stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    for line in victim.stdout:
        if line.startswith("epoch 1"):
            break
    while not (folder / "resume.safetensors").exists():
        time.sleep(0.01)
    time.sleep(0.2)  # well into the second epoch
    os.kill(victim.pid, signal.SIGKILL)
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    assert not (folder / "model.safetensors").exists()

    done = subprocess.run(command(folder, digits), check=True, capture_output=True, text=True)
    # 2 where this process had to wait long for the machine
    assert re.match(r"continues after epoch [12] from", done.stdout.splitlines()[1])
    assert fingerprint(folder) == fingerprint(tmp_path / "undisturbed")
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
