"""How long a suite takes on N machines: its queue entries, started one by one as they become ready.

A simulation of what Snakemake does with them, from measured costs. Nothing is known of a queue's other users.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from daar.cluster.costs import Cost
from daar.suite.definition import Setting, Suite

# the groups of workflow/rules, in the order in which they become ready
_GROUPS = ("dense", "importance", "tuning")


@dataclass
class Entry:
    """One entry of the queue: jobs that a machine runs in turn.

    Attributes:
        group: dense, importance or tuning.
        of: what it shares with chains that may be in the same entry: dataset, network and, after `dense`, seed.
        after: the entries that it waits for, by their index, which is lower than its own.
        seconds: of all its jobs together.
        jobs: how many it holds.
    """

    group: str
    of: tuple[object, ...]
    after: set[int] = field(default_factory=set)
    seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True)
class SimulatedRun:
    """How long N machines take for a queue.

    Attributes:
        machines: how many.
        seconds: from the first start to the last end.
        busy: fraction of the machines' time in which they work.
    """

    machines: int
    seconds: float
    busy: float


def entries(
    suite: Suite, costs: Iterable[Cost], components: Mapping[str, int] | None = None, overhead: float = 0
) -> list[Entry]:
    """The queue of a suite, in the order in which it becomes ready.

    Args:
        suite: the experiment.
        costs: of its jobs.
        components: group → how many chains of jobs that do not depend on each other share an entry; 1 where absent.
        overhead: further seconds of an entry: its start, and until its end is noticed.
    """
    queue = _Queue({cost.key: cost.seconds for cost in costs})
    for setting in suite.settings:
        _add_setting(suite, setting, queue)
    return _shared(queue.entries, components or {}, overhead)


class _Queue:
    """Chains of jobs by name."""

    def __init__(self, seconds: Mapping[tuple[object, ...], float]) -> None:
        self._seconds = seconds
        self.entries: list[Entry] = []
        self._index: dict[tuple[object, ...], int] = {}

    def chain(
        self, group: str, of: tuple[object, ...], *name: object, after: Iterable[int] = ()
    ) -> tuple[int, bool]:  # fmt: skip
        """The index of a chain, and whether it is new."""
        key = (group, *of, *name)
        new = key not in self._index
        if new:
            self._index[key] = len(self.entries)
            self.entries.append(Entry(group, of, set(after)))
        return self._index[key], new

    def add(self, index: int, kind: str, *of: object) -> None:
        """Append a job to a chain; what nobody measured takes no time."""
        entry = self.entries[index]
        entry.seconds += self._seconds.get((kind, *of), 0.0)
        entry.jobs += 1


def _add_setting(suite: Suite, setting: Setting, queue: _Queue) -> None:
    network, variant = (setting.dataset, setting.network), setting.variant
    imported, origin = setting.network in suite.base, suite.origin(variant)
    dense, new = queue.chain("dense", network, suite.seeds[0] if imported else setting.seed)
    for kind in (("measure",) if imported else ("train", "measure")) if new else ():
        queue.add(dense, kind, *network, None, None, None)
    if origin.schedule is not None:
        _add_scheduled(setting, queue, dense)
        return
    scores, new = queue.chain("importance", (*network, setting.seed), origin.name, after=[dense])
    if new:
        queue.add(scores, "score", *network, origin.name, None, None)
    cell = (*network, variant.name, setting.policy, setting.target)
    if variant.method != "scratch_of":
        queue.add(scores, "plan", *cell)
    tuning, _ = queue.chain("tuning", (*network, setting.seed), *cell[2:], after=[dense, scores])
    queue.add(tuning, "scratch" if variant.method == "scratch_of" else "finetune", *cell)
    queue.add(tuning, "record", *cell)


def _add_scheduled(setting: Setting, queue: _Queue, dense: int) -> None:
    """What a schedule does in one job; a control at its widths, which waits for it, as if it did not."""
    network, variant = (setting.dataset, setting.network), setting.variant
    cell = (*network, variant.name, setting.policy, setting.target)
    own = {"random_at": ("plan", "finetune"), "scratch_of": ("scratch",)}.get(variant.method, ("schedule",))
    tuning, _ = queue.chain("tuning", (*network, setting.seed), *cell[2:], after=[dense])
    for kind in (*own, "record"):
        queue.add(tuning, kind, *cell)


def _shared(chains: Sequence[Entry], components: Mapping[str, int], overhead: float) -> list[Entry]:
    """Entries of several chains each."""
    shared: list[Entry] = []
    place: dict[int, int] = {}
    first = {(chain.group, chain.of): index for index, chain in reversed(list(enumerate(chains)))}
    # groups in their order, chains that may share an entry next to each other
    order = sorted(
        range(len(chains)),
        key=lambda index: (_GROUPS.index(chains[index].group), first[chains[index].group, chains[index].of]),
    )
    for (group, of), members in itertools.groupby(order, key=lambda index: (chains[index].group, chains[index].of)):
        for batch in _batches(list(members), components.get(group, 1)):
            entry = Entry(group, of, seconds=overhead)
            for index in batch:
                place[index] = len(shared)
                entry.after |= {place[other] for other in chains[index].after}
                entry.seconds += chains[index].seconds
                entry.jobs += chains[index].jobs
            shared.append(entry)
    return shared


def _batches(members: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (members[first : first + size] for first in range(0, len(members), size))


def run(queue: Sequence[Entry], machines: int) -> SimulatedRun:
    """Start every entry as soon as it is ready and a machine is free, those of lower index first."""
    waiting = [len(entry.after) for entry in queue]
    followers: dict[int, list[int]] = {}
    for index, entry in enumerate(queue):
        for other in entry.after:
            followers.setdefault(other, []).append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < machines:
            index = heapq.heappop(ready)
            heapq.heappush(running, (now + queue[index].seconds, index))
        now, done = heapq.heappop(running)
        for follower in followers.get(done, ()):
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    work = sum(entry.seconds for entry in queue)
    return SimulatedRun(machines, now, work / (machines * now) if now else 1.0)


def critical_path(queue: Sequence[Entry]) -> float:
    """Seconds that no number of machines can shorten: the longest way through the queue."""
    ends: list[float] = []
    for entry in queue:
        ends.append(entry.seconds + max((ends[other] for other in entry.after), default=0.0))
    return max(ends, default=0.0)


def to_text(queue: Sequence[Entry], machines: Sequence[int]) -> str:
    """The queue in words, and a line for each number of machines."""
    counts = Counter(entry.group for entry in queue)
    groups = ", ".join(f"{counts[group]:,} {group}" for group in _GROUPS if counts[group])
    jobs, work = sum(entry.jobs for entry in queue), sum(entry.seconds for entry in queue)
    lines = [
        f"{jobs:,} jobs in {len(queue):,} queue entries ({groups})",
        f"{work / 3600:,.1f} machine-hours in all; critical path {critical_path(queue) / 3600:,.2f} h",
        f"{'machines':>8}  {'hours':>10}  busy",
    ]
    for simulated in (run(queue, count) for count in machines):
        lines.append(f"{simulated.machines:>8,}  {simulated.seconds / 3600:>10,.2f}  {simulated.busy:.0%}")
    return "\n".join(lines)
