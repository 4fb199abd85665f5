"""What the schema of a suite cannot say: keys that do not go together, and names that must be known.

Imported while the DAG is built: neither torch nor numpy.
"""

import re
from typing import Any

from daar import models
from daar.data import datasets, normalisation
from daar.errors import InputError, unknown
from daar.pruning import policies, policy_arguments
from daar.suite import paths
from daar.suite.definition import Setting, Suite

# Snakemake builds the DAG of 10,000 settings, 40,000 jobs, within a minute of a core and 1.1 GB
MOST_SETTINGS = 10_000
# Snakemake refuses values of wildcards that end so, as signs of an endless recursion (its PeriodicityDetector)
_REPEATED = re.compile(r"(.+)\1{19,}\Z")
# in bytes: a path of macOS (Linux has 4,096), and a name in a folder of every common file system
_LONGEST_PATH, _LONGEST_NAME = 1024, 255


def require_consistent(suite: Suite, content: dict[str, Any], where: str) -> None:
    """Refuse a suite whose parts contradict each other.

    Args:
        suite: as it was read.
        content: what it was read from.
        where: it comes from, for messages.

    Raises:
        InputError: says which key, and what would go.
    """
    _check_size(suite, where)
    _check_targets(suite, where)
    _check_scratch(suite, content, where)
    _check_processes(suite, where)
    _check_reuse(suite, where)
    _check_images(suite, where)
    _check_base(suite, where)
    _check_names(suite, where)
    _check_schedules(suite, where)


def require_possible_paths(content: dict[str, Any], where: str) -> None:
    """Refuse paths that no file system has, before anything looks for them, and another folder's name for the suite.

    Args:
        content: of the suite, valid by its schema.
        where: it comes from, for messages.

    Raises:
        InputError: says which key.
    """
    name = content["suite"]
    if name in paths.RESERVED:
        raise InputError(
            f"{where}: suite is {name!r}, but {paths.RESULTS}/{name} is another folder, as are "
            f"{', '.join(other for other in paths.RESERVED if other != name)}. Choose another name."
        )
    named = [(f"base.{network}.file", entry["file"]) for network, entry in content.get("base", {}).items()]
    named += [("methods_dirs", folder) for folder in content.get("methods_dirs", ())]
    named += [("networks_dirs", folder) for folder in content.get("networks_dirs", ())]
    if isinstance(content["datasets"], dict):
        entries = [(f"datasets.{name}.{key}", path) for name, entry in content["datasets"].items() if entry
                   for key, path in entry.items() if key in ("folder", "parquet")]  # fmt: skip
        named += entries
    named += [("data_root", content["data_root"])] if "data_root" in content else []
    for key, path in named:
        for kind, part, most in (("path", path, _LONGEST_PATH), *(("name", p, _LONGEST_NAME) for p in path.split("/"))):
            if (length := len(part.encode())) > most:
                raise InputError(
                    f"{where}: {key} has a {kind} of {length:,} bytes, {part[:20]!r}…, but {most:,} are possible. "
                    "Shorten it."
                )


def _check_size(suite: Suite, where: str) -> None:
    """It has no more settings than can be run; counted before any is made."""
    if suite.setting_count > MOST_SETTINGS:
        raise InputError(
            f"{where}: {suite.setting_count:,} settings (datasets × networks × macs_reductions × variants with their "
            f"policies × seeds), but a suite has {MOST_SETTINGS:,} at most. Take out values, or make several suites."
        )


def _check_targets(suite: Suite, where: str) -> None:
    """No two targets look alike in tables and figures, which print them with six digits."""
    printed: dict[str, float] = {}
    for target in suite.targets:
        if target is not None and (other := printed.setdefault(f"{100 * target:g}%", target)) != target:
            raise InputError(
                f"{where}: macs_reductions has {other!r} and {target!r}, which tables print alike, as "
                f"{100 * target:g}%. Take one of them out."
            )


def _check_scratch(suite: Suite, content: dict[str, Any], where: str) -> None:
    """Imported weights have no training recipe, so networks from scratch need one."""
    scratch = [variant.name for variant in suite.variants if variant.method == "scratch_of"]
    if scratch and suite.base and "train" not in content:
        raise InputError(
            f"{where}: {scratch[0]} trains from scratch, but the base of {next(iter(suite.base))} is imported and "
            "has no recipe. Give one as `train`."
        )


