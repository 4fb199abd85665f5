"""Prune in rounds, tuned in between: a network that loses its filters step by step recovers better."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.program.inputs import fewest
from daar.pruned import arguments
from daar.pruned import images as forms
from daar.pruned.arguments import Unsaid
from daar.pruned.network import prepared, unwrapped
from daar.pruned.notes import LIMITED
from daar.pruned.once import prune
from daar.pruned.recurrent import by_steps
from daar.pruned.result import Pruned
from daar.pruning import limits
from daar.pruning.folding import folded
from daar.pruning.plan import composed
from daar.pruning.slim_report import report_on

_HALF = Unsaid(0.5)
# arguments of `daar.prune` that say which widths there can be
_WIDTHS = ("scope", "exclude", "min_channels", "round_to", "fold")


def prune_gradually(
    model: nn.Module,
    images: Any,
    tune: Callable[[nn.Module], Any],
    labels: Tensor | None = None,
    *,
    macs_reduction: float = _HALF,
    params_reduction: float | None = None,
    rounds: int = 3,
    **how: Any,
) -> Pruned:
    """Prune in rounds: score, remove an equal part of the MACs or parameters, tune, and again on what is left.

    Args:
        model: any CNN that runs in eval mode; left as it is.
        images: as of `daar.prune`; batches that can be gone through once are kept for all rounds.
        tune: gets the slim network after each round, the last one too, and trains it in place; it may return another
            network of the same shape, such as an average of weights.
        labels: as of `daar.prune`.
        macs_reduction: fraction of the dense network's MACs to remove altogether.
        params_reduction: fraction of its parameters instead.
        rounds: how many.
        how: further arguments of `daar.prune`, for every round: method, scope, exclude, round_to and more.

    Returns:
        The tuned network, and report and plan as of one pruning of the dense network: `daar.slim_by` and `daar.save`
        take it. `report.slim_error` is the largest of the rounds, before tuning.

    Raises:
        InputError: as of `daar.prune`; or another target is among the arguments.
    """
    arguments.check_types(macs_reduction=macs_reduction, params_reduction=params_reduction, rounds=rounds)
    arguments.check_at_least(1, rounds=rounds)
    if not callable(tune):
        raise InputError(f"tune is a {type(tune).__name__}; it must be a function that trains the network it gets.")
    if odd := [key for key in ("latency_reduction", "ratios") if how.get(key) is not None]:
        raise InputError(
            f"{odd[0]} is given; rounds remove MACs or parameters. Give macs_reduction or params_reduction."
        )
    of, target = arguments.one_target(macs_reduction, params_reduction, None, None)
    if target is None:
        raise InputError("macs_reduction is None; it must lie in [0, 1), as the fraction of MACs removed.")
    how = {key: tuple(value) if isinstance(value, Iterator) else value for key, value in how.items()}  # for all rounds
    limit = how.pop("max_ratio", None)
    network, _ = unwrapped(model)
    taken, given = forms.collected(network, images, labels, int(how.get("calibration_images", 256)))
    if limit is not None:  # before anything is tuned for a target that the limits keep out of reach
        same: dict[str, Any] = {key: how[key] for key in _WIDTHS if key in how}
        prune(network, taken, method="random", max_ratio=limit, **{f"{of}_reduction": target, **same})
    current: nn.Module = network
    made: list[Pruned] = []
    for number in range(1, rounds + 1):
        part: dict[str, Any] = {f"{of}_reduction": _part(target * number / rounds, made, of)}
        part["max_ratio"] = _limit(limit, made)
        pruned = prune(current, taken, given, **part, **how)
        made.append(pruned)
        current = _tuned(pruned.model, tune)
    return _altogether(network, taken, made, current, target)


def _part(altogether: float, made: list[Pruned], of: str) -> float:
    """The fraction of what is left that has to go, for a fraction of the dense MACs or parameters to be gone."""
    if not made:
        return altogether
    first, last = made[0].report, made[-1].report
    left = last.macs / first.macs_dense if of == "macs" else last.params / first.params_dense
    return max(0.0, 1 - (1 - altogether) / left)


def _limit(max_ratio: limits.Spec | None, made: list[Pruned]) -> limits.Spec | None:
    """`max_ratio` for a round, so that no layer loses more of the dense network's filters in all rounds together."""
    if max_ratio is None or not made:
        return max_ratio
    dense = {layer.name: layer.filters_dense for layer in made[0].report.layers if ":" not in layer.name}
    least = limits.kept_at_least(max_ratio, dense)
    left = {layer.name: layer.filters for layer in made[-1].report.layers if layer.name in least}
    return {glob.escape(name): 1 - Fraction(least[name], left[name]) for name in left}


def _tuned(slimmed: nn.Module, tune: Callable[[nn.Module], Any]) -> nn.Module:
    shapes = {name: value.shape for name, value in slimmed.state_dict().items()}
    with torch.inference_mode(mode=False), torch.enable_grad():
        returned = tune(slimmed)
    tuned = returned if isinstance(returned, nn.Module) else slimmed
    if {name: value.shape for name, value in tuned.state_dict().items()} != shapes:
        raise InputError("tune returned a network of another shape; it must train the one that it gets. Correct it.")
    return tuned


def _altogether(dense: nn.Module, images: Any, made: list[Pruned], tuned: nn.Module, target: float) -> Pruned:
    """One plan for the dense network of those of the rounds, and its report."""
    plan = made[0].plan
    for later in made[1:]:
        plan = composed(plan, later.plan)
    plan = replace(plan, target=target, macs=made[-1].plan.macs)
    copied = prepared(dense)
    some = fewest(copied, forms.placed(copied, images).images)
    if plan.folded:
        copied, _ = folded(copied, some)
    with by_steps(copied):
        graph = plan.graph(copied, some)
    error = max(pruned.report.slim_error for pruned in made)
    rounds = " → ".join(f"{pruned.plan.macs:,}" for pruned in made)
    notes = (
        *(note for note in made[0].report.notes if not note.startswith(LIMITED)),
        *(note for note in made[-1].report.notes if note.startswith(LIMITED)),
        f"pruned in {len(made)} rounds: {rounds} MACs, tuned after each.",
    )
    return Pruned(tuned, report_on(copied, tuned, graph, plan, error, notes), plan, made[0].called_with)
