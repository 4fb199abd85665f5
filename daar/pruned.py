"""Prune any CNN that runs: `daar.prune(model, images, macs_reduction=0.5)`.

The suite's stages do the same from files, for networks of its registry.
"""

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError, first_line, is_out_of_memory
from daar.measure.finite import require_finite
from daar.methods import discovery
from daar.models.weights import require_sound_module
from daar.program.outputs import tensors
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.copying import copied
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import SCOPES, Plan
from daar.pruning.planning import plan_by_policy
from daar.pruning.proof import CHECKED_IMAGES, slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.scoring import Batch, score
from daar.pruning.slim import slim
from daar.pruning.slim_report import SlimReport, report_on


@dataclass(frozen=True)
class Pruned:
    """A slim network and how it came to be.

    Attributes:
        model: of the class of the network given, on its device and in its mode; untuned. It computes what that computes
            with the removed channels zeroed (`report.slim_error`).
        report: its layers, MACs and parameters next to the dense ones; `print(pruned.report)`.
        plan: what was kept; `slim_by(model, images, plan)` makes the same network again, for weights saved elsewhere.
    """

    model: nn.Module
    report: SlimReport
    plan: Plan


def prune(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    method: str = "daar",
    macs_reduction: float | None = 0.5,
    scope: str = "all",
    policy: str | None = None,
    options: Mapping[str, Any] | None = None,
    round_to: int = 1,
    exclude: Iterable[str] = (),
    seed: int = 0,
    methods_dirs: Iterable[str | Path] = (),
) -> Pruned:
    """Remove the least important filters of a CNN, wherever that can be done exactly.

    Channels that an operation unknown to daar reads all stay, and the report names it; the rest is pruned. Tune the
    result afterwards: pruning alone costs accuracy. DAAR is here a reconstruction from the paper's abstract.

    Args:
        model: any CNN that runs in eval mode; left as it is.
        images: (N, C, H, W) calibration images, float32, normalised as the model wants them; 64 or more for methods
            that read images. MACs are counted for one of this size.
        labels: (N,) int64, for methods that read them. Without, the model's own predictions stand in.
        method: whose importance; `daar list methods`.
        macs_reduction: fraction of the MACs to remove, in [0, 1); None for the policy's own rate.
        scope: `all`, or `inner`: only channels that reach no addition and no concatenation.
        policy: what turns importance into widths (`daar list policies`); None for the method's own. Policy `adaptive`
            runs the network once per group of channels: give it few images or `uniform` where that takes too long.
        options: keyword options of the method and of its policy.
        round_to: keep multiples of this number of channels in each group, such as 8.
        exclude: paths of modules whose convs keep all their filters.
        seed: for methods that draw random numbers.
        methods_dirs: further folders of methods.

    Raises:
        InputError: the model does not run on the images, its weights or its output are not finite, an
            argument is wrong, or the target cannot be met.
    """
    _check_types(
        method=method, macs_reduction=macs_reduction, policy=policy, options=options, round_to=round_to, seed=seed
    )  # fmt: skip
    folders = tuple(map(Path, _all_of(methods_dirs, (str, Path), "methods_dirs")))
    kept, chosen = _all_of(exclude, (str,), "exclude"), dict(options or {})
    scorer = discovery.get(method, folders)
    _check(model, images, labels, scope)
    require_sound_module(model)
    with torch.inference_mode(mode=False):  # in it, copies of weights could never be trained
        dense = _prepared(model)
        batch = _batch(dense, images, labels)
        graph = _proven(dense, batch.images, kept)
        plan = plan_by_policy(
            graph,
            score(dense, batch, graph, scorer, chosen, int(seed)),
            scorer,
            policy or scorer.policy,
            options=chosen,
            make_loss=lambda: CalibrationLoss(dense, graph, batch.images),
            scope=scope,
            target=None if macs_reduction is None else float(macs_reduction),
            round_to=int(round_to),
            methods_dirs=folders,
        )
        slimmed, error = _slim_and_check(dense, graph, plan, batch.images)
        return Pruned(_given_back(slimmed, model), report_on(dense, slimmed, graph, plan, error), plan)


def slim_by(model: nn.Module, images: Tensor, plan: Plan) -> nn.Module:
    """The slim network of a plan, for instance to load weights into that were tuned elsewhere.

    Args:
        model: a network of the shape of that which the plan was made for; left as it is.
        images: (N, C, H, W) of the size that it was made for; the values do not matter.
        plan: of a `Pruned`, or read by `daar.pruning.plan.load`.

    Raises:
        InputError: the plan is not for this network.
    """
    if not isinstance(plan, Plan):
        raise InputError(
            f"plan is a {type(plan).__name__}; it must be a Plan, of daar.prune or daar.pruning.plan.load."
        )
    _check(model, images, None, plan.scope)
    dense = _prepared(model)
    graph = _proven(dense, _batch(dense, images, None).images, ())
    return _given_back(slim(dense, graph, plan.removed(graph)), model)


