"""A suite: one experiment file, validated, as frozen dataclasses, with every setting and path that follows from it.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from daar.data import sources
from daar.errors import unknown
from daar.methods import discovery, planners
from daar.pruning.own_ratios import Spec
from daar.storage.files import digest
from daar.suite import paths
from daar.suite.stability import Stability
from daar.training.recipe import Recipe
from daar.training.schedules import Schedule

RESULT_NEUTRAL = "names settings; their values are arguments of the stages"
CONTROLS = ("random_at", "scratch_of")
MACS_POINTS = 0.5


@dataclass(frozen=True)
class Variant:
    """A row of the tables: a method with options. By default its name is the method's.

    Attributes:
        name: its folder and row.
        method: whose importance; `random_at` or `scratch_of` for a control at another variant's widths.
        options: of the method or the control.
        of: the variant that such a control takes its plan from.
        policy: what turns its importance into counts, whatever the suite says; None for the suite's or the method's.
        policy_options: of its policy, whosever that is.
        schedule: when its filters go; None for one-shot.
        title: what tables and figures call it; None for a name that follows from the others (daar/suite/names.py).
    """

    name: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()
    of: str | None = None
    policy: str | None = None
    policy_options: tuple[tuple[str, Any], ...] = ()
    schedule: Schedule | None = None
    title: str | None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """Its options as its record has them."""
        return recorded(dict(self.options), dict(self.policy_options))


def recorded(options: dict[str, Any], policy_options: dict[str, Any]) -> dict[str, Any]:
    """The options of a variant as records have them: those of its policy under a key of their own, if any."""
    return {**options, **({"policy_options": policy_options} if policy_options else {})}


@dataclass(frozen=True)
class Base:
    """Published weights, in place of a dense network of our own training.

    Attributes:
        file: the .pt or .th file, as the suite names it; Suite.weights says where it is.
        mean: per channel, of pixels in 0..1, that the weights were trained with; None for the dataset's.
        std: also per channel.
        trained_on: splits that they have seen.
        url: where the file can be had, or None.
    """

    file: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    trained_on: tuple[str, ...]
    url: str | None = None

    @property
    def hash(self) -> str:
        """Takes the place of a recipe's hash in paths."""
        return "import-" + digest([self.file, self.mean, self.std])[:8]

    @property
    def options(self) -> list[str]:
        """The options of `daar import` that say the same."""
        lists = {"mean": self.mean, "std": self.std, "trained-on": self.trained_on}
        given = {name: values for name, values in lists.items() if values is not None}
        return [word for name, values in given.items() for word in (f"--{name}", *map(str, values))]


@dataclass(frozen=True)
class Setting:
    """One cell of the experiment; `target` is the fraction of MACs to be removed, None for the policy's own rate."""

    dataset: str
    network: str
    seed: int
    variant: Variant
    policy: str
    scope: str
    target: float | None

    @property
    def path(self) -> str:
        """Its folder below `results/<suite>`."""
        return setting_path(
            self.dataset, self.network, self.seed, self.variant.name, self.policy, self.scope, self.target
        )


