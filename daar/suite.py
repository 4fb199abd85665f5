"""A suite: one experiment file, validated, as frozen dataclasses, with every setting and path that follows from it.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from daar import discovery, suite_checks
from daar.data import sources
from daar.errors import InputError, unknown
from daar.files import digest
from daar.schemas import schema, validate
from daar.suite_stability import Stability, from_entry
from daar.training import recipes
from daar.training.recipe import Recipe

# keys that Snakemake or its user may add to the config and that are none of the experiment's
_ENGINE_KEYS = {"pathvars", "config_version"}
CONTROLS = ("random_at", "scratch_of")
_CONTROL_TITLES = {
    ("random_at", None): "random filters at the widths of {}",
    ("scratch_of", "epochs"): "slim network of {} from scratch (same epochs)",
    ("scratch_of", "compute"): "slim network of {} from scratch (same compute)",
}


@dataclass(frozen=True)
class Variant:
    """A row of the tables: a method with options. By default its name is the method's.

    Attributes:
        name: its folder and row.
        method: whose importance; `random_at` or `scratch_of` for a control at another variant's widths.
        options: of the method or the control.
        of: the variant that such a control takes its plan from.
        policy: what turns its importance into counts, whatever the suite says; None for the suite's or the method's.
    """

    name: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()
    of: str | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Base:
    """Published weights that stand in for a dense network of our own training.

    Attributes:
        file: the .pt or .th file, as the suite names it; Suite.weights says where it is.
        mean: per channel, of pixels in 0..1, that the weights were trained with; None for the dataset's.
        std: likewise.
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
        """Stands where a dense network of our own has its recipe's hash."""
        return "import-" + digest([self.file, self.mean, self.std])[:8]

    @property
    def options(self) -> str:
        """The options of `daar import` that say the same."""
        lists = {"mean": self.mean, "std": self.std, "trained-on": self.trained_on}
        return " ".join(
            f"--{name} {' '.join(map(str, values))}" for name, values in lists.items() if values is not None
        )


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
    folder = f"{policy}-{scope}-{'own' if target is None else format(target, 'g')}"
    return f"{dataset}/{network}/seed{seed}/{variant}/{folder}"


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
        reuse: whether records with an equal hash in results/reference stand for settings (daar/reuse.py).
        methods_dirs: further folders of methods.
        latency: whether every slim network is timed beside its dense one.
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

    @property
    def settings(self) -> list[Setting]:
        """Every cell, in the order of the file."""
        methods = discovery.find(self.methods_dirs)
        return [
            Setting(dataset, network, seed, variant, policy, self.scope, target)
            for dataset in self.datasets
            for network in self.networks
            for target in self.targets
            for variant in self.variants
            for policy in self._policies(self.origin(variant), methods)
            for seed in self.seeds
        ]

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

    def _policies(self, variant: Variant, methods: dict[str, discovery.Method]) -> tuple[str, ...]:
        if variant.policy is not None:
            return (variant.policy,)
        return self.policies or (methods[variant.method].policy,)

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
            return f"{dataset}/{network}/{self.base[network].hash}/seed0"
        # batch norm sees the images of its own process, so that weights differ with their number
        shared = f"-x{self.processes}" if self.processes > 1 else ""
        return f"{dataset}/{network}/{self.train.hash}{shared}/seed{seed}"

    def titles(self) -> dict[str, str]:
        """Variant → how tables name it."""
        methods = discovery.find(self.methods_dirs)
        titles = {}
        ordinary = [variant for variant in self.variants if variant.of is None]
        for variant in ordinary:
            title = str(methods[variant.method].info.get("title", variant.method))
            titles[variant.name] = title if variant.name == variant.method else f"{title}: {variant.name}"
        for variant in self.variants:
            if variant.of is not None:
                titles[variant.name] = _CONTROL_TITLES[variant.method, dict(variant.options).get("budget")].format(
                    titles[variant.of]
                )
        return titles

    def deviations(self) -> dict[str, tuple[str, ...]]:
        """Variant → where its method differs from the paper that it follows, phrases; none for controls."""
        methods = discovery.find(self.methods_dirs)
        return {v.name: tuple(methods[v.method].info.get("deviations", ())) for v in self.variants if v.of is None}