# argument of `prune` → its types, and what it must be
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "method": ((str,), "a method's name"),
    "macs_reduction": ((numbers.Real, NoneType), "a number, or None for the policy's own rate"),
    "policy": ((str, NoneType), "a policy's name, or None for the method's own"),
    "options": ((Mapping, NoneType), "a mapping, name → value"),
    "round_to": ((numbers.Integral,), "an integer"),
    "seed": ((numbers.Integral,), "an integer"),
}


def _check_types(**given: Any) -> None:
    """InputError if an argument of `prune` has the wrong type; numpy's numbers count as Python's."""
    for name, value in given.items():
        types, what = _TYPES[name]
        fits = isinstance(value, types) and not isinstance(value, bool)
        if not fits or (isinstance(value, Mapping) and not all(isinstance(key, str) for key in value)):
            raise InputError(f"{name} is {repr(value)[:100]}; it must be {what}.")


def _all_of(values: Any, types: tuple[type, ...], name: str) -> tuple[Any, ...]:
    """The values as a tuple; InputError if they are none of these types, or a text, whose characters are no names."""
    several = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    listed = tuple(values) if several else ()
    if not several or not all(isinstance(value, types) for value in listed):
        raise InputError(f"{name} is {repr(values)[:100]}; it must be a list of texts, such as [{str(values)[:50]!r}].")
    return listed


def _check(model: Any, images: Any, labels: Any, scope: str) -> None:
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"model is a {type(model).__name__}; it must be a plain torch.nn.Module.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        raise InputError(
            f"model is wrapped in {type(model).__name__}. Give the network inside: model.module or _orig_mod."
        )
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point() or not len(images):
        what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images are {what}; they must be a float tensor (N, C, H, W), N at least 1, normalised.")
    if not bool(torch.isfinite(images).all()):
        raise InputError("images hold NaN or infinity; give finite ones, normalised as the model wants them.")
    if labels is not None and (not isinstance(labels, Tensor) or labels.shape != images.shape[:1]):
        what = str(tuple(labels.shape)) if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels are {what}; they must be a tensor ({len(images)},), one for each image.")
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; it is one of: {', '.join(SCOPES)}.")


def _proven(dense: nn.Module, images: Tensor, exclude: tuple[str, ...]) -> ChannelGraph:
    """The channel groups, with what a proof had to repair, where the model is."""
    some = images[:2] if len(images) > 1 else images.repeat(2, *(1 for _ in images.shape[1:]))
    return channel_graph(dense, some, exclude, proven_graph(dense, some, exclude).repairs)


def _prepared(model: nn.Module) -> nn.Module:
    """A copy; InputError where it cannot be made."""
    try:
        return copied(model)
    except (RuntimeError, TypeError) as error:  # a tensor made from weights, as torch.nn.utils.prune keeps it; a lock
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"the model cannot be copied: {first_line(error)[:200]}. Take out of it what is no weight, or is made from "
            "weights (torch.nn.utils.prune.remove)."
        ) from error


def _batch(dense: nn.Module, images: Tensor, labels: Tensor | None) -> Batch:
    """The images where the model is, with labels or the model's predictions; tries one forward pass."""
    weight = next(dense.parameters(), None)
    if weight is None:
        raise InputError("the model has no parameters, so there is nothing to prune.")
    images = images.to(weight.device, weight.dtype)
    if images.is_inference():  # no gradient could be taken at it
        images = images.clone()
    try:
        with evaluating(dense):
            output = torch.cat([_first(_finite(dense(part))) for part in torch.split(images, 64)])
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the model fails on images of shape {tuple(images.shape[1:])}: {reason}") from error
    return Batch(images, output.flatten(1).argmax(1) if labels is None else labels.to(weight.device, torch.int64))


def _finite(output: Any) -> Any:
    require_finite(output)
    return output


def _first(output: Any) -> Tensor:
    return next(iter(tensors(output)))


def _slim_and_check(dense: nn.Module, graph: ChannelGraph, plan: Plan, images: Tensor) -> tuple[nn.Module, float]:
    """The slim network, and how far it is from the masked one."""
    removed = plan.removed(graph)
    slimmed = slim(dense, graph, removed)
    try:
        return slimmed, slim_error(dense, slimmed, graph, removed, images[:CHECKED_IMAGES])
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the slim network, or the dense one in float64, does not run: {reason}. The model's code may rely on a "
            "width or a type: name the module where it does in `exclude`."
        ) from error


def _given_back(slimmed: nn.Module, model: nn.Module) -> nn.Module:
    """The slim network, every part in the mode in which the model's is."""
    for part, original in zip(slimmed.modules(), model.modules(), strict=True):
        part.training = original.training
    return slimmed
