"""`daar.prune`: score, plan, slim and prove, in memory."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.measure.timed import Latency
from daar.methods.discovery import Method
from daar.program.inputs import Images, count, fewest, first
from daar.program.outputs import tensors
from daar.pruned import arguments, own_method
from daar.pruned import images as forms
from daar.pruned import own_loss as own_losses
from daar.pruned.arguments import Unsaid
from daar.pruned.labels import batch_for
from daar.pruned.mixed_types import in_one_type
from daar.pruned.network import apart_from, in_modes_of, prepared, unwrapped
from daar.pruned.notes import at_limit, never_run, random_draws, ties, training_fails
from daar.pruned.proven import proven
from daar.pruned.recurrent import by_steps
from daar.pruned.result import Pruned
from daar.pruned.timing import batch_of, by_latency
from daar.pruning import limits, own_ratios, policies, policy_arguments
from daar.pruning.calibration_loss import CalibrationLoss, OwnLoss
from daar.pruning.folding import computed_layers, folded
from daar.pruning.groups import MIN_CHANNELS, ChannelGraph, channel_graph
from daar.pruning.own_ratios import Spec
from daar.pruning.plan import Plan
from daar.pruning.planning import OutOfReachError, plan_by_policy
from daar.pruning.proof import CHECKED_IMAGES, InexactError, slim_error
from daar.pruning.reach import reachable
from daar.pruning.scoring import Batch
from daar.pruning.shapes import shapes_of
from daar.pruning.slim import slim
from daar.pruning.slim_report import report_on
from daar.pruning.training_mode import asks_for_mode, failure

_HALF = Unsaid(0.5)
# numbers in the images of a proof: sixteen of 32 × 32, or one of 224 × 224
_CHECKED_NUMBERS = 16 * 3 * 64 * 64


def prune(
    model: nn.Module,
    images: Any,
    labels: Tensor | None = None,
    *,
    macs_reduction: float | None = _HALF,
    method: str | Callable[..., Mapping[str, Tensor]] = "daar",
    params_reduction: float | None = None,
    latency_reduction: float | None = None,
    ratios: Spec | None = None,
    scope: str = "all",
    exclude: Iterable[str] = (),
    min_channels: int = MIN_CHANNELS,
    max_ratio: limits.Spec | None = None,
    round_to: int = 1,
    options: Mapping[str, Any] | None = None,
    policy: str | None = None,
    policy_options: Mapping[str, Any] | None = None,
    loss: OwnLoss | None = None,
    fold: bool = False,
    strict: bool = False,
    calibration_images: int = 256,
    seed: int = 0,
    methods_dirs: Iterable[str | Path] = (),
) -> Pruned:
    """Remove the least important filters of a CNN, wherever that can be done exactly.

    `daar.prune(model, images, macs_reduction=0.5, method="l1")` is all that most need. Channels that an operation
    unknown to daar reads all stay, and the report names it; the rest is pruned. Tune the result afterwards: pruning
    alone costs accuracy. DAAR is here a reconstruction from the paper's abstract.

    Args:
        model: any CNN that runs in eval mode; left as it is. It is taken out of `DataParallel`, DDP, `torch.compile`.
        images: calibration images as the model gets them, normalised: a tensor (N, …), a tuple or dict of tensors, or
            batches of them, with or without labels, such as a DataLoader. Give 64 or more for a method that reads
            images, such as `daar` and `hrank`. MACs are counted for one of this size.
        labels: (N, …), for a function as `method` that reads them; the methods of daar read classes (N,) alone. Without
            any, the predictions of a model with logits (N, C) stand in, for others zeros; the report says so.

    How much goes, by one of four:
        macs_reduction: fraction of the MACs to remove, in [0, 1); None for the policy's own rate.
        params_reduction: fraction of the parameters to remove.
        latency_reduction: fraction of a batch's time to save on this machine, by torch's threads as they are. Up to
            eight networks of different MACs are made, and each is timed in turn with the dense one, for 16 images or as
            many as there are: some 20 s, and the pruning.
        ratios: glob pattern → fraction of the filters to remove of each group that it names: `{"layer3.*": 0.5}`; the
            rest stays whole. A group is the layers whose channels can only go together. Or a fraction for each conv, as
            papers write it: "[0.]+[0.5]*12" for the 13 of a VGG-16.

    Whose filters:
        method: whose importance, see `daar list methods`; or a function score(model, batch, layers, **options) that
            returns layer → (c_out,), higher = keep. `batch` has images and labels.
        options: keyword options of the method, and of a policy that it brings.
        policy: what turns importance into widths (`daar list policies`); None for the method's own. Policy `adaptive`
            runs the network some five times for each group: give few images, or `uniform`, where that takes too long.
        policy_options: keyword options of the policy.
        loss: for a policy that measures what pruning does, as `adaptive` does: loss(pruned network's output, dense
            network's output) → one finite number, the mean over the images. Without, cross-entropy to the dense
            network's predictions for logits, and the squared distance of all other outputs.

    What stays:
        scope: `all`; `inner`: only channels that reach no addition and no concatenation; `units`: as `all`, and hidden
            units of linear and recurrent layers.
        exclude: modules whose convs keep all their filters, as paths or glob patterns such as "*.downsample".
        min_channels: the fewest filters that a layer keeps; it also keeps 5 %.
        max_ratio: the largest fraction of its filters that a layer may lose: 0.8 for all, or glob pattern → fraction,
            `{"layer4.*": 0.5}`.
        round_to: keep multiples of this number of channels in each group, such as 8.
        fold: make plain weights of those that the network computes from parameters (weight standardisation, weight
            norm, spectral norm), so that the channels that such layers read can go too. Tuning goes on without the
            computation.
        strict: refuse where the network's code had to be repaired, or channels stay because of a number in it.

    Further:
        calibration_images: how many images are taken of batches; a tensor, tuple or dict is taken whole.
        seed: for methods that draw random numbers.
        methods_dirs: further folders of methods.

    Raises:
        InputError: the model does not run on the images, its weights or its output are not finite, an argument is
            wrong, or the target cannot be met.
    """
    arguments.check_types(
        macs_reduction=macs_reduction, params_reduction=params_reduction, latency_reduction=latency_reduction,
        policy=policy, options=options, policy_options=policy_options, min_channels=min_channels, round_to=round_to,
        fold=fold, strict=strict, calibration_images=calibration_images, seed=seed,
    )  # fmt: skip
    arguments.check_method(method)
    arguments.check_scope(scope)
    arguments.check_at_least(1, min_channels=min_channels, round_to=round_to, calibration_images=calibration_images)
    own = arguments.check_ratios(ratios)
    limit = None if max_ratio is None else limits.check(max_ratio)
    target_of, target = arguments.one_target(macs_reduction, params_reduction, latency_reduction, own)
    folders = arguments.folders(methods_dirs)
    kept = arguments.all_of(exclude, (str,), "exclude")
    scorer = own_method.method_of(method, folders)
    by = policy or scorer.policy
    arguments.check_rate(by, target, ratios=own is not None)
    policy_arguments.check(by if own is None else own_ratios.name(own), policy_options or {}, folders)
    own_loss = own_losses.checked(loss, by, ratios=own is not None, folders=folders)
    network, notes = unwrapped(model)
    taken, given = forms.collected(network, images, labels, int(calibration_images))
    # in inference mode, copies of weights could never be trained
    with torch.inference_mode(mode=False), by_steps(network):
        dense = prepared(network)
        with apart_from(network):
            cheap = set(scorer.info.get("uses", ["images"])) <= {"weights"}
            measures = own is None and by in policies.measuring(folders)
            tried = forms.placed(dense, taken, are_read=measures or not cheap)
        batch, said = batch_for(tried, given, method, scorer)
        notes += said
        layers: tuple[str, ...] = ()
        if fold:
            dense, layers = folded(dense, fewest(dense, batch.images))
            notes += (f"folded: {len(layers)} layers hold plain weights now, no longer computed.",) if layers else ()

        def task_on(graph: ChannelGraph) -> _Task:
            graph = limits.limited(graph, limit)
            scored = own_method.scores_by(method, scorer, dense, batch, graph, options or {}, int(seed), scope)
            return _Task(
                dense, graph, batch, scored, scorer, by, dict(options or {}),
                dict(policy_options or {}), scope, int(round_to), int(min_channels), own, folders, own_loss,
            )  # fmt: skip

        try:
            task, made, latency, error = _exact(
                task_on, dense, batch, kept, target_of, target, strict=strict, scores_are_cheap=cheap
            )
        except OutOfReachError as failure:
            if fold or not (layers := computed_layers(dense, fewest(dense, batch.images))):
                raise
            some = ", ".join(layers[:3]) + (", …" if len(layers) > 3 else "")
            raise InputError(
                f"{failure} Or fold=True, which makes plain weights of those that are computed ({some})."
            ) from None
        own_losses.require_called(own_loss, by)
        few = first(batch.images, task.graph.program.batch)
        notes += at_limit(task.graph, made.plan) + ties(made.model, dense)
        notes += random_draws(task.graph) + never_run(dense, task.graph)
        notes += training_fails(dense, made.model, task.graph, few)
        report = report_on(dense, made.model, task.graph, made.plan, error, notes, latency)
        plan = replace(made.plan, folded=bool(layers))
        return Pruned(in_modes_of(made.model, network), report, plan, forms.form(taken))


def _exact(
    task_on: "Callable[[ChannelGraph], _Task]",
    dense: nn.Module,
    batch: Batch,
    exclude: tuple[str, ...],
    target_of: str,
    target: float | None,
    *,
    strict: bool,
    scores_are_cheap: bool,
) -> "_Result":
    """A slim network that is proven, and its error.

    Most networks are proven as they come. Where the proof fails, or may be read in several ways, or runs more than one
    network, or the slim one does not train, the groups are searched for what their code means (`repairing.py`), and all
    is done again. Where it costs more to score twice than to search, as of methods that read images, the search comes
    first.
    """
    if not scores_are_cheap:
        return _made(task_on(proven(dense, batch.images, exclude, strict=strict)), target_of, target)
    try:
        graph = channel_graph(dense, first(batch.images, 2), exclude)
    except InputError:  # it may want more images at once
        graph = channel_graph(dense, fewest(dense, batch.images), exclude)
    if not graph.ambiguous and graph.training is None and target_of != "latency":
        with contextlib.suppress(InexactError, OutOfReachError):  # how much can go is known of proven groups alone
            result = _made(task_on(graph), target_of, target)
            if not asks_for_mode(dense) or failure(result[1].model, first(batch.images, 2)) is None:
                return result
    return _made(task_on(proven(dense, batch.images, exclude, strict=strict)), target_of, target)


def _made(task: "_Task", target_of: str, target: float | None) -> "_Result":
    made, latency = task.to_target(target_of, target)
    return task, made, latency, task.error_of(made)


@dataclass(frozen=True)
class _Made:
    """A plan and its network, which is made when it is asked for."""

    plan: Plan
    make: Callable[[], nn.Module]

    @functools.cached_property
    def model(self) -> nn.Module:
        """The slim network."""
        return self.make()


@dataclass(frozen=True)
class _Task:
    """All that plans of one call have in common."""

    dense: nn.Module
    graph: ChannelGraph
    batch: Batch
    scores: dict[str, Tensor]
    method: Method
    policy: str
    options: dict[str, Any]
    policy_options: dict[str, Any]
    scope: str
    round_to: int
    min_channels: int
    ratios: Spec | None
    folders: tuple[Path, ...]
    own_loss: OwnLoss | None
    losses: dict[str, CalibrationLoss] = field(default_factory=dict)

    def to_target(self, of: str, target: float | None) -> tuple[_Made, Latency | None]:
        """The network that meets a target of MACs, parameters or latency; the last with what was measured."""
        if of != "latency":
            return self.made(target, params=of == "params"), None
        assert target is not None
        most = max(0.0, reachable(self.graph, self.scope, self.min_channels) - 0.01)
        timed = batch_of(self.batch.images, self.dense)
        held = any(limits.holds(group) for group in self.graph.in_scope(self.scope))
        return by_latency(self.made, lambda made: made.model, self.dense, timed, target, most, held=held)

    def made(self, target: float | None, *, params: bool = False) -> _Made:
        """The plan for a target, and its network."""
        method, options = self.method, self.options if self.method.scores else {}
        if self.ratios is None:
            method, options = policy_arguments.as_own(
                method, options, self.policy, self.policy_options,
                lambda: shapes_of(self.graph), self.folders,
            )  # fmt: skip
        plan = plan_by_policy(
            self.graph,
            self.scores,
            method,
            self.policy,
            options=options,
            make_loss=self._loss,
            scope=self.scope,
            target=target,
            round_to=self.round_to,
            methods_dirs=self.folders,
            ratios=self.ratios,
            min_channels=self.min_channels,
            params=[name for name, _ in self.dense.named_parameters()] if params else None,
        )
        return _Made(plan, lambda: slim(self.dense, self.graph, plan.removed(self.graph)))

    def _loss(self) -> CalibrationLoss:
        if "made" not in self.losses:
            self.losses["made"] = CalibrationLoss(self.dense, self.graph, self.batch.images, own=self.own_loss)
        return self.losses["made"]

    def error_of(self, made: _Made) -> float:
        """How far the slim network is from the masked one."""
        removed, images = made.plan.removed(self.graph), _checked(self.batch.images)
        dense, graph = self.dense, self.graph
        return in_one_type(dense, lambda: slim_error(dense, lambda: made.model, graph, removed, images))


def _checked(images: Images) -> Images:
    """As many images as a proof needs: sixteen small ones, fewer that are larger, at least one."""
    numbers = sum(value.numel() for value in tensors(images)) // count(images)
    return first(images, max(1, min(CHECKED_IMAGES, count(images), _CHECKED_NUMBERS // max(1, numbers))))


_Result = tuple[_Task, _Made, Latency | None, float]
