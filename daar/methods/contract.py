"""What a method and a policy must hold whoever calls them: enforced where they are loaded, said in one line.

tests/conformance and `daar method check` look for more, by more calls; what is here costs little and is always on.
Imported while the DAG is built: torch is there once a method is loaded.
"""

import functools
import numbers
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from daar.errors import InputError, in_one_line, is_out_of_memory, said

if TYPE_CHECKING:
    from torch import Tensor, nn

RESULT_NEUTRAL = "refuses what breaks the contract, and changes nothing else"
# of the dense network's MACs; a policy that leaves more of its target unused while channels would fit ignores it
UNUSED = 0.05
_NO_GRADIENTS = ("does not require grad", "does not have a grad_fn", "appears to not have been used in the graph")


def enforce(module: ModuleType, name: str, policy: str) -> None:
    """Wrap a module's functions: gradients are recorded within them in any mode, and their faults are InputErrors.

    Args:
        module: of a method or a policy, imported.
        name: its name, for messages.
        policy: name of the policy that its plan() is.
    """
    import torch

    wrappers: dict[str, Callable[[Any], Any]] = {
        "score": lambda score: _score(score, f"method {name!r}"),
        "plan": lambda plan: _plan(plan, f"policy {policy!r}"),
        "explain": torch.inference_mode(mode=False),
    }
    for function, wrap in wrappers.items():
        if hasattr(module, function):
            setattr(module, function, wrap(getattr(module, function)))


def _score(score: Callable[..., Any], whose: str) -> Callable[..., Any]:
    import torch

    @functools.wraps(score)
    def checked(model: "nn.Module", *arguments: Any, **options: Any) -> Any:
        with unchanged(model, whose), faults(whose, score), torch.inference_mode(mode=False):
            scores = score(model, *arguments, **options)
        require_tensors(scores, whose)
        return scores

    return checked


def _plan(plan: Callable[..., Any], whose: str) -> Callable[..., Any]:
    import torch

    @functools.wraps(plan)
    def checked(groups: Any, importance: Any, macs_target: int | None, *, macs: Any, loss: Any, **given: Any) -> Any:
        raised: list[Exception] = []
        measured = _remembering(loss, raised)
        counted = _counted(macs, groups or (), whose)
        with faults(whose, plan, raised), torch.inference_mode(mode=False):
            counts = plan(groups, importance, macs_target, macs=counted, loss=measured, **given)
        counts = require_counts(counts, groups or (), whose)
        require_target(counts, groups or (), macs_target, macs, whose)
        return counts

    return checked


def _counted(macs: Any, groups: Sequence[Any], whose: str) -> Any:
    """The cost of counts, which says what is wrong with counts that it cannot look up."""
    if macs is None:
        return None
    sizes = {group.name: group.size for group in groups}

    @functools.wraps(macs, updated=())
    def counted(counts: Any) -> Any:
        try:
            return macs(counts)
        except (IndexError, TypeError):
            _require_possible(counts, sizes, whose)
            raise

    return counted


def _require_possible(counts: Any, sizes: Mapping[str, int], whose: str) -> None:
    if not isinstance(counts, Mapping):
        return
    for name, count in counts.items():
        if name in sizes:
            _require_integer(name, count, whose)
            if count > sizes[name]:
                raise InputError(
                    f"{whose} asks for the MACs of {count} channels of group {name!r}, which has {sizes[name]}. "
                    "Keep each count within its group's size, as by min(group.size, …)."
                )


def _remembering(loss: Any, raised: list[Exception]) -> Any:
    """The loss, which notes what it raises: that is no fault of the policy that calls it."""
    if loss is None:
        return None

    @functools.wraps(loss, updated=())
    def noted(removed: Any) -> Any:
        try:
            return loss(removed)
        except Exception as error:
            raised.append(error)
            raise

    return noted


@contextmanager
def faults(whose: str, function: Callable[..., Any], through: Sequence[Exception] = ()) -> Iterator[None]:
    """Turn what a function of a method raises into one line with the place; the traceback is the error's cause.

    Args:
        whose: the method or policy, for the message.
        function: its score() or plan().
        through: exceptions that are not its own.

    Raises:
        InputError: it raised anything but an InputError, or ended the program; what says that memory is used up gets
            through.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, Exception) and (is_out_of_memory(error) or error in through):
            raise
        at = _place(error, Path(function.__code__.co_filename).parent)
        what = f"{whose} fails in {function.__name__}(): {type(error).__name__}: {in_one_line(said(error))}{at}."
        if any(sign in str(error) for sign in _NO_GRADIENTS):
            raise InputError(
                f"{what} It wants gradients of what records none: take filter_gradients, map_gradients or losses of "
                "daar.api, or switch requires_grad on for a copy of the network."
            ) from error
        raise InputError(f"{what} Mend it, or choose another.") from error


def _place(error: BaseException, folder: Path) -> str:
    """The last line of the method's own that ran."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


