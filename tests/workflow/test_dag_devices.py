"""What jobs are given: GPUs, slots and threads, as Snakemake would hand them out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.test_dag import snakemake

SUITE: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5]},
    **{"seeds": [0], "finetune": {"epochs": 1}, "methods": ["l1", "hrank"], "latency": True},
    "variants": {"at": {"random_at": "l1"}, "anew": {"scratch_of": "l1"}},
    "stability": {"images": [10, 20], "variants": ["hrank"]},
}


def jobs(folder: Path, *arguments: str, environment: dict[str, str] | None = None, **changes: Any) -> list[Any]:
    """A dry run's jobs: rule, threads, gpu, command."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, **changes}))
    done = snakemake("-n", "-p", "--configfile", "tiny.yaml", *arguments, cwd=folder, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for part in re.split(r"\n(?=\[)", done.stdout):
        if rule := re.search(r"^rule (\w+):$", part, re.MULTILINE):
            threads, gpu = (re.search(rf"{key}[:=] ?(\d+)", part) for key in ("threads", "gpu"))
            command = re.search(r"^\s*(Shell command: )?(python -m daar .*)$", part, re.MULTILINE)
            found.append((rule[1], int(threads[1]) if threads else 1, gpu and int(gpu[1]), command and command[2]))
    return found


@pytest.mark.parametrize(("visible", "slots", "total"), [("", 3, 0), ("0", 1, 1), ("0,1", 1, 2), ("0,1", 3, 6)])
def test_gpus_times_slots_are_handed_out(tmp_path: Path, visible: str, slots: int, total: int) -> None:
    found = jobs(tmp_path, environment={"CUDA_VISIBLE_DEVICES": visible}, slots_per_gpu=slots)
    asked = {rule: gpu for rule, _, gpu, _ in found if gpu is not None}
    assert asked["train"] == asked["finetune"] == min(1, total)
    assert asked["latency"] == min(slots, total)  # every slot of one GPU
