"""Operations along a dimension: a sum over channels does without those that are zero, nothing else does."""

from typing import Any

from daar.program.program import Operation, refs
from daar.pruning.rules.run import Dims, Rule, Run

# name → position of the argument that says along which dimensions
ALONG = {
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "any", "all"), 1),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "logsumexp", "median", "nanmedian", "mode"), 1),
    **dict.fromkeys(("nansum", "count_nonzero", "aminmax"), 1),
    **{"linalg_vector_norm": 2, "norm": 2, "kthvalue": 2},
}
_SUMS = ("sum", "nansum", "linalg_vector_norm")
# where no dimension is given, along the last
_LAST = ("mode", "kthvalue")
# along a dimension, of the shape of what they read
_SCANS = {
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp"), 1),
    **dict.fromkeys(("sort", "cummax", "cummin", "_fft_r2c", "_fft_c2r", "_fft_c2c"), 1),
    **{"roll": 2, "topk": 2},
}


def reduce(run: Run, op: Operation) -> list[Dims]:
    """Some or all dimensions become one number each."""
    source = op.args[0]
    labels, rank = run.of(source), len(run.shape(source))
    name = op.name
    dims = along(run, op)
    order = op.argument(1, "ord", 2) if name == "linalg_vector_norm" else 2
    for d in dims:
        if name in _SUMS and order in (1, 2):
            run.read(op, source, d)
        else:
            run.keep(labels[d], op, "channels are taken together")
    kept = len(run.shape(next(refs(op.result)))) == rank
    made: Dims = [None if d in dims else part for d, part in enumerate(labels) if kept or d not in dims]
    return [list(made) for _ in refs(op.result)]


def along(run: Run, op: Operation) -> set[int]:
    """The dimensions that a reduction takes together."""
    rank = len(run.shape(next(refs(op.args))))
    given = op.argument(ALONG[op.name], "dim", -1 if op.name in _LAST else None)
    return {d % max(rank, 1) for d in _listed(given, rank)}


def _listed(given: Any, rank: int) -> list[int]:
    if isinstance(given, int) and not isinstance(given, bool):
        return [given]
    return list(given) if isinstance(given, (list, tuple)) and given else list(range(rank))


def scan(run: Run, op: Operation) -> list[Dims]:
    """Positions of a dimension are made of all of it."""
    labels = list(run.of(op.args[0]))
    given = op.args[_SCANS[op.name.rstrip("_")]] if len(op.args) > _SCANS[op.name.rstrip("_")] else -1
    for d in _listed(given, len(labels)):
        run.keep(labels[d], op, "channels are taken together")
        labels[d] = None
    return [list(labels) for _ in refs(op.result)]


def glu(run: Run, op: Operation) -> list[Dims]:
    """Gates and what they are for, a half each, meet position by position."""
    labels = list(run.of(op.args[0]))
    d = op.argument(1, "dim", -1)
    here = labels[d]
    labels[d] = None if here is None else run.ids.tie(here, 2)
    return [labels]


def renorm(run: Run, op: Operation) -> list[Dims]:
    """Every position of a dimension is shortened by its length over all others."""
    labels, dim = list(run.of(op.args[0])), op.args[2]
    for d, other in enumerate(labels):
        if d != dim % len(labels):
            run.keep(other, op, "channels are taken together by a norm")
    return [labels]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ALONG, reduce),
    **dict.fromkeys(_SCANS, scan),
    **{"glu": glu, "renorm": renorm},
}
