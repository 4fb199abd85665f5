"""How long a suite will take: a few steps of every kind of work are timed on this machine, and multiplied.

On one machine jobs run side by side as the workflow runs them: one for each GPU, or on shares of the cores.
daar/cluster/simulation.py works out from the same figures what they take on a cluster of such machines.

What is timed: a training step of every dense network and of its slim form at every target, evaluation, every method's
scores, and the start of a job. What is not: waiting for a download, and other programs on the machine.
"""

import functools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from daar import models
from daar.cluster.costs import Cost
from daar.data import datasets
from daar.data.datasets import Dataset
from daar.data.packed import Pack
from daar.device import gpu
from daar.device.malloc import retain_freed_memory
from daar.errors import InputError
from daar.measure.accuracy import evaluate
from daar.methods import discovery, planners
from daar.pruning import importance
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import graph_of
from daar.pruning.planning import plan_by_policy, uniform_plan
from daar.pruning.policy_arguments import as_own
from daar.pruning.scoring import Batch, score
from daar.pruning.shapes import shapes_of
from daar.pruning.slim import slim
from daar.suite.definition import Setting, Suite
from daar.training.batches import Data
from daar.training.engine import Loop
from daar.training.recipe import Recipe

_STEPS = 4
_EVALUATED = 500
_SCORED = 64
# images of a calibration loss, in passes of half of them; and of how many groups, since a loss starts at its group
_MASKED, _MASKED_GROUPS = 64, 8
# how often a method's own policy asks for it: `adaptive` 4 times where half of the MACs go, 5 times where 70 % do
_LOSSES_PER_GROUP = 5
# Snakemake's own seconds for a job, on top of what the job's process takes to start
_SCHEDULING = 0.3
# what a job's process imports
_LIGHT = "import daar.cli.main, daar.stages.score, daar.stages.plan"
_RECORDS = "import daar.cli.main, daar.run.reuse"
_HEAVY = "import daar.cli.main, daar.stages.finetune, daar.stages.record"
# of kinds of work, where the rule's name says too little
_NAMES = {"scratch": "from scratch"}


@dataclass
class Estimate:
    """What is expected, job by job.

    Attributes:
        costs: of every job of the suite, but for seeds, which are alike.
        side_by_side: kind of work → how many such jobs run at once on this machine.
        peak_mb: main memory that this process had at its peak, having done every kind of work.
    """

    costs: list[Cost] = field(default_factory=list)
    side_by_side: dict[str, int] = field(default_factory=dict)
    peak_mb: int = 0

    @property
    def jobs(self) -> dict[str, int]:
        """Kind of work → how many jobs."""
        return {kind: sum(cost.count for cost in self.costs if cost.kind == kind) for kind in self.side_by_side}

    @property
    def seconds(self) -> dict[str, float]:
        """Kind of work → seconds on this machine, those jobs that run side by side counted once."""
        return {
            kind: sum(cost.count * cost.seconds for cost in self.costs if cost.kind == kind) / at_once
            for kind, at_once in self.side_by_side.items()
        }

    @property
    def hours(self) -> float:
        """From the first job of the suite to the last, on this machine."""
        return sum(self.seconds.values()) / 3600


def estimate(
    suite: Suite, device: torch.device, cores: int, *, threads: int | None = None, kept: Collection[str] = ()
) -> Estimate:
    """Time a little of everything that a suite does.

    Args:
        suite: the experiment.
        device: that its jobs will run on.
        cores: of the CPU, as Snakemake will be given.
        threads: of every job; None for its share of the cores.
        kept: paths of settings that a kept record stands for.

    Raises:
        InputError: a target cannot be reached.
    """
    result = Estimate()
    starts = {imports: _start(imports) + _SCHEDULING for imports in (_LIGHT, _HEAVY)}
    before = torch.get_num_threads()

    def add(kind: str, jobs: int, count: int, work: Callable[[], float], **of: Any) -> None:
        """Time work as one of `jobs` jobs of the suite would do it."""
        share = threads or gpu.share_of_cores(jobs, cores)
        torch.set_num_threads(share)
        places = gpu.count_gpus() if device.type == "cuda" else cores // share
        start = starts[_LIGHT if kind in ("score", "plan") else _HEAVY]
        result.costs.append(Cost(kind, count=count, seconds=work() + start, **of))
        result.side_by_side[kind] = max(1, min(places, jobs))

    try:
        for name in suite.datasets:
            for network in suite.networks:
                _add_network(suite, datasets.get(name), network, device, kept, add)
    finally:
        torch.set_num_threads(before)
    result.side_by_side = {kind: min(at_once, result.jobs[kind]) for kind, at_once in result.side_by_side.items()}
    if kept:
        result.costs.append(Cost("reuse", "", "", len(kept), _start(_RECORDS) + _SCHEDULING))
        result.side_by_side["reuse"] = min(cores, len(kept))
    result.costs.append(Cost("tables and figures", "", "", 3, 1.0 + _SCHEDULING))
    result.side_by_side["tables and figures"] = 1
    result.peak_mb = _peak_mb()
    return result


