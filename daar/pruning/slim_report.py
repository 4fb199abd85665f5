"""What pruning did to one network: layer by layer, in MACs and parameters, and what had to stay."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor, nn

from daar.measure.macs import count_params
from daar.measure.timed import Latency
from daar.pruning import own_ratios
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan
from daar.pruning.reach import must_stay, whole_because

# layers that a line names
_NAMED = 3


@dataclass(frozen=True)
class LayerReport:
    """One conv or linear layer, dense and slim.

    Attributes:
        name: path of the module.
        filters_dense: filters (units of a linear layer) before.
        filters: filters that are left.
        macs_dense: multiply-accumulates for one image, before.
        macs: those that are left.
        params_dense: learnable parameters of the layer itself, before.
        params: those that are left.
    """

    name: str
    filters_dense: int
    filters: int
    macs_dense: int
    macs: int
    params_dense: int
    params: int


@dataclass(frozen=True)
class SlimReport:
    """Dense and slim network side by side; `print` it, or take `to_json()`.

    Attributes:
        method: whose importance.
        policy: what made widths of it.
        scope: `inner`, `all` or `units`.
        macs_dense: multiply-accumulates of one image, before; conv, linear and matrix products.
        macs: those that are left.
        params_dense: learnable parameters, before.
        params: those that are left.
        slim_error: max |slim − masked| / max |output|, in float64 over some of the images.
        layers: every conv, linear layer and product of activations, in the order of execution.
        frozen: group → why all of it stays.
        fixed: group → how many of its channels must stay, and why.
        repairs: what was changed in the network, or kept, because a number of channels is written in its code; phrases.
        notes: what else was done that was not asked for, sentences.
        latency: of the slim network next to the dense one, where it was asked for.
    """

    method: str
    policy: str
    scope: str
    macs_dense: int
    macs: int
    params_dense: int
    params: int
    slim_error: float
    layers: tuple[LayerReport, ...]
    frozen: dict[str, str]
    fixed: dict[str, str]
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    latency: Latency | None = None

    @property
    def macs_reduction(self) -> float:
        """Fraction of the dense MACs removed."""
        return 1 - self.macs / self.macs_dense

    @property
    def params_reduction(self) -> float:
        """Fraction of the dense parameters removed."""
        return 1 - self.params / self.params_dense

    def to_json(self) -> dict[str, Any]:
        """Plain values, with both reductions."""
        return {**asdict(self), "macs_reduction": self.macs_reduction, "params_reduction": self.params_reduction}

    def _rows(self) -> list[dict[str, str]]:
        """Layers, what is in none of them (norms), and the total: every column adds up."""
        rows = [
            _row(
                layer.name, (layer.filters_dense, layer.filters), (layer.macs_dense, layer.macs),
                (layer.params_dense, layer.params),
            )
            for layer in self.layers
        ]  # fmt: skip
        other = (
            self.params_dense - sum(layer.params_dense for layer in self.layers),
            self.params - sum(layer.params for layer in self.layers),
        )
        if any(other):
            # parameters that layers share stand in each of their rows
            name = "(all else: norms, scales, …)" if min(other) >= 0 else "(all else, less what layers share)"
            rows.append(_row(name, None, None, other))
        return [*rows, _row("total", None, (self.macs_dense, self.macs), (self.params_dense, self.params))]

    def __str__(self) -> str:
        widths = "own ratios" if own_ratios.is_own(self.policy) else f"policy {self.policy}"
        head = (
            f"{self.method}, {widths}, scope {self.scope}: MACs {self.macs_dense:,} → {self.macs:,} "
            f"({-100 * self.macs_reduction:+.1f} %), parameters {self.params_dense:,} → {self.params:,} "
            f"({-100 * self.params_reduction:+.1f} %); max |slim − masked| {self.slim_error:.1e} of the largest output "
            "(float64)"
        )
        stays = [f"{name} stays whole: {reason}" for name, reason in self.frozen.items()]
        stays += [f"{name}: {reason}" for name, reason in self.fixed.items()]
        stays += [*(f"the code: {said}" for said in self.repairs), *self.notes]
        table = tabulate(self._rows(), headers="keys", disable_numparse=True)
        timed = [] if self.latency is None else [f"latency {self.latency}"]
        return "\n".join([head, *timed, "", table, *stays])


def _row(
    name: str, filters: tuple[int, int] | None, macs: tuple[int, int] | None, params: tuple[int, int]
) -> dict[str, str]:
    return {
        "layer": name,
        "filters": "" if filters is None else _change(*filters),
        "MACs": "" if macs is None else _change(*macs),
        "params": _change(*params),
    }


def report_on(
    dense: nn.Module,
    slimmed: nn.Module,
    graph: ChannelGraph,
    plan: Plan,
    error: float,
    notes: tuple[str, ...] = (),
    latency: Latency | None = None,
) -> SlimReport:
    """Compare a network with what a plan left of it.

    Args:
        dense: the network.
        slimmed: what `slim` made of it.
        graph: of the dense network.
        plan: what it was slimmed by.
        error: measured by `slim_error`.
        notes: what was done that was not asked for, sentences.
        latency: of the slim network next to the dense one.
    """
    alive = graph.alive(plan.removed(graph))
    whole = np.ones(graph.count, dtype=bool)
    return SlimReport(
        method=plan.method,
        policy=plan.policy,
        scope=plan.scope,
        macs_dense=plan.macs_dense,
        macs=plan.macs,
        params_dense=count_params(dense),
        params=count_params(slimmed),
        slim_error=error,
        layers=tuple(
            LayerReport(
                layer.name,
                len(layer.outputs),
                _width(layer.outputs, alive),
                layer.macs(whole),
                layer.macs(alive),
                _params(dense, layer.name),
                _params(slimmed, layer.name),
            )
            for layer in graph.layers.values()
        ),
        frozen=_stays(graph, plan.scope),
        fixed={g.name: said for g in graph.in_scope(plan.scope) if (said := must_stay(g))},
        repairs=_repairs(dense, graph, alive),
        notes=notes,
        latency=latency,
    )


def _stays(graph: ChannelGraph, scope: str) -> dict[str, str]:
    """Group → why it stays whole and which layers go only with it; groups that another scope opens, in one entry."""
    free = {group.name for group in graph.in_scope(scope)}
    said: dict[str, str] = {}
    beyond: dict[str, list[str]] = {}
    for group in (*graph.groups, *graph.units):
        reason = whole_because(group, graph)
        if group.frozen is not None and (scope == "units" or group in graph.groups):
            said[group.name] = reason + _alike(group.members[1:])
        elif group.frozen is None and group.name not in free:
            beyond.setdefault(reason, []).extend(group.members)
    return said | {layers[0]: reason + _alike(layers[1:]) for reason, layers in beyond.items()}


def _alike(layers: Sequence[str]) -> str:
    if not layers:
        return ""
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return f"; so {'do' if len(layers) > 1 else 'does'} {', '.join(layers[:_NAMED])}{more}"


def _repairs(dense: nn.Module, graph: ChannelGraph, alive: NDArray[np.bool_]) -> tuple[str, ...]:
    """What was changed or kept because a number of channels is written in the network's code, phrases."""
    changed = []
    for attribute in graph.attributes:
        owner = type(dense.get_submodule(attribute.module)).__qualname__
        read_by = graph.repairs.attributes.get((owner, attribute.name))
        if read_by is not None:
            path = f"{attribute.module}.{attribute.name}".lstrip(".")
            before, after = len(attribute.labels), _width(attribute.labels, alive)
            changed.append(f"{path} ({owner}) {_change(before, after)}, the number of channels of {read_by[0][0]}")
    return (*changed, *graph.repairs.stays(), *graph.repairs.choices())


def _params(model: nn.Module, name: str) -> int:
    """Of a layer, named by its module or by its weight; a product of activations has none."""
    path, _, last = name.rpartition(".")
    held = model if not name else getattr(model.get_submodule(path), last, None) if ":" not in name else None
    return held.numel() if isinstance(held, Tensor) else count_params(held) if isinstance(held, nn.Module) else 0


def _width(layout: NDArray[np.int64], alive: NDArray[np.bool_]) -> int:
    return int(alive[layout].sum())


def _change(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"
