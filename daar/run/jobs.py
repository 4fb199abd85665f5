"""What jobs of the workflow get: threads, GPUs, time, memory, processes. Neither torch nor numpy.

Snakemake calls what takes `wildcards` for every job; on a cluster the scheduler is asked for the same.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar.cluster import costs, launch, requests, slurm
from daar.device import gpu
from daar.methods import discovery, planners
from daar.models import own
from daar.suite import paths
from daar.suite.definition import Suite


@dataclass(frozen=True)
class Where:
    """Where jobs run.

    Attributes:
        on_cluster: whether jobs go to a scheduler, or this is such a job.
        in_job: whether this is such a job.
        cores: of this machine, as --cores says.
        max_threads: of a job on a cluster, as --max-threads says.
    """

    on_cluster: bool = False
    in_job: bool = False
    cores: int | None = None
    max_threads: int | None = None


def export_environment(suite: Suite, where: Where) -> int:
    """Have jobs use this interpreter and checkout, and find data and share GPUs as their suite says.

    Returns:
        The slots of one GPU; on a cluster 1, since sharing is the scheduler's business there.

    Raises:
        InputError: DAAR_SLOTS_PER_GPU is no number of slots.
    """
    if suite.data_root:  # no option of a job: a pack is the same wherever its dataset was
        os.environ["DAAR_DATA_ROOT"] = suite.data_root
    own.export(suite.networks_dirs)  # nor is this one: a network's code counts, not where it lies
    discovery.export_interpreter()
    if where.in_job:
        gpu.export_granted()
    return gpu.export_slots(1 if where.on_cluster else suite.slots_per_gpu)


def gpu_limit(suite: Suite, where: Where, slots: int) -> int:
    """How many slots of GPUs jobs may hold at once; on a cluster those of one queue entry.

    Args:
        suite: the experiment.
        where: its jobs run.
        slots: of one GPU.
    """
    if not where.on_cluster:
        return gpu.count_gpus() * slots
    granted = not where.in_job or gpu.count_gpus() > 0
    return suite.processes * granted


class Jobs:
    """What the jobs of a suite get.

    Args:
        suite: the experiment.
        where: its jobs run.
        gpus: whether they have GPUs.
        partition: of a Slurm cluster, by name; None for its default one. No retry asks for more than it has.

    Attributes:
        all_cores: threads of a job that nothing else may run next to.
        threads_of_dense: of the training of a dense network.
        threads_of_setting: of a job of one setting.
        nodes: that a training runs on.
        processes: resources of a training, which may run in several processes. Started in another way it gives the same
            network, so they are no params.
        unmeasured: why times follow from MACs; None where they were measured.
    """

    def __init__(self, suite: Suite, where: Where, *, gpus: bool, partition: object = None) -> None:
        self._where = where
        # a job asks for nothing any more
        ceiling = slurm.ceiling(partition) if where.on_cluster and not where.in_job else (None, None)
        file = Path(paths.RESULTS, suite.name, costs.FILE)
        self._requests, self.unmeasured = requests.for_suite(suite, file, gpus=gpus, ceiling=ceiling)
        # for one job Snakemake has no core left for another; on a cluster that job asks for its node alone
        self.all_cores, self.threads_of_dense, self.threads_of_setting = map(
            self._threads, (1, suite.dense_count, len(suite.settings))
        )
        self._costly_policies = set(planners.measuring(suite.methods_dirs))
        # on one machine all processes run there
        self.nodes = suite.nodes if where.on_cluster else 1
        per_node = suite.processes // self.nodes
        self.processes: dict[str, Any] = {
            "gpu": suite.processes,
            "launch": launch.command(suite.processes, self.nodes, gpus=gpus),
            "threads_each": lambda _, threads: max(1, threads // per_node),
            **launch.resources(suite.processes, self.nodes, gpus=gpus),
        }

    @property
    def alone(self) -> dict[str, str]:
        """Resources of a job that nothing else may run next to."""
        return {"slurm_extra": "--exclusive"} if self._where.on_cluster else {}

    def minutes(self, kind: str, times: float = 1) -> Callable[[Any, int], int]:
        """How long a job may take, as a resource; a retry may take longer.

        Args:
            kind: its rule, as in daar.cluster.costs.
            times: how often it does such work.
        """

        def asked(wildcards: Any, attempt: int) -> int:
            given = dict(wildcards)
            target = paths.target_from_text(given["target"]) if "target" in given else None
            return self._requests.minutes(
                kind, attempt, given["dataset"], given["network"], given.get("variant"), given.get("policy"), target,
                times=times,
            )  # fmt: skip

        return asked

    def memory(self, wildcards: Any, attempt: int) -> int:
        """MB of main memory of a job, as a resource; a retry may take more."""
        return self._requests.memory_mb(attempt, wildcards.dataset)

    def _threads(self, jobs: int) -> int:
        """Threads of each of N jobs: what --max-threads says on a cluster, else a share of this machine's cores."""
        if self._where.on_cluster:
            return self._where.max_threads or 1
        return gpu.share_of_cores(jobs, self._where.cores or 1)

    def threads_of_plan(self, wildcards: Any) -> int:
        """Threads of planning: a policy that a method brings may run the network; ours only count."""
        return self.threads_of_setting if wildcards.policy in self._costly_policies else 1
