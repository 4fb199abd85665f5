"""Operations along the rows and columns of maps, and over images: every channel by itself."""

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
    y[(slice(None), slice(None), place)] = value
    return y


def largest_alone(x: Tensor) -> Tensor:
    values, places = x.flatten(2).topk(5, 2)
    return torch.zeros_like(x.flatten(2)).scatter_(2, places, values).view_as(x)


def of_lines(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: change(x.flatten(2))[..., None]


ROWS = torch.tensor([1, 2])
FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "the largest few": lambda x: x.topk(4, 2)[0],
    "the third": lambda x: x.kthvalue(3)[0][..., None],
    "the third, by its dimension": lambda x: x.kthvalue(3, 2, True)[0],
    "the most frequent": lambda x: x.mode()[0][..., None],
    "the middle, but for NaN": lambda x: x.nanmedian(2, True)[0],
    "mean, but for NaN": lambda x: x.nanmean(2, True),
    "a quantile": lambda x: torch.quantile(x, 0.3, 2, keepdim=True),
    "least and largest": lambda x: torch.stack(x.aminmax(dim=2), 2),
    "how many are not zero": lambda x: x.relu().count_nonzero(2).to(x.dtype)[..., None],
    "ordered by others": lambda x: torch.take_along_dim(x, x.sum(1, keepdim=True).abs().cumsum(2).argsort(2), 2),
    "gathered": lambda x: x.gather(2, x.argsort(2)[:, :, :3]),
    "scattered": lambda x: x.scatter(2, x.argsort(2)[:, :, :7], 0.5),
    "scattered and added": lambda x: x.scatter_add(2, x.argsort(2), x),
    "scattered and reduced": lambda x: x.scatter_reduce(2, x.argsort(2), x, "amax"),
    "hard choice": lambda x: x * torch.zeros_like(x).scatter(2, x.argmax(2, keepdim=True), 1.0),
    "lengths limited": lambda x: x.flatten(0, 1).renorm(2, 0, 1.5).view_as(x),
    "spectrum of lines": lambda x: torch.fft.hfft(x[..., :9]),
}
MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "a quarter turn": lambda x: x.rot90(1, (2, 3)) * x,
    "half a turn": lambda x: x.rot90(2, (2, 3)) * x,
    "a quarter turn back": lambda x: x.rot90(-1, (-2, -1)) * x,
    "largest so far": lambda x: x.cummax(2)[0],
    "least so far": lambda x: x.cummin(3)[0],
    "gates and gated in space": lambda x: F.glu(x, 3),
    "windows": lambda x: x.unfold(2, 2, 2).unfold(3, 3, 1).amax((4, 5)),
    "upper triangle": lambda x: x.triu(1) + x.tril() * 2,
    "diagonals": lambda x: x.diagonal(dim1=2, dim2=3)[..., None],
    "spectrum": lambda x: torch.fft.fft2(x).real * x,
    "lengths of a spectrum": lambda x: torch.fft.fft2(x).abs(),
    "filtered in a spectrum": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * torch.arange(5).to(x), s=(8, 8)) * x,
    "phases of a shifted spectrum": lambda x: torch.fft.fftshift(torch.fft.fft2(x), (2, 3)).conj().imag * x,
    "written to rows": lambda x: written(x, [1, 3], 0.5),
    "written to rows from others": lambda x: written(x, [1, 3], x[:, :, [2, 4]] * 2),
    "written to rows by a tensor": lambda x: written(x, ROWS, 0.25),
    "points": lambda x: x[:, :, [1, 2], [3, 4]][..., None],
    "points apart": lambda x: x[:, :, :, None][:, :, [1, 2], :, [3, 4]].movedim(0, -1),
    "rows filled": lambda x: x.index_fill(2, ROWS, 0.5),
    "rows added to": lambda x: x.index_add(2, ROWS, x[:, :, :2]),
    "rows copied": lambda x: x.index_copy(2, ROWS, x[:, :, :2]),
    "the largest alone": largest_alone,
    "folded again": lambda x: F.fold(F.unfold(x, 3), (8, 8), 3),
}