def _add_network(
    suite: Suite,
    dataset: Dataset,
    network: str,
    device: torch.device,
    kept: Collection[str],
    add: Callable[..., None],
) -> None:
    timed = _Timed(dataset, network, device)
    dense, cells = suite.dense_count, len(suite.settings)
    bases = 1 if network in suite.base else len(suite.seeds)
    of = {"dataset": dataset.name, "network": network}
    if network not in suite.base:
        add("train", dense, bases, lambda: timed.training(suite.train, None, dataset), **of)
    settings = [s for s in suite.settings if (s.dataset, s.network) == (dataset.name, network)]
    if any(setting.path not in kept for setting in settings):
        add("measure", dense, bases, lambda: timed.evaluation(None, dataset.val + dataset.test), **of)
    for variant in suite.variants:
        if variant.of is None and variant.schedule is None:
            method = discovery.get(variant.method, suite.methods_dirs)
            options = dict(variant.options)
            images = suite.calibration_images
            work = functools.partial(timed.scoring, method, options, images)
            add("score", cells, len(suite.seeds), work, variant=variant.name, **of)
    for setting in settings:
        if setting.seed != suite.seeds[0]:  # the others take as long
            continue
        if left := sum(replace(setting, seed=seed).path not in kept for seed in suite.seeds):
            _add_setting(suite, dataset, setting, left, timed, add)


def _add_setting(
    suite: Suite, dataset: Dataset, setting: Setting, seeds: int, timed: "_Timed", add: Callable[..., None]
) -> None:
    timed.require_plan(suite, setting)
    target, tuning = setting.target, suite.finetune
    brought = setting.policy in planners.measuring(suite.methods_dirs)
    passes = _LOSSES_PER_GROUP * timed.groups + 1 if brought else 0
    add_job = functools.partial(
        add, jobs=len(suite.settings), count=seeds, dataset=dataset.name, network=setting.network,
        variant=setting.variant.name, policy=setting.policy, target=target,
    )  # fmt: skip
    if setting.variant.schedule is not None:
        add_job("schedule", work=lambda: timed.scheduled(suite, setting, dataset, passes))
    elif setting.variant.method == "scratch_of":
        longer = suite.train.epochs / max(1, tuning.epochs) + 1
        add_job("scratch", work=lambda: longer * timed.training(tuning, target, dataset))
    else:
        add_job("plan", work=lambda: passes * timed.masked(suite.calibration_images))
        add_job("finetune", work=lambda: timed.training(tuning, target, dataset) + timed.check)
    # untuned, recalibrated, tuned, and the best epoch on val
    add_job("record", work=lambda: 4 * timed.evaluation(target, dataset.val + dataset.test))


