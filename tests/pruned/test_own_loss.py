"""A loss of one's own: read where a policy measures, one finite number each time."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import daar
from daar.errors import InputError
from tests.networks import one_thread  # noqa: F401  # it acts on this module
from tests.pruned.networks import Line, made

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def squares(output: Tensor, dense: Tensor) -> Tensor:
    return (output - dense).square().mean()


def test_it_decides_and_is_called_by_a_policy_that_measures() -> None:
    calls: list[tuple[int, ...]] = []

    def counted(output: Tensor, dense: Tensor) -> Tensor:
        calls.append(tuple(output.shape))
        assert output.shape == dense.shape
        return squares(output, dense)

    plan = daar.prune(made(Line), X, macs_reduction=0.3, loss=counted).plan
    assert len(calls) > 2
    assert set(calls) == {(4, 5)}
    numbers: list[Any] = [Tensor.item, np.float32, lambda value: value[None]]
    for as_number in numbers:

        def alike(output: Tensor, dense: Tensor, as_number: Any = as_number) -> Any:
            return as_number(squares(output, dense))

        assert daar.prune(made(Line), X, macs_reduction=0.3, loss=alike).plan == plan


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (
            lambda output, dense: (output - dense).square().mean(1),
            r"loss returned a tensor \(4,\) of torch.float32; it",
        ),
        (lambda output, _: output.mean() * torch.nan, "loss returned nan; it must return one finite number"),
        (lambda *_: float("inf"), "loss returned inf;"),
        (lambda *_: -torch.inf, "loss returned -inf;"),
        (lambda *_: None, "loss returned None;"),
        (lambda *_: "0.5", "loss returned '0.5';"),
        (lambda *_: True, "loss returned True;"),
        (lambda *_: [0.5], r"loss returned \[0.5\];"),
        (lambda *_: 1j, "loss returned 1j;"),
        (lambda *_: torch.tensor(1j), r"loss returned a tensor \(\) of torch.complex64;"),
        (lambda *_: torch.ones(0), r"loss returned a tensor \(0,\)"),
        (lambda output: output, "loss does not take these arguments: too many positional arguments. It must be loss"),
        (3, r"loss is 3; it must be a function loss\(output, dense output\), or None"),
    ],
)
def test_what_is_no_number_is_said(returned: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        daar.prune(made(Line), X, macs_reduction=0.3, loss=returned)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"method": "l1"},
            "policy 'uniform' measures nothing: loss is read by policy adaptive alone. Give that policy",
        ),
        ({"policy": "global"}, "policy 'global' measures nothing"),
        ({"method": lambda *_: {}}, "policy 'uniform' measures nothing"),
        ({"ratios": {"0": 0.5}}, "own ratios measure nothing"),
        ({"policy_options": {"adjust": False}}, "policy 'adaptive' measured nothing with these options"),
        ({"policy": "adaptve"}, "unknown policy 'adaptve'"),
    ],
)
def test_where_it_is_not_read_it_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        daar.prune(made(Line), X, loss=squares, **given)


def test_an_exception_of_a_loss_is_its_own() -> None:
    def fails(*_: Tensor) -> float:
        raise KeyError("masks")

    with pytest.raises(KeyError, match="masks"):
        daar.prune(made(Line), X, loss=fails)
