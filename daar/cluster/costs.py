"""What every job of a suite costs, as it was measured: the file that `daar suite check --cluster` writes.

The workflow reads it while the DAG is built, so neither torch nor numpy is imported.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daar.storage import documents, files
from daar.storage.schemas import validate
from daar.suite.definition import Suite

FORMAT = 1
# in the folder of the suite's results
FILE = "costs.json"


@dataclass(frozen=True)
class Cost:
    """Seconds of a job, alike for every seed.

    Attributes:
        kind: its rule: train, measure, score, plan, finetune, schedule, scratch or record.
        dataset: by name.
        network: by name.
        count: how many such jobs the suite has: one for each seed, as a rule.
        seconds: of one.
        variant: from `score` on.
        policy: from `plan` on.
        target: fraction of the MACs removed, from `plan` on; None for the policy's own rate.
    """

    kind: str
    dataset: str
    network: str
    count: int
    seconds: float
    variant: str | None = None
    policy: str | None = None
    target: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from every other."""
        return (self.kind, self.dataset, self.network, self.variant, self.policy, self.target)


@dataclass(frozen=True)
class Measured:
    """The costs of a suite's jobs, and where they were measured.

    Attributes:
        of: fingerprint of what they hold for (see `fingerprint`).
        device: cpu, cuda or mps.
        hardware: in words.
        threads: CPU threads of each job.
        peak_mb: main memory that a process had at its peak, doing every kind of work.
        costs: one for each job but for its seed.
    """

    of: str
    device: str
    hardware: str
    threads: int
    peak_mb: int
    costs: tuple[Cost, ...]


def fingerprint(suite: Suite) -> str:
    """A hash of what decides how long a suite's jobs take."""
    variants = [
        [
            *(v.name, v.method, repr(v.options), v.of),
            *([repr(v.policy_options)] if v.policy_options else []),
            *([repr(v.schedule)] if v.schedule else []),
        ]
        for v in suite.variants
    ]
    recipes = [suite.train.hash, suite.finetune.hash, suite.processes]
    return files.digest([*recipes, suite.calibration_images, suite.scope, variants])


def write(path: Path, measured: Measured) -> None:
    """Write it as JSON, atomically."""
    files.write_json(path, {"format": FORMAT, **asdict(measured)})


def read(path: Path) -> Measured:
    """Read such a file.

    Raises:
        InputError: it is none, or of another format.
    """
    content = documents.read_json(path, "the costs of a suite's jobs")
    validate(content, "costs", str(path), "Make it again: daar suite check --cluster")
    del content["format"]
    return Measured(**{**content, "costs": tuple(Cost(**cost) for cost in content["costs"])})
