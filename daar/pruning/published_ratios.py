"""The papers' own pruning ratios, layer by layer, as policies `published-<key>`.

They are data, one file each: workflow/resources/published_ratios/<key>.yaml. Imported while the DAG is built: neither
torch nor numpy.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daar import models
from daar.errors import InputError
from daar.pruning.policy import Counts, Loss, Macs, Policy
from daar.storage import documents
from daar.storage.bundled import RESOURCES
from daar.storage.schemas import validate

if TYPE_CHECKING:
    from daar.pruning.groups import Group
    from daar.pruning.importance import Importance

FOLDER = RESOURCES / "published_ratios"


@dataclass(frozen=True)
class Ratios:
    """One file of ratios.

    Attributes:
        file: where they are written down.
        title: the paper's configuration, for tables and lists.
        where: URL, or repository@commit: file, that they were read from.
        rounding: how the source makes a count of a ratio, see `kept`.
        networks: network → one pruning ratio per conv, in the order of execution; exactly as printed, since 0.7 of a
            width is a whole number only in decimals.
    """

    file: Path
    title: str
    where: str
    rounding: str
    networks: dict[str, tuple[Fraction, ...]]

    @property
    def summary(self) -> str:
        """One line for lists."""
        return f"{self.title}: {', '.join(self.networks)}; from {self.where}"

    def kept(self, size: int, ratio: Fraction) -> int:
        """How many of a layer's filters stay at a ratio, rounded as the source rounds."""
        if self.rounding == "floor_kept":
            return math.floor(size * (1 - ratio))
        return size - math.floor(size * ratio)


def find() -> dict[str, Ratios]:
    """All files of ratios: policy name → what it holds, sorted.

    Raises:
        InputError: one is damaged.
    """
    return {f"published-{file.stem}": load(file) for file in sorted(FOLDER.glob("*.yaml"))}


@functools.cache
def load(file: Path) -> Ratios:
    """Read one file of ratios.

    Raises:
        InputError: it cannot be read, is no YAML, breaks its schema, or skips a layer that is not there.
    """
    remedy = "Restore it from git."
    content = documents.read_yaml(file, "a paper's pruning ratios", remedy)
    validate(content, "published_ratios", str(file), remedy)
    networks = {name: _ratios(entry, f"{file}: networks.{name}") for name, entry in content["networks"].items()}
    return Ratios(file, content["title"], content["source"]["where"], content["rounding"], networks)


def _ratios(entry: dict[str, Any], where: str) -> tuple[Fraction, ...]:
    ratios = [Fraction(str(ratio)) for pattern, times in entry["runs"] for ratio in pattern * times]
    for layer in entry.get("skip", ()):
        if layer > len(ratios):
            raise InputError(f"{where}.skip names layer {layer}; there are {len(ratios)}. Restore it from git.")
        ratios[layer - 1] = Fraction(0)
    return tuple(ratios)


def problem(name: str, network: str, target: float | None) -> str | None:
    """Why a published policy cannot plan this, a sentence; None where nothing speaks against it.

    Args:
        name: of a policy that `find` lists.
        network: to be pruned.
        target: fraction of the MACs to be removed, or None.
    """
    there = find()[name].networks
    if network not in there:
        known = ", ".join(there)
        return f"policy {name!r} has no ratios for network {network!r}; it has them for: {known}. Choose one of those."
    return None if target is None else _no_target(name)


def _no_target(name: str) -> str:
    return f"policy {name!r} has its own ratios. Leave the target out (in a suite: macs_reductions: [null])."


def policy(name: str, network: str | None) -> Policy:
    """A paper's ratios bound to a network: in every group its members' mean ratio, by the paper's rounding.

    Args:
        name: of a policy that `find` lists.
        network: its name in the registry; a network without one is refused, with what to give in place of a name.

    Raises:
        InputError: there are none for the network, or not as many as it has convs.
    """
    if network is None:  # a model in Python
        raise InputError(
            f"policy {name!r} has ratios for networks by name ({', '.join(find()[name].networks)}), and this one comes "
            "without. Give the ratios themselves: ratios='[0.]+[0.5]*12', or by patterns: {'layer3.*': 0.5}."
        )
    if wrong := problem(name, network, None):
        raise InputError(wrong)
    ratios, convs = find()[name], _convs(network)
    of_network = ratios.networks[network]
    if len(of_network) != len(convs):
        raise InputError(
            f"{ratios.file}: networks.{network} has {len(of_network)} ratios; the network has {len(convs)} convs. "
            "Restore it from git."
        )
    ratio_of = dict(zip(convs, of_network, strict=True))

    def plan(
        groups: "Sequence[Group]", importance: "Importance", macs_target: int | None, *, macs: Macs, loss: Loss
    ) -> Counts:
        if macs_target is not None:
            raise InputError(_no_target(name))
        # hidden units of linear layers have none: the papers prune convs alone
        means = {g.name: sum(ratio_of.get(m, 0) for m in g.members) / Fraction(len(g.members)) for g in groups}
        return {g.name: max(g.min_kept, ratios.kept(g.size, means[g.name])) for g in groups}

    return plan


def _convs(network: str) -> list[str]:
    """Paths of a network's convs, in the order of execution, in which all of ours make them."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=()):  # building draws weights
        model = models.get(network).build(10)
    return [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