def load(path: Path) -> Suite:
    """Read and validate a suite file.

    Raises:
        InputError: no such file, not YAML, or not a suite.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"suite {path} cannot be read: {error.strerror}. See workflow/config/.") from error
    except yaml.YAMLError as error:
        raise InputError(f"suite {path} is not YAML: {' '.join(str(error).split())}") from error
    return from_config(content, str(path))


def from_config(content: Any, where: str) -> Suite:
    """Make a suite of Snakemake's config or of a suite file's content.

    Args:
        content: the mapping.
        where: it comes from, for messages.

    Raises:
        InputError: a key, a name or a value is wrong; says which and what is allowed.
    """
    content = normal_form(content)
    validate(content, "suite", where, "See workflow/schemas/suite.schema.yaml.")
    extra = tuple(Path(folder) for folder in content.get("methods_dirs", ()))
    suite = Suite(
        name=content["suite"],
        datasets=_distinct(content["datasets"], f"{where}: datasets"),
        networks=_distinct(content["networks"], f"{where}: networks"),
        variants=_variants(content, extra, where),
        policies=_distinct(content["policies"], f"{where}: policies") if "policies" in content else None,
        scope=content.get("scope", "all"),
        targets=_distinct(content["macs_reductions"], f"{where}: macs_reductions"),
        seeds=_distinct(content["seeds"], f"{where}: seeds"),
        calibration_images=content.get("calibration_images", 640),
        train=recipes.resolve(content.get("train", {}), "train", f"{where}: train"),
        finetune=recipes.resolve(content["finetune"], "finetune", f"{where}: finetune"),
        base={name: _base(entry) for name, entry in content.get("base", {}).items()},
        data_root=content.get("data_root"),
        allow_cpu=content.get("allow_cpu", True),
        methods_dirs=extra,
        latency=content.get("latency", False),
        slots_per_gpu=content.get("slots_per_gpu"),
        processes=content.get("distributed", {}).get("processes", 1),
        nodes=content.get("distributed", {}).get("nodes", 1),
        reuse=content.get("reuse", False),
    )
    suite_checks.require_consistent(suite, content, where)
    return replace(suite, stability=_stability(suite, content, where))


def normal_form(content: Any) -> Any:
    """A config without Snakemake's own keys, with values of the right type.

    Snakemake hands what comes by `--config` on as text: "true" for true, ["0.5"] for [0.5]. Where the schema wants no
    text, text is read as YAML.
    """
    if not isinstance(content, dict):
        return content
    whole = schema("suite")
    return _typed({key: value for key, value in content.items() if key not in _ENGINE_KEYS}, whole, whole["$defs"])


def _typed(value: Any, part: Any, definitions: dict[str, Any]) -> Any:
    part = part if isinstance(part, dict) else {}
    if "$ref" in part:
        part = {**definitions[part["$ref"].rsplit("/", 1)[1]], **part}
    if isinstance(value, dict):
        known, other = part.get("properties", {}), part.get("additionalProperties")
        return {key: _typed(entry, known.get(key, other), definitions) for key, entry in value.items()}
    if isinstance(value, list):
        return [_typed(entry, part.get("items"), definitions) for entry in value]
    if isinstance(value, str) and "type" in part and "string" not in part["type"]:
        return _from_text(value)
    return value


def _from_text(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) else value  # YAML 1.1 takes 1e-3 for text
    except (yaml.YAMLError, ValueError):
        return text


def _distinct(values: Iterable[Any], where: str) -> tuple[Any, ...]:
    values = tuple(values)
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise InputError(f"{where} names {twice[0]!r} twice. Name it once.")
    return values


def _variants(content: dict[str, Any], extra: tuple[Path, ...], where: str) -> tuple[Variant, ...]:
    """Those of `variants` and of `methods`; all that are discovered where the suite names neither."""
    found = discovery.find(extra)
    listed = content.get("methods", [] if "variants" in content else list(found))
    variants = [Variant(name, name) for name in _distinct(listed, f"{where}: methods")]
    for name, entry in content.get("variants", {}).items():
        variants.append(_variant(name, entry, f"{where}: variants.{name}"))
    for variant in variants:
        if variant.of is None and variant.method not in found:
            hint = "Leave `methods` out to run all there are."
            raise unknown(f"method in {where}", variant.method, list(found), hint)
        if variant.of is None:
            discovery.split_options(found[variant.method], dict(variant.options))
    _distinct([variant.name for variant in variants], f"{where}: methods and variants")
    ordinary = [variant.name for variant in variants if variant.of is None]
    for variant in variants:
        if variant.of is not None and variant.of not in ordinary:
            hint = "A control takes its plan from a method's variant, not from another such control."
            raise unknown(f"variant in {where}: variants.{variant.name}.{variant.method}", variant.of, ordinary, hint)
    return tuple(variants)


def _variant(name: str, entry: dict[str, Any], where: str) -> Variant:
    kinds = [key for key in ("method", *CONTROLS) if key in entry]
    if len(kinds) != 1:
        raise InputError(f"{where} has {' and '.join(kinds) or 'none'} of method, random_at, scratch_of. Give one.")
    allowed = {"method": ("options", "policy"), "scratch_of": ("budget",)}.get(kinds[0], ())
    for key in entry:
        if key not in (kinds[0], *allowed):
            raise InputError(f"{where} has {key!r}, which {kinds[0]} does not take. Take it out.")
    if kinds[0] == "method":
        options = tuple(sorted(entry.get("options", {}).items()))
        return Variant(name, entry["method"], options, policy=entry.get("policy"))
    options = (("budget", entry.get("budget", "epochs")),) if kinds[0] == "scratch_of" else ()
    return Variant(name, kinds[0], options, entry[kinds[0]])


def _stability(suite: Suite, content: dict[str, Any], where: str) -> Stability | None:
    if "stability" not in content:
        return None
    methods = discovery.find(suite.methods_dirs)
    scored = {variant.name: methods[variant.method] for variant in suite.variants if variant.of is None}
    return from_entry(content["stability"], scored, suite.datasets, where)


def _base(entry: dict[str, Any]) -> Base:
    mean, std = (tuple(entry[key]) if key in entry else None for key in ("mean", "std"))
    return Base(entry["file"], mean, std, tuple(entry.get("trained_on", ("train", "val"))), entry.get("url"))