class _Timed:
    """Seconds of one network's work on images of one dataset; each is measured once."""

    def __init__(self, dataset: Dataset, network: str, device: torch.device) -> None:
        self._entry, self._device, self._classes = models.get(network), device, dataset.num_classes
        self._dense = self._entry.build(self._classes)
        self._graph = graph_of(self._dense, self._entry.input_shape)
        self.groups = len(self._graph.in_scope("all"))
        self._mean, self._std = (0.5,) * dataset.shape[0], (0.25,) * dataset.shape[0]
        self._shape = dataset.shape
        self._planned: set[str] = set()
        self.check = _seconds(lambda: self._dense.double()(torch.zeros(16, *self._entry.input_shape).double()), 1)
        self._dense.float()

    def training(self, recipe: Recipe, target: float | None, dataset: Dataset) -> float:
        """A whole training by a recipe, val after every epoch included."""
        if not recipe.epochs:  # its learning rate has no course that could be timed
            return 0.0
        steps = -(-dataset.train // recipe.batch_size)
        epoch = steps * self._step(recipe, target) + self.evaluation(target, dataset.val)
        return recipe.epochs * epoch

    def scheduled(self, suite: Suite, setting: Setting, dataset: Dataset, passes: int) -> float:
        """A whole schedule: a tuning at its widths, with its scores and plans."""
        by, recipe, images = setting.variant.schedule, suite.finetune, suite.calibration_images
        assert by is not None
        method = discovery.get(setting.variant.method, suite.methods_dirs)
        planned = self.scoring(method, dict(setting.variant.options), images) + passes * self.masked(images)
        dense, slim_one = (self.training(recipe, target, dataset) for target in (None, setting.target))
        number = by.given.get("rounds", 1)
        if by.name == "soft":
            return dense + planned * recipe.epochs / by.given["interval"] + self.check
        # widths fall from part to part
        return (dense + slim_one) / 2 + number * (planned + self.check)

    @functools.cache  # noqa: B019  # lives as long as the estimate
    def _step(self, recipe: Recipe, target: float | None) -> float:
        pack = self._pack(recipe.batch_size * (_STEPS + 2))
        data = Data(pack, pack, self._mean, self._std, flip=True)
        teacher = self._network(None) if recipe.distillation else None
        loop = Loop(self._network(target), data, recipe, 0, self._device, teacher)
        steps = loop.train(0)
        next(steps), next(steps)  # the first are slower: caches, kernels, a graph's capture
        return _seconds(lambda: next(steps), _STEPS, self._device)

    @functools.cache  # noqa: B019
    def _per_image(self, target: float | None) -> float:
        pack = self._pack(_EVALUATED)
        model = self._network(target).to(self._device).to(memory_format=torch.channels_last)
        run = functools.partial(evaluate, model, pack, self._mean, self._std, self._device)
        run()
        return _seconds(run, 2, self._device) / _EVALUATED

    def evaluation(self, target: float | None, images: int) -> float:
        """This number of images, classified in strict float32."""
        return images * self._per_image(target)

    def masked(self, images: int) -> float:
        """The calibration loss of a masked network, once: the mean over its groups."""
        return images * self._per_masked_image()

    @functools.cache  # noqa: B019
    def _per_masked_image(self) -> float:
        shown = torch.rand(_MASKED, *self._shape).to(self._device)
        loss = CalibrationLoss(self._dense.to(self._device), self._graph, shown)
        groups = self._graph.in_scope("all")
        some = groups[:: -(-len(groups) // _MASKED_GROUPS)]

        def seconds(group: str) -> float:
            return _seconds(lambda: loss({group: [0]}), 2, self._device)

        with retain_freed_memory(torch.device("cpu")):  # as a plan does
            return statistics.mean(seconds(group.name) for group in some) / _MASKED

    def scoring(self, method: discovery.Method, options: dict[str, Any], images: int) -> float:
        """A method's scores; 0 where they come from a program of its own, which cannot be timed here."""
        if method.scores is None:
            return 0.0
        shown = min(images, max(_SCORED, 10 * self._classes))
        batch = Batch(torch.rand(shown, *self._shape), torch.arange(shown) % self._classes)
        model = self._dense.to(self._device)
        sees_images = {"images", "labels"} & set(method.info.get("uses", ()))
        once = _seconds(lambda: score(model, batch, self._graph, method, options, 0), 1, self._device)
        return once * (images / shown if sees_images else 1)

    def require_plan(self, suite: Suite, setting: Setting) -> None:
        """Have a policy that a folder brings, or one of daar's own that rounds, plan once, by random scores.

        Raises:
            InputError: it breaks its contract, or widths in such multiples miss the target; before anything is trained.
        """
        origin = suite.origin(setting.variant)
        key = repr([origin, setting.policy, setting.target])
        rounds = suite.round_to > 1 and setting.policy in ("uniform", "global")
        if key in self._planned or not (rounds or setting.policy in planners.find(suite.methods_dirs)):
            return
        self._planned.add(key)
        dice = torch.Generator().manual_seed(0)
        widths = importance.widths(self._graph)
        method, options = as_own(
            suite.methods[origin.method], dict(origin.options), setting.policy, dict(origin.policy_options),
            lambda: shapes_of(self._graph), suite.methods_dirs,
        )  # fmt: skip
        plan_by_policy(
            self._graph,
            {layer: torch.rand(width, generator=dice) for layer, width in widths.items()},
            method,
            setting.policy,
            options=options,
            make_loss=lambda: lambda removed: float(sum(map(len, removed.values())) ** 2),
            scope=setting.scope,
            target=setting.target,
            methods_dirs=suite.methods_dirs,
            round_to=suite.round_to,
        )

    def _network(self, target: float | None) -> nn.Module:
        self._dense.cpu()
        if not target:
            return self._entry.build(self._classes)
        graph = self._graph
        ones = {layer: torch.ones(width) for layer, width in importance.widths(graph).items()}
        return slim(self._dense, graph, uniform_plan(graph, ones, "all", target).removed(graph))

    def _pack(self, count: int) -> Pack:
        channels, height, width = self._shape
        images = torch.randint(256, (count, height, width, channels), dtype=torch.uint8)
        labels = torch.arange(count) % self._classes
        names = tuple(map(str, range(self._classes)))
        return Pack(images, labels, names, self._mean, self._std, "random", "train", "", "")


def _seconds(work: Callable[[], object], times: int, device: torch.device | None = None) -> float:
    """The median of a few runs."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _start(imports: str) -> float:
    """Seconds that a process takes which only imports."""
    try:
        return _seconds(
            lambda: subprocess.run([sys.executable, "-P", "-c", imports], check=True, capture_output=True), 2
        )
    except subprocess.CalledProcessError as error:
        raise InputError(f"a job cannot start: {error.stderr.decode(errors='replace').strip()[-200:]}") from error


def _peak_mb() -> int:
    """Main memory of this process at its peak, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def to_text(result: Estimate) -> str:
    """A line for every kind of work, and the sum."""
    rows = [
        f"{_NAMES.get(kind, kind):<20} {result.jobs[kind]:>6} jobs, {result.side_by_side[kind]} at once "
        f"{_readable(seconds):>14}"
        for kind, seconds in result.seconds.items()
    ]
    total = f"{'together':<20} {sum(result.jobs.values()):>6} jobs {_readable(3600 * result.hours):>25}"
    return "\n".join([*rows, total])


def _readable(seconds: float) -> str:
    from daar.training.progress import duration

    return duration(seconds) if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


__all__ = ["Estimate", "estimate", "to_text"]