@contextmanager
def unchanged(model: "nn.Module", whose: str) -> Iterator[None]:
    """Compare the network before and after: its weights, buffers, modes, and which weights want gradients.

    Args:
        model: that a method gets.
        whose: the method, for the message.

    Raises:
        InputError: names what was changed.
    """
    if not hasattr(model, "named_parameters"):
        yield
        return
    before = {name: value.detach().clone() for name, value in _held(model)}
    wanted = {name: value.requires_grad for name, value in model.named_parameters()}
    modes = {path: module.training for path, module in model.named_modules() if hasattr(module, "training")}
    yield
    after = dict(_held(model))
    names = [repr(name) for name in before | after if name not in before or name not in after]
    names += [repr(name) for name, value in before.items() if name in after and not _same(value, after[name])]
    modules = dict(model.named_modules())
    names += [
        f"the training mode of {path!r}" if path else "the training mode"
        for path, mode in modes.items()
        if getattr(modules.get(path), "training", 0) != mode
    ]
    kept = {name: wants for name, wants in wanted.items() if name in after}
    names += [f"requires_grad of {name!r}" for name, wants in kept.items() if after[name].requires_grad != wants]
    if names:
        raise InputError(
            f"{whose} changes {names[0]} of the network; score() must leave weights, buffers, modes and requires_grad "
            "as they are. Work on copy.deepcopy(model)."
        )


def require_tensors(scores: Any, whose: str) -> None:
    """InputError unless scores map layers to tensors without gradients; their form is checked elsewhere."""
    from torch import Tensor

    if not isinstance(scores, Mapping):
        raise InputError(f"{whose} returns a {type(scores).__name__}; it must be a mapping, layer → scores (c_out,).")
    for layer, vector in scores.items():
        if not isinstance(vector, Tensor):
            got = type(vector).__name__
            raise InputError(
                f"{whose} scores {layer!r} by a {got}; it must be a tensor (c_out,), torch.float32 on cpu."
            )
        if vector.requires_grad:
            raise InputError(f"{whose} returns scores of {layer!r} with gradients; return scores.detach().")


def require_counts(counts: Any, groups: Sequence[Any], whose: str) -> dict[str, int]:
    """The counts as plain integers; whether each is within its group's limits is checked elsewhere.

    Raises:
        InputError: they are no mapping of the groups' names to integers.
    """
    if not isinstance(counts, Mapping):
        raise InputError(f"{whose} returns a {type(counts).__name__}; it must be a mapping, group → kept count.")
    names = {group.name for group in groups}
    for name, count in counts.items():
        if name not in names:
            raise InputError(
                f"{whose} keeps channels of {in_one_line(repr(name), 100)}, which is none of its {len(names)} groups. "
                "Return a count for each of `groups`, by its name."
            )
        _require_integer(name, count, whose)
    if missing := [group.name for group in groups if group.name not in counts]:
        raise InputError(
            f"{whose} returns no count for group {missing[0]!r}; it must return one for each of its {len(names)} "
            "groups. Loop over `groups`."
        )
    return {name: int(count) for name, count in counts.items()}


def _require_integer(name: str, count: Any, whose: str) -> None:
    if isinstance(count, bool) or not isinstance(count, numbers.Integral):
        raise InputError(
            f"{whose} keeps {in_one_line(repr(count), 40)} channels of {name!r}; it must be an integer. "
            "Return int(…) of it."
        )


def require_target(counts: Mapping[str, int], groups: Sequence[Any], target: int | None, macs: Any, whose: str) -> None:
    """InputError for a policy that keeps far less than it may; that it keeps more is checked elsewhere."""
    whole = {group.name: group.size for group in groups}
    if target is None or any(not group.min_kept <= counts.get(group.name, 0) <= group.size for group in groups):
        return
    left, dense = macs(counts), macs(whole)
    if target - left <= UNUSED * dense:
        return
    wider = ({**counts, name: counts[name] + 1} for name, size in whole.items() if counts[name] < size)
    if any(macs(more) <= target for more in wider):
        raise InputError(
            f"{whose} misses the target: it keeps {left:,} of {dense:,} MACs or parameters, but {target:,} may stay. "
            "Fill the rest up, as refill_by_importance_per_mac of daar.api does."
        )


def _held(model: "nn.Module") -> "Iterator[tuple[str, Tensor]]":
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same(one: "Tensor", other: "Tensor") -> bool:
    """Bit by bit but for the kind of NaN."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124  # NaN is not itself
