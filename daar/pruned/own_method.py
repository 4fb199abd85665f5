"""A function in a method's place: `method=score`, score(model, batch, layers, **options) → layer → (c_out,)."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.errors import InputError, in_one_line, is_out_of_memory, unknown
from daar.methods import contract, discovery
from daar.methods.discovery import Method
from daar.pruning import importance, scoring, weights
from daar.pruning.groups import ChannelGraph
from daar.pruning.scoring import Batch

# what a plan and a record can have as a name
_LONGEST = 100


def method_of(given: "str | Callable[..., Any]", folders: tuple[Path, ...]) -> Method:
    """The method of that name, or one that stands for a function; its policy is `uniform`.

    Raises:
        InputError: there is no method of that name.
    """
    if isinstance(given, str):
        methods = discovery.find(folders)
        if given not in methods:
            hint = "Or give a function score(model, batch, layers), or a folder of methods in methods_dirs=[…]."
            raise unknown("method", given, list(methods), hint)
        return methods[given]
    name = "".join(c for c in getattr(given, "__name__", type(given).__name__) if c.isalnum() or c in "_<>")[:_LONGEST]
    return Method(name or "function", Path(), Path(), {"policy": "uniform"}, {}, None, {})


def scores_by(
    given: "str | Callable[..., Any]",
    method: Method,
    model: nn.Module,
    batch: Batch,
    graph: ChannelGraph,
    options: Mapping[str, Any],
    seed: int,
    scope: str,
) -> dict[str, Tensor]:
    """Importance of every filter that may be pruned, by a method or a function.

    A function's exceptions are its own and get through. Its scores may be of any type and on any device.

    Raises:
        InputError: as of `scoring.score`; the model was changed; or the function does not take these arguments, or
            returns no mapping.
    """
    whose = f"method {method.name!r}"
    if isinstance(given, str):
        return scoring.score(model, batch, graph, method, dict(options), seed, scope)
    layers = graph.scored_layers(scope)
    chosen = dict(options)
    try:
        signature = inspect.signature(given)
        if "seed" in signature.parameters and "seed" not in chosen:
            chosen["seed"] = seed
        signature.bind(model, batch, layers, **chosen)
    except TypeError as error:
        raise InputError(
            f"{whose} does not take these arguments: {error}. It must be score(model, batch, layers, **options)."
        ) from error
    except ValueError:  # a builtin has no signature
        pass
    gradients, known = torch.inference_mode(mode=False), weights.known(graph, batch.images)
    with contract.unchanged(model.eval(), whose), gradients, torch.enable_grad(), known:
        scored = given(model, batch, layers, **chosen)
    model.zero_grad(set_to_none=True)
    if not isinstance(scored, Mapping):
        raise InputError(f"{whose} returns a {type(scored).__name__}; it must be a mapping, layer → scores (c_out,).")
    plain = {layer: _plain(vector, layer, whose) for layer, vector in scored.items()}
    importance.check(plain, importance.widths(graph, scope), whose)
    return plain


def _plain(vector: Any, layer: str, whose: str) -> Tensor:
    """The scores of a layer as float32 on the CPU, whatever they came as; those without values stay on meta."""
    try:
        scores = torch.as_tensor(vector).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        got = type(vector).__name__
        raise InputError(
            f"{whose} scores {in_one_line(repr(layer), 100)} by a {got} that is no tensor; it must be one (c_out,). "
            "Return one score for each filter."
        ) from error
    # the check says what is wrong with it, in the same words as for a method
    return scores if scores.is_meta else scores.to("cpu", torch.float32)
