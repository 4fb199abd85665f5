"""How a training in several processes is started."""

import re

from daar.cluster import launch


def test_one_process_is_started_as_any_other() -> None:
    assert launch.command(1, 1, gpus=True) == "python -P -m daar"
    assert launch.resources(1, 1, gpus=True) == {}


def test_on_one_machine_torchrun_meets_nobody_else() -> None:
    command = launch.command(4, 1, gpus=True)
    assert "--standalone" in command
    assert "--nproc-per-node=4" in command
    assert "srun" not in command
    assert launch.resources(4, 1, gpus=True) == {}


def test_on_nodes_srun_starts_one_torchrun_each_and_ends_all_with_the_first_that_fails() -> None:
    command = launch.command(8, 2, gpus=True)
    assert re.match("srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 --gpus-per-node=4 ", command)
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-backend=c10d"} <= set(command.split())
    assert "--gpus-per-node" not in launch.command(8, 2, gpus=False)
    found = launch.resources(8, 2, gpus=True)
    assert found == {"mpi": "srun", "nodes": 2, "tasks": 2, "slurm_extra": "--gpus-per-node=4"}
    # Snakemake takes what is in braces for its own
    assert not set("{}") & set(command)
