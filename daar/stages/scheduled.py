"""What every schedule does: plan the network as it is now, remember where it got to, say how it came about."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import datasets
from daar.data.calibration import calibration_batch
from daar.data.loading import Split
from daar.errors import InputError
from daar.measure.finite import require_finite_output
from daar.methods.discovery import Method
from daar.pruning import plan as plans
from daar.pruning import scoring
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import ChannelGraph
from daar.pruning.own_ratios import Spec
from daar.pruning.plan import Plan
from daar.pruning.planning import plan_by_policy
from daar.pruning.policy_arguments import as_own
from daar.pruning.scoring import Batch
from daar.pruning.shapes import shapes_of
from daar.storage import documents, files, provenance
from daar.training.batches import Data
from daar.training.progress import Epoch, curve_to_json
from daar.training.recipe import Recipe
from daar.training.schedules import Schedule

# below the folder of the result; goes when that is written
FOLDER = "steps"


@dataclass(frozen=True)
class Asked:
    """A setting, and the schedule that it is pruned by.

    Attributes:
        schedule: when filters go.
        base: folder of the dense checkpoint.
        dense: its description.
        method: whose score() and, where the policy is its own, plan().
        options: keyword options of the variant.
        policy: name of the policy.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, or None for the policy's own rate.
        train: the train part of the dataset.
        val: the val part.
        recipe: of the tuning; its epochs are the budget of the whole schedule.
        seed: fixes calibration images, order and augmentation.
        images: how many calibration images.
        out: folder of the result.
        device: where the networks run.
        say: gets a line per epoch.
        methods_dirs: further folders of methods, whose policies count too.
        ratios: of one's own, which take the policy's place.
        policy_options: keyword options of the policy, whosever that is.
        round_to: each group keeps a multiple of this many channels, or all.
        made_from: hash of all that the setting follows from, where a workflow gives it.
    """

    schedule: Schedule
    base: Path
    dense: Description
    method: Method
    options: dict[str, Any]
    policy: str
    scope: str
    target: float | None
    train: Split
    val: Split
    recipe: Recipe
    seed: int
    images: int
    out: Path
    device: torch.device
    say: Callable[[str], None]
    methods_dirs: tuple[Path, ...] = ()
    ratios: Spec | None = None
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    round_to: int = 1
    made_from: str | None = None

    @property
    def folder(self) -> Path:
        """Where it keeps what is done, from which a killed run goes on."""
        return self.out / FOLDER

    @cached_property
    def batch(self) -> Batch:
        """The calibration images."""
        return Batch(*calibration_batch(self.train, self.seed, self.images, self.dense.mean, self.dense.std))

    @property
    def data(self) -> Data[Any]:
        """What the network is tuned on."""
        flip = datasets.get(self.dense.dataset).flip
        return Data(self.train, self.val, self.dense.mean, self.dense.std, flip)

    def teacher(self) -> nn.Module | None:
        """The dense network, where the recipe distils from it."""
        return checkpoint.load(self.base)[0] if self.recipe.distillation else None

    def plan(self, model: nn.Module, graph: ChannelGraph, target: float | None) -> Plan:
        """Score a network as it is now and choose the channels that stay.

        Args:
            model: left as it is.
            graph: its channel graph.
            target: fraction of its own MACs to be removed.
        """
        model = copy.deepcopy(model).to(self.device)
        images = self.batch.images.to(self.device)
        require_finite_output(model, images)
        scores = scoring.score(model, self.batch, graph, self.method, self.options, self.seed)
        method, options = self.method, self.options
        if self.ratios is None:
            method, options = as_own(
                method, options, self.policy, self.policy_options, lambda: shapes_of(graph), self.methods_dirs
            )
        return plan_by_policy(
            graph, scores, method, self.policy, options=options,
            make_loss=lambda: CalibrationLoss(model, graph, images), scope=self.scope, target=target,
            round_to=self.round_to, network=self.dense.network, methods_dirs=self.methods_dirs, ratios=self.ratios,
        )  # fmt: skip

    def identity(self, **more: Any) -> dict[str, Any]:
        """What tells its unfinished runs from those of other settings."""
        return {
            "schedule": self.schedule.to_json(),
            "base": files.sha256(self.base / "model.safetensors"),
            **{"method": self.method.name, "options": self.options},
            **{"policy": self.policy, "policy_options": dict(self.policy_options)},
            **{"scope": self.scope, "target": self.target, "round_to": self.round_to},
            "ratios": self.ratios if self.ratios is None or isinstance(self.ratios, str) else dict(self.ratios),
            "images": self.train.checksum,
            "calibration_images": self.images,
            "made_from": self.made_from,
            **more,
        }

    def claim(self) -> None:
        """Note which setting the unfinished run in its folder belongs to.

        Raises:
            InputError: another run's does; names what differs.
        """
        file = self.folder / "run.json"
        mine = self.identity(seed=self.seed, recipe=self.recipe.to_json())
        if file.exists():
            there = documents.read_json(file, "what an unfinished schedule is of")
            for key, value in mine.items():
                other = there.get(key) if isinstance(there, dict) else None
                if other != value:
                    raise InputError(
                        f"{self.folder} is another run's: {key} was {documents.shown(str(other))}, is now {value}. "
                        "Delete it to start again, or restore the setting."
                    )
        files.write_json(file, mine)

    def kept_plan(self, file: Path, make: Callable[[], Plan]) -> Plan:
        """The plan in a file of its folder; made and written there if there is none.

        So a run that goes on has the plan that it began with, also on a GPU, where scores need not repeat to the bit.
        """
        if not file.exists():
            plans.save(file, make())
        return plans.load(file)

    def described(
        self, plan: Plan, curve: list[Epoch], parts: dict[str, list[Any]], *, precision: str, best_epoch: int
    ) -> Description:
        """The description of a network that this schedule made, on the present number of threads.

        Args:
            plan: by which it was slimmed, in numbers of the dense network.
            curve: of all epochs so far.
            parts: `epochs`, `macs` and `slim_errors`, a number for each part of the schedule so far.
            precision: of the tuning.
            best_epoch: the best on val of those at the present size; 0 where there is none.
        """
        origin = {"sha256": files.sha256(self.base / "model.safetensors"), **self.dense.provenance}
        tuned = {
            "seed": self.seed,
            "precision": precision,
            "recipe": self.recipe.to_json(),
            "recipe_hash": self.recipe.hash,
            "best_epoch": best_epoch,
            "curve": curve_to_json(curve),
            "processes": 1,
            "schedule": {**self.schedule.to_json(), **parts},
            **provenance.environment(),
        }
        about = {"base": origin, "slim_error": max(parts["slim_errors"]), "tuned": tuned}
        return replace(self.dense, plan=plan, provenance=about)
