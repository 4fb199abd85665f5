"""Slim a dense network by a plan and prove that it computes what the masked one computes."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import loading
from daar.data.calibration import calibration_batch
from daar.data.loading import Split
from daar.errors import InputError
from daar.measure.finite import require_finite_output
from daar.pruning import plan as plans
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.proof import CHECKED_IMAGES, slim_error
from daar.pruning.slim import slim
from daar.storage import files


@dataclass(frozen=True)
class Slimmed:
    """A slim network, untuned, on the CPU.

    Attributes:
        model: the network.
        about: its description, base and measured error in the provenance.
        plan: what it was slimmed by.
        error: max |slim − masked| / max |logit| in float64.
        calibration: (N, C, H, W) the calibration images, normalised.
    """

    model: nn.Module
    about: Description
    plan: Plan
    error: float
    calibration: Tensor


def slim_by_plan(base: Path, plan_file: Path, train_pack: Split, seed: int, images: int) -> Slimmed:
    """Read a dense checkpoint and a plan, and slim.

    Args:
        base: folder of the dense checkpoint.
        plan_file: plan.json, whoever wrote it.
        train_pack: train part of the dataset.
        seed: fixes the calibration images.
        images: how many.

    Raises:
        InputError: plan and network do not fit, in groups or in MACs, the dense network's output is not finite, or
            slim and masked network differ.
    """
    dense, about = checkpoint.load(base)
    plan = plans.load(plan_file)
    calibration, _ = calibration_batch(train_pack, seed, images, about.mean, about.std)
    graph = graph_of(dense, about.input_shape, plan.exclude, plan.repairs)
    # before a difference would be put down to how channels are coupled
    require_finite_output(dense, calibration)
    removed = plan.removed(graph)
    model = slim(dense, graph, removed)
    _require_macs(plan, graph)
    error = slim_error(dense, model, graph, removed, calibration[:CHECKED_IMAGES])
    origin = {"sha256": files.sha256(Path(base) / "model.safetensors"), **about.provenance}
    described = replace(about, plan=plan, provenance={"base": origin, "slim_error": error})
    return Slimmed(model, described, plan, error, calibration)


def _require_macs(plan: Plan, graph: ChannelGraph) -> None:
    """Check the MACs of a plan, which any program may have written, against the network."""
    macs = ClosedForm(graph, {group.name: _kept_first(group) for group in plan.groups})
    counted = macs({}), macs({group.name: len(group.kept) for group in plan.groups})
    if counted != (plan.macs_dense, plan.macs):
        raise InputError(
            f"the plan says {plan.macs_dense:,} MACs before and {plan.macs:,} after; this network has {counted[0]:,} "
            f"and would have {counted[1]:,}. Make a plan for this network: daar plan"
        )


def _kept_first(group: PlannedGroup) -> list[int]:
    return [*group.kept, *sorted(set(range(group.size)) - set(group.kept))]


def prune(*, base: Path, plan_file: Path, packs: Path, seed: int, images: int, out: Path) -> float:
    """Write the slim checkpoint, untuned, and give the measured error; arguments and errors as `slim_by_plan`."""
    slimmed = slim_by_plan(base, plan_file, loading.load(Path(packs) / "train.safetensors"), seed, images)
    checkpoint.save(out, slimmed.model, slimmed.about)
    return slimmed.error
