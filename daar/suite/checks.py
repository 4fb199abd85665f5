"""What the schema of a suite cannot say: keys that do not go together, and names that must be known.

Imported while the DAG is built: neither torch nor numpy.
"""

from typing import Any

from daar import models
from daar.data import datasets
from daar.errors import InputError, unknown
from daar.pruning import policies
from daar.suite.definition import Suite


def require_consistent(suite: Suite, content: dict[str, Any], where: str) -> None:
    """Refuse a suite whose parts contradict each other.

    Args:
        suite: as it was read.
        content: what it was read from.
        where: it comes from, for messages.

    Raises:
        InputError: says which key, and what would go.
    """
    _check_scratch(suite, content, where)
    _check_processes(suite, where)
    _check_reuse(suite, where)
    _check_images(suite, where)
    _check_names(suite, where)


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
                    f"{where}: {network} takes {takes} images, but those of {name} are {dataset.shape}. Take one of "
                    "them out."
                )
        if suite.calibration_images > dataset.train:
            raise InputError(
                f"{where}: calibration_images is {suite.calibration_images}, but {name} has {dataset.train:,} train "
                "images. Lower it."
            )


def _check_names(suite: Suite, where: str) -> None:
    """Imported networks are the suite's, and policies are known and can plan every setting."""
    for network in suite.base:
        if network not in suite.networks:
            raise unknown(f"network in {where}: base", network, list(suite.networks))
    known = list(policies.names(suite.methods_dirs))
    for setting in suite.settings:
        if setting.policy not in known:
            raise unknown(f"policy in {where}", setting.policy, known)
        if problem := policies.problem(setting.policy, setting.network, setting.target):
            raise InputError(f"{where}: {problem}")