def _check_processes(suite: Suite, where: str) -> None:
    """Processes share a batch equally, nodes the processes."""
    for name, recipe in (("train", suite.train), ("finetune", suite.finetune)):
        if recipe.batch_size % suite.processes or recipe.batch_size < 2 * suite.processes:
            raise InputError(
                f"{where}: {name}.batch_size is {recipe.batch_size}; the {suite.processes} of distributed.processes "
                f"cannot share it equally with two images or more each. Choose a multiple of {suite.processes} from "
                f"{2 * suite.processes} on."
            )
    if suite.processes % suite.nodes:
        raise InputError(
            f"{where}: distributed.processes is {suite.processes}, which {suite.nodes} nodes cannot share equally. "
            f"Choose a multiple of {suite.nodes}."
        )


def _check_reuse(suite: Suite, where: str) -> None:
    """A reused record has no network that could be timed."""
    if suite.reuse and suite.latency:
        raise InputError(
            f"{where}: reuse takes records in place of tuned networks, but latency times those networks. Set one of "
            "them to false."
        )


def _check_images(suite: Suite, where: str) -> None:
    """Networks take images of the datasets' shape, and the train parts have enough for calibration."""
    for name in suite.datasets:
        dataset = datasets.get(name)
        for network in suite.networks:
            takes = models.get(network).input_shape
            if takes != dataset.shape:
                raise InputError(
                    f"{where}: {network} takes {takes} images, but those of {name} are {dataset.shape}. Give one of "
                    "them a suite of its own."
                )
        if suite.calibration_images > dataset.train:
            raise InputError(
                f"{where}: calibration_images is {suite.calibration_images}, but {name} has {dataset.train:,} train "
                f"images. Give {dataset.train} or less."
            )


def _check_base(suite: Suite, where: str) -> None:
    """Published weights have a mean and a std for every channel of the images, and such as `daar import` takes."""
    for network, base in suite.base.items():
        for name in suite.datasets:
            channels = datasets.get(name).shape[0]
            for key, values in (("mean", base.mean), ("std", base.std)):
                if values is not None and len(values) != channels:
                    raise InputError(
                        f"{where}: base.{network}.{key} has {len(values)} values, but images of {name} have "
                        f"{channels} channels. Give one for each."
                    )
            neutral = (0.5,) * channels  # for what the suite does not say
            mean, std = base.mean or neutral, base.std or neutral
            normalisation.require(mean, std, channels, f"{where}: base.{network}")


def _check_names(suite: Suite, where: str) -> None:
    """Imported networks are the suite's, and policies are known and can plan every setting."""
    for network in suite.base:
        if network not in suite.networks:
            raise unknown(f"network in {where}: base", network, list(suite.networks))
    for variant in suite.variants:
        if _REPEATED.search(variant.name):
            raise InputError(
                f"{where}: the name {variant.name!r} ends in a part that comes 20 times, which Snakemake takes for an "
                "endless recursion. Choose another name."
            )
    known = [*policies.names(suite.methods_dirs), *suite.ratios]
    for setting in suite.settings:
        if setting.policy not in known:
            raise unknown(f"policy in {where}", setting.policy, known)
        _check_options(suite, setting, where)
        if problem := policies.problem(setting.policy, setting.network, setting.target):
            raise InputError(f"{where}: {problem}")


def _check_options(suite: Suite, setting: Setting, where: str) -> None:
    """A variant's policy takes its policy_options."""
    if given := dict(setting.variant.policy_options):
        try:
            policy_arguments.check(setting.policy, given, suite.methods_dirs)
        except InputError as error:
            raise InputError(f"{where}: variants.{setting.variant.name}.policy_options: {error}") from error


def _check_schedules(suite: Suite, where: str) -> None:
    """A schedule has an epoch of tuning for each of its parts, a target where it divides one, and one process."""
    for variant in suite.variants:
        schedule = variant.schedule
        if schedule is None:
            continue
        method = suite.methods[variant.method]
        problems = [schedule.problem(suite.finetune), *(schedule.unfit(method, t) for t in suite.targets)]
        if problem := next(filter(None, problems), None):
            raise InputError(f"{where}: variants.{variant.name}: {problem}")
        if suite.processes > 1:
            raise InputError(
                f"{where}: variants.{variant.name}: schedule {schedule.name} runs in one process, but "
                f"distributed.processes is {suite.processes}. Take one of them out."
            )
