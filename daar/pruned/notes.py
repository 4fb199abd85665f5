"""Sentences of a report: what is special about a network that was pruned."""

from torch import nn

from daar.errors import said
from daar.program.draws import draws
from daar.program.inputs import Images
from daar.pruning import limits
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan
from daar.pruning.training_mode import asks_for_mode, failure, in_training, unread

# parts that a sentence names
_NAMED = 3
# begins the sentence on what lost as much as max_ratio allows
LIMITED = "max_ratio:"


def ties(slimmed: nn.Module, model: nn.Module) -> tuple[str, ...]:
    """A sentence for each parameter that several modules share and that was cut for all of them."""
    names: dict[int, list[str]] = {}
    for name, value in slimmed.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
    shapes = {name: value.shape for name, value in model.named_parameters(remove_duplicate=False)}
    held = dict(slimmed.named_parameters(remove_duplicate=False))
    return tuple(
        f"tied: {' and '.join(several)} are one parameter, cut for all of them."
        for several in names.values()
        if len(several) > 1 and held[several[0]].shape != shapes[several[0]]
    )


def at_limit(graph: ChannelGraph, plan: Plan) -> tuple[str, ...]:
    """A sentence if groups lost as much as `max_ratio` allows."""
    kept = {group.name: len(group.kept) for group in plan.groups}
    held = [group for group in graph.in_scope(plan.scope) if limits.holds(group)]
    names = [group.name for group in held if kept[group.name] == group.min_kept < group.size]
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"{LIMITED} {', '.join(names[:_NAMED])}{more} lost as much as it allows.",)


def random_draws(graph: ChannelGraph) -> tuple[str, ...]:
    """A sentence if the network draws random numbers in eval mode."""
    places = list(dict.fromkeys(op.place() for op in graph.program.operations if draws(op)))
    if not places:
        return ()
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return (
        f"random: the network draws random numbers in eval mode: {places[0]}{more}. Slim and masked network were "
        "compared with the same ones.",
    )


def training_fails(dense: nn.Module, slimmed: nn.Module, graph: ChannelGraph, images: Images) -> tuple[str, ...]:
    """A sentence if code of training mode alone runs in the dense network and fails in the slim one."""
    if graph.training is None and not asks_for_mode(dense):
        return ()
    failed = failure(slimmed, images)
    if failed is None or (graph.training is None and in_training(dense, images) is None):
        return ()
    where = f" in {failed.inside[-1]!r}" if failed.inside and failed.inside[-1] else ""
    return (
        f"training: the slim network runs in eval mode only; in training mode it fails{where}: {said(failed.error)}. "
        "Exclude what that reads, or change the code.",
    )


def never_run(dense: nn.Module, graph: ChannelGraph) -> tuple[str, ...]:
    """A sentence if parts of the network ran neither on these images nor in training mode."""
    parts = list(
        dict.fromkeys(name.rpartition(".")[0] or name for name in unread(dense, graph.program, graph.training))
    )
    if not parts:
        return ()
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return (
        f"not run: {', '.join(parts[:_NAMED])}{more}, neither on these images nor in training mode. These parts are as "
        "they were, and may not fit what feeds them now: exclude what they read, or remove them.",
    )