def setting_path(
    dataset: str, network: str, seed: int, variant: str, policy: str, scope: str, target: float | None
) -> str:
    """Folder of a setting below `results/<suite>`."""
    return paths.SETTING.format(
        dataset=dataset, network=network, seed=seed, variant=variant, policy=policy, scope=scope,
        target=paths.target_to_text(target),
    )  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """One experiment. Keys as in workflow/schemas/suite.schema.yaml.

    Attributes:
        name: the folder of its results.
        datasets: by name.
        networks: by name.
        variants: rows of the tables.
        policies: what turns importance into counts, of variants that name none; None for each method's own.
        scope: `inner` or `all`; one for the whole suite, as a table compares within one scope.
        round_to: each group keeps a multiple of this many channels, or all.
        macs_points: how far the MACs removed of one target's rows may be apart, in points of the dense count.
        targets: fractions of the dense MACs to be removed; None in it for the policy's own rate.
        seeds: each is one repetition of everything.
        calibration_images: shown to data-driven methods and to BN recalibration.
        train: recipe of the dense networks.
        finetune: recipe of every pruned network.
        base: network → published weights instead of training.
        data_root: where the datasets are looked for; None for DAAR_DATA_ROOT or ./data.
        allow_cpu: whether it may run without a GPU.
        slots_per_gpu: how many jobs may share a GPU; None for DAAR_SLOTS_PER_GPU, else 1.
        processes: that share every batch of a training, each on a GPU of its own where there are GPUs.
        nodes: of a cluster that they are spread over.
        ratios: policy's name → own ratios, of policies that are such.
        reuse: whether records with an equal hash in results/reference replace runs of settings (daar/run/reuse.py).
        methods_dirs: further folders of methods.
        networks_dirs: folders of networks of one's own.
        own_data: dataset of one's own → what the suite says of it.
        latency: whether every slim network is timed, with its dense one.
        stability: which importances are scored with how many images, or None.
    """

    name: str
    datasets: tuple[str, ...]
    networks: tuple[str, ...]
    variants: tuple[Variant, ...]
    policies: tuple[str, ...] | None
    scope: str
    targets: tuple[float | None, ...]
    seeds: tuple[int, ...]
    calibration_images: int
    train: Recipe
    finetune: Recipe
    base: dict[str, Base]
    data_root: str | None
    allow_cpu: bool
    methods_dirs: tuple[Path, ...]
    latency: bool = False
    stability: Stability | None = None
    slots_per_gpu: int | None = None
    processes: int = 1
    nodes: int = 1
    reuse: bool = False
    ratios: Mapping[str, Spec] = field(default_factory=dict)
    round_to: int = 1
    macs_points: float = MACS_POINTS
    networks_dirs: tuple[Path, ...] = ()
    own_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def methods(self) -> dict[str, discovery.Method]:
        """All methods there are, by name."""
        return discovery.find(self.methods_dirs)

    @cached_property
    def settings(self) -> list[Setting]:
        """Every cell, in the order of the file."""
        return [
            Setting(dataset, network, seed, variant, policy, self.scope, target)
            for dataset in self.datasets
            for network in self.networks
            for target in self.targets
            for variant in self.variants
            for policy in self._policies(self.origin(variant))
            for seed in self.seeds
        ]

    @property
    def setting_count(self) -> int:
        """How many settings it has, without making them."""
        planned = sum(len(self._policies(self.origin(variant))) for variant in self.variants)
        return len(self.datasets) * len(self.networks) * len(self.targets) * planned * len(self.seeds)

    @property
    def dense_count(self) -> int:
        """How many dense networks it trains or imports."""
        own = sum(1 if network in self.base else len(self.seeds) for network in self.networks)
        return len(self.datasets) * own

    @property
    def ablations(self) -> tuple[str, ...]:
        """The methods that it has several variants of, sorted: reports compare their options in a table of its own."""
        methods = [variant.method for variant in self.variants if variant.of is None]
        return tuple(sorted({method for method in methods if methods.count(method) > 1}))

    def variant(self, name: str) -> Variant:
        """Look a variant up; InputError lists those there are."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise unknown("variant", name, [v.name for v in self.variants])

    def _policies(self, variant: Variant) -> tuple[str, ...]:
        if variant.policy is not None:
            return (variant.policy,)
        return self.policies or (self.methods[variant.method].policy,)

    def origin(self, variant: Variant) -> Variant:
        """The variant that a control takes its plan from; any other is its own."""
        return variant if variant.of is None else self.variant(variant.of)

    def weights(self, network: str) -> str:
        """The file of published weights: from the working directory, else from the data root, as far as it is there."""
        file = Path(self.base[network].file)
        below = sources.resolve_root(Path(self.data_root) if self.data_root else None) / file
        return str(below if below.is_file() and not file.is_file() else file)

    def dense_path(self, dataset: str, network: str, seed: int) -> str:
        """Folder of a dense network below `results/dense`; imported weights are one for all seeds."""
        if network in self.base:
            recipe, seed = self.base[network].hash, 0
        else:
            # batch norm sees the images of its own process, so that weights differ with their number
            recipe = f"{self.train.hash}-x{self.processes}" if self.processes > 1 else self.train.hash
        return paths.DENSE_NETWORK.format(dataset=dataset, network=network, recipe=recipe, seed=seed)

    def deviations(self) -> dict[str, tuple[str, ...]]:
        """Variant → where its method, and policies of others, differ from their papers, phrases; none for controls."""
        return {v.name: tuple(self._deviations(v)) for v in self.variants if v.of is None}

    def _deviations(self, variant: Variant) -> Iterator[str]:
        method, brought, schedule = self.methods[variant.method], planners.find(self.methods_dirs), variant.schedule
        own = method.info.get("deviations", ())
        # by another schedule, what its method says of one-shot pruning does not hold
        yield from (phrase for phrase in own if schedule is None or not phrase.startswith("one-shot"))
        yield from () if schedule is None else schedule.deviations
        for policy in self._policies(variant):
            if policy in brought and brought[policy].code != method.code:
                yield from (f"policy {policy}: {phrase}" for phrase in brought[policy].info.get("deviations", ()))
