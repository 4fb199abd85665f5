"""How the workflow starts one training in several processes: torchrun here, or one on each node of a Slurm job.

Imported while the DAG is built: no torch.
"""

from typing import Any

# -P: a file of the working directory, such as yaml.py, must not come before a package
_DAAR = "python -P -m daar"
_TORCHRUN = "python -P -m torch.distributed.run"
# Of the job's own, so that jobs which share a node do not meet. The first node's Snakemake runs the command, hence
# hostname is where the processes meet.
_MEETING = "--rdzv-backend=c10d --rdzv-endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000)) --rdzv-id=$SLURM_JOB_ID"


def command(processes: int, nodes: int, *, gpus: bool) -> str:
    """What comes before a stage's name in a rule.

    Args:
        processes: that share every batch, on all nodes together.
        nodes: of a Slurm job; 1 on one machine.
        gpus: whether each process has a GPU.
    """
    if processes == 1:
        return _DAAR
    if nodes == 1:
        return f"{_TORCHRUN} --standalone --nproc-per-node={processes} --no-python {_DAAR}"
    # a process that ends badly takes all others with it at once, on whatever node
    start = f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --kill-on-bad-exit=1"
    start += f" --gpus-per-node={processes // nodes}" if gpus else ""
    return f"{start} {_TORCHRUN} --nnodes={nodes} --nproc-per-node={processes // nodes} {_MEETING} --no-python {_DAAR}"


def resources(processes: int, nodes: int, *, gpus: bool) -> dict[str, Any]:
    """What Snakemake's Slurm executor needs to know of a job on several nodes; nothing for one on one.

    Args:
        processes: as for `command`.
        nodes: as for `command`.
        gpus: as for `command`.
    """
    if nodes == 1:
        return {}
    # `mpi`: the command starts its processes itself
    given: dict[str, Any] = {"mpi": "srun", "nodes": nodes, "tasks": nodes}
    return {**given, "slurm_extra": f"--gpus-per-node={processes // nodes}"} if gpus else given
