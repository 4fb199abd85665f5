"""How long and how much memory the workflow's rules ask a scheduler for: measured costs with a margin, more on a retry.

Imported while the DAG is built: neither torch nor numpy.
"""

import math
from pathlib import Path

from daar.cluster import costs
from daar.cluster.costs import Measured
from daar.data import datasets
from daar.errors import InputError
from daar.suite import work
from daar.suite.definition import Suite

# Of a measured time: nodes differ, and others use them. Of one that follows from MACs alone: much more.
_MARGIN, _UNMEASURED_MARGIN = 2.0, 5.0
# of the measured memory: images are random there, and the file system's cache is counted by some schedulers
_MEMORY_MARGIN = 1.25
_UNMEASURED_MB = 3000
# seconds that a job takes on a slow file system before it does anything: two Snakemakes, then torch
_START = 120
# seconds of work that no one measures: controls' plans, latency
_OTHER = 600
Ceiling = tuple[int | None, int | None]


class Requests:
    """What the jobs of a suite ask for.

    Args:
        suite: the experiment.
        measured: what its jobs cost; None where nobody measured it, so that times follow from MACs.
        gpus: whether jobs will have a GPU, for those times.
        ceiling: MB and minutes that no job may ask for more of, a retry included; None for no limit.
    """

    def __init__(
        self, suite: Suite, measured: Measured | None, *, gpus: bool, ceiling: Ceiling = (None, None)
    ) -> None:  # fmt: skip
        self._suite, self._gpus = suite, gpus
        self._most_mb, self._most_minutes = (math.inf if limit is None else limit for limit in ceiling)
        self._seconds = {cost.key: cost.seconds for cost in measured.costs} if measured else {}
        self._peak_mb = measured.peak_mb if measured else 0

    def minutes(
        self, kind: str, attempt: int, dataset: str, network: str, variant: str | None = None,
        policy: str | None = None, target: float | None = None, *, times: float = 1,
    ) -> int:  # fmt: skip
        """Minutes of a job of that kind.

        Args:
            kind: as in a cost; any other kind gets what small work gets.
            attempt: 1, 2, …: every retry asks for that many times as long.
            dataset: by name.
            network: by name.
            variant: from `score` on.
            policy: from `plan` on.
            target: from `plan` on.
            times: how often it does such work.
        """
        seconds = self._seconds.get((kind, dataset, network, variant, policy, target))
        if seconds is not None:
            asked = _MARGIN * seconds * times
        else:
            asked = _UNMEASURED_MARGIN * self._from_macs(kind, dataset, network) * times
        first = math.ceil((asked + _START) / 60)
        # what is too long from the start is for Slurm to refuse
        return max(first, int(min(attempt * first, self._most_minutes)))

    def memory_mb(self, attempt: int, dataset: str) -> int:
        """MB of main memory of a job that works on a dataset, in whole 256 MB; every retry asks for as much again."""
        facts = datasets.get(dataset)
        images = 0 if facts.stays_in_folder else (facts.train + facts.val + facts.test) * math.prod(facts.shape)
        # images are there twice for a moment, as they were read and as they are kept
        measured = self._peak_mb + 2 * images / 1e6 if self._peak_mb else _UNMEASURED_MB
        first = 256 * math.ceil(_MEMORY_MARGIN * measured / 256)
        return max(first, int(min(attempt * first, self._most_mb)))

    def _from_macs(self, kind: str, dataset: str, network: str) -> float:
        epochs = {"train": self._suite.train.epochs, "finetune": self._suite.finetune.epochs}
        epochs["schedule"] = 2 * epochs["finetune"]  # at the dense network's width, and with scores and plans
        epochs["scratch"] = 2 * (epochs["train"] + epochs["finetune"])  # at equal compute it may take longer than dense
        if kind not in epochs:
            return _OTHER / _UNMEASURED_MARGIN
        return epochs[kind] * work.epoch_flops(dataset, network) / work.throughput(gpu=self._gpus)


def for_suite(
    suite: Suite, path: Path, *, gpus: bool, ceiling: Ceiling = (None, None)
) -> tuple[Requests, str | None]:  # fmt: skip
    """What a suite's jobs ask for, by the costs in a file.

    Returns:
        The requests, and why they rest on no measurement: None where they do.
    """
    measured, reason = _measured(suite, path)
    return Requests(suite, measured, gpus=gpus, ceiling=ceiling), reason


def _measured(suite: Suite, path: Path) -> tuple[Measured | None, str | None]:
    """The costs in a file, or why they cannot be used."""
    if not path.exists():
        return None, f"no {path} yet"
    try:
        measured = costs.read(path)
    except InputError as error:
        return None, str(error)
    if measured.of != costs.fingerprint(suite):
        return None, f"{path} was measured for other recipes or variants"
    return measured, None
