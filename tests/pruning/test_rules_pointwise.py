"""Operations on one position at a time: channels pass, and go with those that they meet."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.judge import Reads
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.one_operation import SAME, Case, head_of, pruned_exactly
from tests.pruning.test_groups import head


def written(x: Tensor, place: Any, value: Any) -> Tensor:
    y = x.clone()
    y[place] = value
    return y


PRUNED: dict[str, Case] = {
    "module calls": (lambda m, x: m.head(m.flat(m.pool(m.act(m.norm(m.a(x)))))), 12, SAME),
    "scalars": (lambda m, x: m.head((2 * m.a(x) + 1 - 0.5).mean((2, 3)) * m.gamma), 12, SAME),
    "in place": (lambda m, x: m.head(F.relu_(m.a(x)).add_(1).mean((2, 3))), 12, SAME),
    "dropout": (lambda m, x: m.head(F.dropout(m.drop(m.a(x)), training=m.training).mean((2, 3))), 12, SAME),
    "learnt scale (1, C, 1, 1)": (lambda m, x: head(m, m.a(x) * m.four), 12, SAME),
    "learnt scale (C, 1, 1)": (lambda m, x: head(m, m.a(x) * m.three), 12, SAME),
    "learnt scale (C,)": (lambda m, x: m.head(m.a(x).mean((2, 3)) * m.one), 12, SAME),
    "learnt shift of all channels": (lambda m, x: head(m, m.a(x) + m.three[:, :1] + m.gamma), 12, SAME),
    "power of two tensors": (lambda m, x: head(m, torch.pow(m.a(x).abs() + 1, m.a(x))), 12, SAME),
    "quotient": (lambda m, x: head(m, m.a(x) / (m.a(x).abs() + 1)), 12, SAME),
    "choice": (lambda m, x: head(m, torch.where(m.a(x) > 0, m.a(x), -0.3)), 12, SAME),
    "filled where masked": (lambda m, x: head(m, m.a(x).masked_fill(m.a(x) < 0, 0.7)), 12, SAME),
    "squares": (lambda m, x: head(m, m.a(x).square().clamp(max=2)), 12, SAME),
    "ones like it": (lambda m, x: head(m, m.a(x) + torch.ones_like(m.a(x))), 12, SAME),
    "full like it": (lambda m, x: head(m, m.a(x) + torch.full_like(m.a(x), 0.5)), 12, SAME),
    "full, and added to": (
        lambda m, x: head(m, m.a(x) + torch.full((1, 1, 8, 8), 0.5) + x.new_full((1, 1, 8, 8), 2.0)), 12, SAME,
    ),
    "ones that it is given": (
        lambda m, x: head(m, m.a(x) * x.new_ones(x.shape[0], m.a(x).shape[1], 8, 8) + 1), 12, SAME,
    ),
    "memory made zero": (
        lambda m, x: head(m, m.a(x) + x.new_empty(x.shape[0], m.a(x).shape[1], 8, 8).zero_() + 1), 12, SAME,
    ),
    "strides as they are": (lambda m, x: head(m, m.a(x).as_strided(m.a(x).size(), m.a(x).stride())), 12, SAME),
    "another type and back": (lambda m, x: head(m, m.a(x).to(torch.float64).to(x.dtype)), 12, SAME),
    "copied": (lambda m, x: head(m, torch.empty_like(m.a(x)).copy_(m.a(x))), 12, SAME),
    "filled, then added to": (lambda m, x: head(m, torch.empty_like(m.a(x)).fill_(1.0) + m.a(x)), 12, SAME),
    "gelu": (head_of(F.gelu), 12, SAME),
    "mish": (head_of(F.mish), 12, SAME),
    "silu": (head_of(F.silu), 12, SAME),
    "hardswish": (head_of(F.hardswish), 12, SAME),
    "slopes of each channel": (lambda m, x: head(m, m.slopes(m.a(x))), 12, SAME),
    "one slope": (lambda m, x: head(m, m.slope(m.a(x))), 12, SAME),
    "detached": (lambda m, x: head(m, m.a(x).detach().clone().contiguous()), 12, SAME),
    "one made by the code": (lambda m, x: head(m, m.a(x) + torch.ones(1, dtype=x.dtype)), 12, SAME),
    "ramps over the rows": (lambda m, x: head(m, m.a(x) * torch.arange(8, dtype=x.dtype)), 12, SAME),
    "zeros as wide as it is": (
        lambda m, x: head(m, m.a(x) + x.new_zeros(x.shape[0], m.a(x).shape[1], 1, 1) + 1), 12, SAME,
    ),
    "one without it": (lambda m, x: head(m, 1 - m.a(x)), 12, SAME),
    "absolute values in place": (lambda m, x: head(m, m.a(x).abs_()), 12, SAME),
    "threshold in place": (lambda m, x: head(m, F.threshold(m.a(x), 0.1, 0.2, inplace=True)), 12, SAME),
    "signs in place": (lambda m, x: head(m, m.a(x).copysign_(m.three - 0.5)), 12, SAME),
    "log of a sigmoid": (head_of(F.logsigmoid), 12, SAME),
    "whole parts of a quotient": (lambda m, x: head(m, m.a(x) // 0.1), 12, SAME),
    "buckets": (lambda m, x: head(m, m.a(x) * torch.bucketize(m.a(x), m.theta.flatten().cumsum(0))), 12, SAME),
    "one of some": (lambda m, x: head(m, m.a(x) * torch.isin(m.a(x).round(), torch.arange(2).to(x))), 12, SAME),
    "between bounds of each channel": (lambda m, x: head(m, m.a(x).clamp(-m.three, m.three)), 12, SAME),
    "between two": (lambda m, x: head(m, torch.lerp(m.a(x), m.four, m.gamma)), 12, SAME),
    "written where masked": (head_of(lambda x: written(x, x < 0, 0.3)), 12, SAME),
    "real and imaginary parts": (head_of(lambda x: torch.complex(x, x * 2 + 1).abs()), 12, SAME),
    "lengths and angles": (head_of(lambda x: torch.polar(x.abs(), x).imag), 12, SAME),
    "pairs as complex numbers": (
        head_of(lambda x: torch.view_as_complex(torch.stack([x, x * 2 + 1], -1)).angle()), 12, SAME,
    ),
    "embedded classes": (
        lambda m, x: head(m, m.a(x) + m.table((x[:, 0, 0, 0] > 0).long())[:, :, None, None]), 12, SAME,
    ),
    "embedded bags": (
        lambda m, x: head(m, m.a(x) * m.bag((x[:, 0, 0, :3] > 0).long())[:, :, None, None]), 12, SAME,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    pruned_exactly(run, size, reads)
