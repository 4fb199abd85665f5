"""Operations that move channels: where they come to lie, and which of them go only together."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.judge import Reads, filters_of
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.one_operation import ORDER, SAME, Case, head_of, moves, pruned_exactly
from tests.pruning.test_groups import head


def swap(halves: Any) -> Tensor:
    return torch.cat([halves[1], halves[0]], 1)


def parts(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 2, C/2, H, W)."""
    return x.view(x.size(0), 2, x.size(1) // 2, x.size(2), x.size(3))


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)


def in_place(m: Any, x: Tensor) -> Tensor:
    """Halves written into a buffer of zeros."""
    y = m.a(x)
    made = torch.zeros_like(y)
    made[:, : y.shape[1] // 2] = y[:, : y.shape[1] // 2] * 2
    made[:, y.shape[1] // 2 :] += y[:, y.shape[1] // 2 :]
    return head(m, made)


def new_buffer(m: Any, x: Tensor) -> Tensor:
    """Both convs' maps written next to each other into a new tensor, as wide as they are."""
    y, z = m.a(x), m.b(x)
    made = y.new_zeros(y.shape[0], y.shape[1] + z.shape[1], *y.shape[2:])
    made[:, : y.shape[1]] = y
    made[:, y.shape[1] :] = z
    return m.sixteen(made.mean((2, 3)))


SWAPPED = moves([*ORDER[6:], *ORDER[:6]])
SHUFFLED = moves([i + 6 * j for i in range(6) for j in range(2)])
THIRDS = moves([i + 4 * j for i in range(4) for j in range(3)])
FLAT = moves(ORDER, "wide", 64)
NEXT = [*filters_of("a", ORDER), *filters_of("b", range(4))]

PRUNED: dict[str, Case] = {
    "channels twice": (
        lambda m, x: m.twofold(m.a(x).repeat(1, 2, 1, 1).mean((2, 3))), 12,
        {"twofold": filters_of("a", [*ORDER, *ORDER])},
    ),
    "channels in reverse": (lambda m, x: head(m, m.a(x).flip(1)), 12, moves(ORDER[::-1])),
    "channels last": (lambda m, x: m.head(m.a(x).permute(0, 2, 3, 1).mean((1, 2))), 12, SAME),
    "a dimension before the channels": (lambda m, x: head(m, m.a(x)[:, None].squeeze(1)), 12, SAME),
    "slice of all": (lambda m, x: head(m, m.a(x)[:]), 12, SAME),
    "all by a number that is larger": (lambda m, x: head(m, m.a(x)[:, :99]), 12, SAME),
    "next to others": (lambda m, x: m.sixteen(torch.cat([m.a(x), m.b(x)], 1).mean((2, 3))), 12, {"sixteen": NEXT}),
    "next to others, and apart again": (
        lambda m, x: head(m, torch.cat([m.a(x), m.b(x)], 1)[:, : m.a(x).shape[1]]), 12, SAME,
    ),
    "written side by side": (new_buffer, 12, {"sixteen": NEXT}),
    "halves written into zeros": (in_place, 6, SAME),
    "chunk": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 1), 1)), 6, SAME),
    "chunk as a list": (lambda m, x: head(m, torch.cat([*list(m.a(x).chunk(3, 1))], 1)), 4, SAME),
    "chunks by a slice": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 1)[0:2], 1)), 6, SAME),
    "halves of a chunk apart": (lambda m, x: head(m, swap(m.a(x).chunk(2, dim=1))), 6, SWAPPED),
    "concatenation counted from behind": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 1), -3)), 6, SAME),
    "activation of parts": (lambda m, x: head(m, torch.relu(parts(m.a(x))).flatten(1, 2)), 6, SAME),
    "shuffle by views": (lambda m, x: head(m, shuffle(m.a(x))), 6, SHUFFLED),
    "shuffle by permute": (
        lambda m, x: head(m, m.a(x).view(-1, 2, m.a(x).shape[1] // 2, 8, 8).permute(0, 2, 1, 3, 4).flatten(1, 2)),
        6, SHUFFLED,
    ),
    "shuffle with rows and columns swapped": (
        lambda m, x: head(m, parts(m.a(x)).permute(0, 2, 1, 4, 3).flatten(1, 2)), 6, SHUFFLED,
    ),
    "shuffle function": (lambda m, x: head(m, F.channel_shuffle(m.a(x), 3)), 4, THIRDS),
    "shuffle layer": (lambda m, x: head(m, m.shuffle(m.a(x))), 4, THIRDS),
    "flatten": (lambda m, x: m.wide(torch.flatten(m.a(x), 1)), 12, FLAT),
    "flatten of computed size": (lambda m, x: m.wide(m.a(x).reshape(x.size(0), -1)), 12, FLAT),
    "flatten by sizes by name": (lambda m, x: m.wide(torch.reshape(m.a(x), shape=(x.size(0), -1))), 12, FLAT),
    "flatten of what is channels last": (
        lambda m, x: m.wide(m.a(x).permute(0, 2, 3, 1).flatten(1)), 12, {"wide": filters_of("a", ORDER * 64)},
    ),
    "flat twice": (lambda m, x: m.head(m.a(x).mean((2, 3)).flatten(1)), 12, SAME),
    "indexed by None": (lambda m, x: head(m, m.a(x) * m.a(x).mean((2, 3))[:, :, None, None]), 12, SAME),
    "pixel shuffle": (lambda m, x: m.third(F.pixel_shuffle(m.a(x), 2).mean((2, 3))), 3, moves([0, 4, 8], "third")),
    "pixel unshuffle": (
        lambda m, x: m.fourfold(F.pixel_unshuffle(m.a(x), 2).mean((2, 3))), 12, moves(ORDER, "fourfold", 4),
    ),
    "unfolded": (lambda m, x: m.ninefold(F.unfold(m.a(x), 3).mean(2)), 12, moves(ORDER, "ninefold", 9)),
    "shuffle, as on phones": (lambda m, x: head(m, torch.native_channel_shuffle(m.a(x), 3)), 4, THIRDS),
    "chunk, not safe": (lambda m, x: head(m, torch.cat(m.a(x).unsafe_chunk(2, 1), 1)), 6, SAME),
    "folded": (lambda m, x: m.third(F.fold(m.a(x).flatten(2), (9, 9), 2).mean((2, 3))), 3, moves([0, 4, 8], "third")),
    "a quarter turn of channels and rows": (
        lambda m, x: m.head(m.a(x).rot90(1, (1, 2)).mean((1, 3))), 12, moves(ORDER),
    ),
    "half a turn of channels and rows": (lambda m, x: head(m, m.a(x).rot90(2, (1, 2))), 12, moves(ORDER[::-1])),
    "pairs of channels as complex numbers": (
        head_of(lambda x: torch.view_as_complex(x.flatten(2).mT.reshape(len(x), 64, -1, 2).contiguous()).abs()
                .repeat(1, 1, 2).mT[..., None]), 6, moves([*range(0, 12, 2)] * 2),
    ),
    "gates and gated": (lambda m, x: m.six(F.glu(m.a(x), 1).mean((2, 3))), 6, moves(range(6), "six")),
    "gates and gated, and gates": (
        head_of(lambda x: torch.cat([F.glu(x, 1), x[:, x.shape[1] // 2 :]], 1)), 6, SAME,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    pruned_exactly(run, size, reads)