PRUNED: dict[str, Case] = {
    "mean over space": (lambda m, x: m.head(m.a(x).mean(dim=[-1, -2])), 12, SAME),
    "sum over space": (lambda m, x: m.head(m.a(x).sum((2, 3))), 12, SAME),
    "largest over space": (lambda m, x: m.head(m.a(x).amax((2, 3)) + m.a(x).amin((2, 3))), 12, SAME),
    "deviation over space": (lambda m, x: m.head(m.a(x).std((2, 3)) + m.a(x).var((2, 3))), 12, SAME),
    "softmax over space": (
        lambda m, x: m.head((m.a(x) * torch.softmax(m.a(x).flatten(2), -1).view_as(m.a(x))).sum((2, 3))), 12, SAME,
    ),
    "sums along the rows": (lambda m, x: head(m, m.a(x).cumsum(3)), 12, SAME),
    "rolled rows": (lambda m, x: head(m, m.a(x).roll((1, 2), (2, 3)) * m.a(x)), 12, SAME),
    "sorted rows": (lambda m, x: m.head(m.a(x).flatten(2).sort(dim=2)[0][:, :, 3:9].mean(2)), 12, SAME),
    "rows in reverse": (lambda m, x: head(m, m.a(x).flip(2) * m.a(x)), 12, SAME),
    "squeezes": (lambda m, x: m.head(m.a(x).mean(-1, keepdim=True).mean(2).squeeze(-1)), 12, SAME),
    "transposed maps": (lambda m, x: head(m, torch.neg(m.a(x).mT)), 12, SAME),
    "slice in space": (lambda m, x: head(m, m.a(x)[:, :, ::2, 1:]), 12, SAME),
    "slice of lines behind an ellipsis": (lambda m, x: m.head(m.a(x).flatten(2)[..., 1:].mean(2)), 12, SAME),
    "a column": (lambda m, x: m.head(m.a(x)[..., 3].mean(2)), 12, SAME),
    "columns one by one": (lambda m, x: m.head(sum(m.a(x).unbind(3)).mean(2)), 12, SAME),
    "columns by their numbers": (lambda m, x: head(m, m.a(x)[:, :, :, [3, 1, 1]]), 12, SAME),
    "rows by their numbers": (
        lambda m, x: head(m, m.a(x).index_select(2, torch.tensor([0, 5, 5]))), 12, SAME,
    ),
    "concatenation along rows": (lambda m, x: head(m, torch.cat([m.a(x), m.a(x) * 2], 2)), 12, SAME),
    "chunks along rows": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 2), 2)), 12, SAME),
    "stacked": (lambda m, x: m.head(torch.stack([m.a(x), m.a(x) + 1], 1).mean((1, 3, 4))), 12, SAME),
    "images by index": (lambda m, x: head(m, m.a(x)[:1]), 12, SAME),
    "chunks of images": (lambda m, x: head(m, m.a(x).chunk(1)[0]), 12, SAME),
    "images padded": (lambda m, x: head(m, F.pad(m.a(x), (0, 0, 0, 0, 0, 0, 0, 1))), 12, SAME),
    "images repeated": (lambda m, x: head(m, m.a(x).repeat(2, 1, 1, 1)), 12, SAME),
    **{name: (head_of(of_lines(change)), 12, SAME) for name, change in FLAT.items()},
    **{name: (head_of(change), 12, SAME) for name, change in MAPS.items()},
    "pixels of a mask": (
        lambda m, x: m.head(m.a(x).permute(0, 2, 3, 1)[x.mean(1) > 0].mean(0, keepdim=True)), 12, SAME,
    ),
    "places of a mask": (lambda m, x: m.head(m.a(x)[:, :, x[0, 0] > 0].mean(2)), 12, SAME),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    pruned_exactly(run, size, reads)
