"""Operations one by one: what goes, what stays and why; what is left computes what hooks on the dense network say."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.ops import roi_align, roi_pool

from daar.errors import InputError
from daar.models import get
from daar.program.recording import recorded
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.rules import RULES
from daar.pruning.slim import slim
from tests.judge import Reads, apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_draws import DRAWN_BETWEEN
from tests.pruning.test_draws import network as drawing
from tests.pruning.test_groups import Net, conv, head

WIDTH = 12
IMAGES = (2, 3, 8, 8)


class Excite(nn.Module):
    """Squeeze and excitation as mostly written: linear layers, sizes of the input, expand_as."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(), nn.Linear(3, WIDTH), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.gate(x.mean((2, 3)).view(b, c)).view(b, c, 1, 1).expand_as(x)


class Own(nn.Module):
    """A layer with a parameter of its own and a forward of its own."""

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.run = run
        self.kernel = nn.Parameter(torch.randn(shape) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel)


def swap(halves: Any) -> Tensor:
    return torch.cat([halves[1], halves[0]], 1)


def parts(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 2, C/2, H, W)."""
    return x.view(x.size(0), 2, x.size(1) // 2, x.size(2), x.size(3))


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)


def mixed(m: Any, name: str, x: Tensor, reader: str = "five") -> Tensor:
    """A layer that reads x and makes five channels, and their head."""
    y = getattr(m, name)(x)
    return getattr(m, reader)(y.flatten(2).mean(2))


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


def attended(m: Any, x: Tensor) -> Tensor:
    """Positions attend to each other; values keep their channels."""
    q = x.flatten(2).mT
    y = m.a(x).flatten(2).mT
    return m.head((torch.softmax(q @ q.mT, -1) @ y).mean(1))


def normalised(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def moves(order: Iterable[int], reader: str = "head", times: int = 1) -> Reads:
    return {reader: filters_of("a", list(order), times)}


def mixes(reader: str, made: str = "", width: int = 5) -> Reads:
    """What `mixed` reads."""
    return {reader: SAME["head"], {5: "five", 10: "ten"}[width]: filters_of(made or reader, range(width))}


ORDER = list(range(WIDTH))
# image, left, top, right, bottom
BOXES = torch.tensor([[0, 1.0, 2, 6, 7], [1, 0, 0, 4, 5], [1, 3, 3, 7, 8]])
SAME = moves(ORDER)
SWAPPED = moves([*ORDER[6:], *ORDER[:6]])
SHUFFLED = moves([i + 6 * j for i in range(6) for j in range(2)])
THIRDS = moves([i + 4 * j for i in range(4) for j in range(3)])
FLAT = moves(ORDER, "wide", 64)
NEXT = [*filters_of("a", ORDER), *filters_of("b", range(4))]


def head_of(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return functools.partial(changed, change)


def changed(change: Callable[[Tensor], Tensor], m: Any, x: Tensor) -> Tensor:
    return head(m, change(m.a(x)))


# what is done with the 12 channels of `a`; the size of their group; where they lie in front of what reads them
PRUNED: dict[str, tuple[Callable[..., Any], int, Reads]] = {
    # one position at a time
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
    # over space
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
    "pad in space": (lambda m, x: head(m, F.pad(m.a(x), (1, 0, 2, 1))), 12, SAME),
    "cropped in space": (lambda m, x: head(m, F.pad(m.a(x), (-1, 0, -2, 1))), 12, SAME),
    "reflected in space": (lambda m, x: head(m, F.pad(m.a(x), (1, 1, 1, 1), "reflect")), 12, SAME),
    "repeated in space": (lambda m, x: head(m, F.pad(m.a(x), (1, 1, 1, 1), "replicate")), 12, SAME),
    "lines reflected and repeated": (
        lambda m, x: m.head(F.pad(F.pad(m.a(x).flatten(2), (2, 1), "reflect"), (3, 1), "replicate").mean(2)), 12, SAME,
    ),
    "volumes reflected and repeated": (
        lambda m, x: m.head(F.pad(F.pad(m.a(x)[:, :, None], (2, 1, 1, 1, 0, 0), "reflect"), (3, 1, 0, 0, 0, 0),
                                  "replicate").mean((2, 3, 4))), 12, SAME,
    ),
    "padding by reflection": (
        lambda m, x: head(m, m.reflect(m.a(x))), 12,
        {"reflect": SAME["head"], "head": filters_of("reflect", ORDER)},
    ),
    "input by name": (
        lambda m, x: m.head(input=m.reflect(input=m.a(x)).mean((2, 3))), 12,
        {"reflect": SAME["head"], "head": filters_of("reflect", ORDER)},
    ),
    "upsampling": (lambda m, x: head(m, F.interpolate(m.a(x), scale_factor=2)), 12, SAME),
    "bilinear": (lambda m, x: head(m, F.interpolate(m.a(x), (5, 5), mode="bilinear")), 12, SAME),
    "bicubic": (lambda m, x: head(m, F.interpolate(m.a(x), (5, 5), mode="bicubic")), 12, SAME),
    "bilinear, antialiased": (
        lambda m, x: head(m, F.interpolate(m.a(x), (5, 5), mode="bilinear", antialias=True)), 12, SAME,
    ),
    "nearest, exact": (lambda m, x: head(m, F.interpolate(m.a(x), (5, 5), mode="nearest-exact")), 12, SAME),
    "lines resized": (
        lambda m, x: m.head(F.interpolate(m.a(x).flatten(2), 40, mode="linear").mean(2)), 12, SAME,
    ),
    "lines resized to the nearest": (lambda m, x: m.head(F.interpolate(m.a(x).flatten(2), 40).mean(2)), 12, SAME),
    "volumes resized": (
        lambda m, x: m.head(F.interpolate(m.a(x)[:, :, None], (2, 5, 5), mode="trilinear").mean((2, 3, 4))), 12, SAME,
    ),
    "volumes resized to the nearest": (
        lambda m, x: m.head(F.interpolate(m.a(x)[:, :, None], (2, 5, 5)).mean((2, 3, 4))), 12, SAME,
    ),
    "sampled by a grid": (
        lambda m, x: head(m, F.grid_sample(m.a(x), F.affine_grid(m.theta.expand(len(x), 2, 3), x.shape, False),
                                           align_corners=False)), 12, SAME,
    ),
    "volumes sampled by a grid": (
        lambda m, x: m.head(F.grid_sample(m.a(x)[:, :, None], x.flatten(1)[:, :96].view(-1, 1, 4, 8, 3),
                                          align_corners=False).mean((2, 3, 4))), 12, SAME,
    ),
    "regions": (
        lambda m, x: m.head((roi_align(m.a(x), BOXES.to(x), 3) + roi_pool(m.a(x), BOXES.to(x), 3)).mean((2, 3))),
        12, SAME,
    ),
    "pools": (lambda m, x: head(m, F.avg_pool2d(F.max_pool2d(m.a(x), 3, 2, 1), 2)), 12, SAME),
    "pools to a size": (lambda m, x: head(m, F.adaptive_avg_pool2d(F.adaptive_max_pool2d(m.a(x), 4), 3)), 12, SAME),
    "pools of lines": (lambda m, x: m.head(F.avg_pool1d(F.max_pool1d(m.a(x).flatten(2), 2), 2).mean(2)), 12, SAME),
    "pools of lines to a size": (
        lambda m, x: m.head(F.adaptive_max_pool1d(F.adaptive_avg_pool1d(m.a(x).flatten(2), 9), 4).mean(2)), 12, SAME,
    ),
    "pools of volumes": (
        lambda m, x: m.head(F.avg_pool3d(F.max_pool3d(m.a(x)[:, :, None], (1, 2, 2)), (1, 2, 2)).mean((2, 3, 4))),
        12, SAME,
    ),
    "pools of volumes to a size": (
        lambda m, x: m.head(F.adaptive_avg_pool3d(F.adaptive_max_pool3d(m.a(x)[:, :, None], (1, 4, 4)), (1, 3, 3))
                            .mean((2, 3, 4))), 12, SAME,
    ),
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
    # images
    "images by index": (lambda m, x: head(m, m.a(x)[:1]), 12, SAME),
    "chunks of images": (lambda m, x: head(m, m.a(x).chunk(1)[0]), 12, SAME),
    "images padded": (lambda m, x: head(m, F.pad(m.a(x), (0, 0, 0, 0, 0, 0, 0, 1))), 12, SAME),
    "images repeated": (lambda m, x: head(m, m.a(x).repeat(2, 1, 1, 1)), 12, SAME),
    # where channels lie
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
    # layers and norms
    "excitation with linear layers": (
        lambda m, x: head(m, m.excite(m.a(x))), 12, {**SAME, "excite.gate.0": SAME["head"]},
    ),
    "group norm, group by group": (lambda m, x: head(m, m.group(m.a(x))), 4, SAME),
    "instance norm": (lambda m, x: head(m, m.instance(m.a(x))), 12, SAME),
    "norm over space": (lambda m, x: head(m, F.layer_norm(m.a(x), (8, 8)).relu()), 12, SAME),
    "length over channels": (lambda m, x: head(m, m.unit(m.a(x))), 12, {**SAME, "unit": SAME["head"]}),
    "sum over channels": (lambda m, x: head(m, m.a(x) * m.total(m.a(x))), 12, {**SAME, "total": SAME["head"]}),
    "line": (lambda m, x: mixed(m, "line", m.a(x).flatten(2)), 12, mixes("line")),
    "volume": (lambda m, x: mixed(m, "volume", m.a(x).unsqueeze(2)), 12, mixes("volume")),
    "transposed": (lambda m, x: mixed(m, "back", m.a(x)), 12, mixes("back")),
    "transposed, in groups": (lambda m, x: mixed(m, "halved", m.a(x), "ten"), 6, mixes("halved", width=10)),
    "transposed, depthwise": (lambda m, x: head(m, m.spread(m.a(x))), 12, SAME),
    "depthwise": (lambda m, x: head(m, m.deep(m.a(x))), 12, SAME),
    "standardised weights": (lambda m, x: mixed(m, "standard", m.a(x)), 12, mixes("standard")),
    "a conv by its function": (lambda m, x: mixed(m, "function", m.a(x)), 12, mixes("function", "function.kernel")),
    "a conv as traced code calls it": (lambda m, x: mixed(m, "traced", m.a(x)), 12, mixes("traced", "traced.kernel")),
    "a product by its letters": (lambda m, x: mixed(m, "letters", m.a(x)), 12, moves(ORDER, "letters")),
    "a product by @": (
        lambda m, x: m.five(m.matrix(m.a(x).flatten(2)).mean(1)), 12, moves(ORDER, "matrix"),
    ),
    "values of attention": (attended, 12, SAME),
    "a kernel made of channels": (
        head_of(lambda x: F.conv2d(x, x[0].unsqueeze(1), padding=4, groups=x.shape[1])), 12, SAME,
    ),
    "gate of one channel": (lambda m, x: head(m, m.a(x) * m.single(x)), 12, SAME),
    "gate of one channel expanded": (lambda m, x: head(m, m.a(x) * m.single(x).expand_as(m.a(x))), 12, SAME),
}  # fmt: skip


def network(run: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(0)
    convs = {"a": conv(3, WIDTH), "b": conv(3, 4), "c": conv(3, 4), "single": conv(3, 1)}
    heads = {
        "head": WIDTH,
        "wide": WIDTH * 64,
        "third": 3,
        "sixteen": 16,
        "five": 5,
        "ten": 10,
        "twofold": 24,
        "fourfold": 48,
    }
    layers: dict[str, nn.Module] = {
        **convs,
        **{name: nn.Linear(width, 2) for name, width in {**heads, "ninefold": 108}.items()},
        **{"norm": nn.BatchNorm2d(WIDTH), "act": nn.ReLU(inplace=True), "pool": nn.AdaptiveMaxPool2d(1)},
        **{"flat": nn.Flatten(), "drop": nn.Dropout2d(0.5), "shuffle": nn.ChannelShuffle(3), "excite": Excite()},
        **{"slopes": nn.PReLU(WIDTH), "slope": nn.PReLU(), "instance": nn.InstanceNorm2d(WIDTH, affine=True)},
        **{"reflect": conv(WIDTH, WIDTH, padding_mode="reflect"), "group": nn.GroupNorm(4, WIDTH)},
        **{"line": nn.Conv1d(WIDTH, 5, 3), "volume": nn.Conv3d(WIDTH, 5, (1, 3, 3))},
        **{"back": nn.ConvTranspose2d(WIDTH, 5, 2, 2), "halved": nn.ConvTranspose2d(WIDTH, 10, 2, 2, groups=2)},
        **{"spread": nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2, groups=WIDTH), "deep": conv(WIDTH, WIDTH, groups=WIDTH)},
        "standard": Own(lambda x, w: F.conv2d(x, w / (w.std((2, 3), keepdim=True) + 1)), 5, WIDTH, 3, 3),
        "function": Own(lambda x, w: F.conv2d(x, w, padding=1), 5, WIDTH, 3, 3),
        "traced": Own(
            lambda x, w: torch._convolution(
                x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True
            ),
            *(5, WIDTH, 3, 3),
        ),
        "letters": Own(lambda x, w: torch.einsum("nchw,oc->nohw", x, w), 5, WIDTH),
        "matrix": Own(lambda x, w: x.mT @ w, WIDTH, 5),
        "unit": Own(lambda x, w: F.normalize(x, dim=1) * w, 1),
        "total": Own(lambda x, w: x.sum(1, keepdim=True) * w, 1),
        **{"layer_norm": nn.LayerNorm([WIDTH, 8, 8]), "softmax": nn.Softmax2d(), "rows": nn.Linear(8, 8)},
        "twelve": nn.Linear(WIDTH, WIDTH),
    }
    net = Net(run, **layers)
    shapes = {"four": (1, WIDTH, 1, 1), "three": (WIDTH, 1, 1), "one": (WIDTH,), "gamma": (1,), "theta": (1, 2, 3)}
    for name, shape in shapes.items():
        net.register_parameter(name, nn.Parameter(torch.rand(shape)))
    with torch.no_grad():
        layers["slopes"].get_parameter("weight").uniform_(-1, 1)
        for norm in ("group", "instance"):
            layers[norm].get_parameter("weight").uniform_(0.5, 2)
            layers[norm].get_parameter("bias").uniform_(-1, 1)
    net = enliven(net)
    with torch.no_grad():
        net(torch.randn(IMAGES))
    return net


def group_of(graph: ChannelGraph, conv_name: str) -> Any:
    [group] = [group for group in graph.groups if conv_name in group.members]
    return group


def check(net: nn.Module, graph: ChannelGraph, reads: Reads, seeds: int = 3) -> None:
    """Slim against the product's masked network, and against hooks on the dense one."""
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(1))
    for seed in range(seeds):
        removed = drawn(graph, seed)
        thin = slim(net, graph, removed)
        assert slim_error(net, thin, graph, removed, images) <= 1e-10
        assert apart(outputs(thin, images), masked(net, images, filters_gone(graph, removed), reads)) <= 1e-10
        assert removed[group_of(graph, "a").name]
        assert apart(outputs(thin, images), outputs(net, images)) > 1e-6, "what was removed made no difference"


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert (group.size, group.frozen, group.fixed) == (size, None, {})
    check(net, graph, reads)


TOGETHER = "channels are taken together"
NORM = "channels are taken together by a norm"
NUMBERS = "channels are taken by their numbers"
COUNTED = "channels are of a product whose other channels are counted"
WRITTEN = "a number of channels is written in the code"
RELIES = "relies on a number of channels"

# what keeps all 12 channels of `a`: why, and the operation; in front of a module's name "in"
KEPT: dict[str, tuple[Callable[..., Any], str, str]] = {
    "sums over channels one by one": (head_of(lambda x: torch.cumsum(x, 1)), TOGETHER, "cumsum"),
    "products": (head_of(lambda x: torch.cumprod(x, 1)), TOGETHER, "cumprod"),
    "sums of exponents": (head_of(lambda x: torch.logcumsumexp(x, 1)), TOGETHER, "logcumsumexp"),
    "softmax over channels": (head_of(lambda x: torch.softmax(x, 1)), TOGETHER, "_softmax"),
    "log of a softmax": (head_of(lambda x: torch.log_softmax(x, 1)), TOGETHER, "_log_softmax"),
    "softmax layer": (lambda m, x: head(m, m.softmax(m.a(x))), TOGETHER, "_softmax in softmax"),
    "sorted channels": (head_of(lambda x: x.sort(1)[0]), TOGETHER, "sort"),
    "rolled channels": (head_of(lambda x: x.roll(1, 1)), TOGETHER, "roll"),
    "mean over channels": (head_of(lambda x: x * x.mean([1], keepdim=True)), TOGETHER, "mean"),
    "mean over all": (head_of(lambda x: x * x.mean()), TOGETHER, "mean"),
    "mean over channels and rows": (head_of(lambda x: x * x.mean((1, 2), keepdim=True)), TOGETHER, "mean"),
    "mean of what is flat": (
        lambda m, x: m.head(m.a(x).mean((2, 3)) * m.a(x).mean((2, 3)).mean([-1], keepdim=True)), TOGETHER, "mean",
    ),
    "largest channel": (head_of(lambda x: x * x.amax(1, keepdim=True)), TOGETHER, "amax"),
    "smallest channel": (head_of(lambda x: x * x.amin(1, keepdim=True)), TOGETHER, "amin"),
    "largest, and which": (head_of(lambda x: x * x.max(1, keepdim=True)[0]), TOGETHER, "max"),
    "smallest, and which": (head_of(lambda x: x * x.min(1, keepdim=True)[0]), TOGETHER, "min"),
    "which is largest": (head_of(lambda x: x * x.argmax(1, keepdim=True)), TOGETHER, "argmax"),
    "which is smallest": (head_of(lambda x: x * x.argmin(1, keepdim=True)), TOGETHER, "argmin"),
    "product of all": (head_of(lambda x: x + x.prod(1, keepdim=True)), TOGETHER, "prod"),
    "any of them": (head_of(lambda x: x * (x > 0).any(1, keepdim=True)), TOGETHER, "any"),
    "all of them": (head_of(lambda x: x * (x > -1).all(1, keepdim=True)), TOGETHER, "all"),
    "middle one": (head_of(lambda x: x * x.median(1, keepdim=True)[0]), TOGETHER, "median"),
    "variance": (head_of(lambda x: x * x.var(1, keepdim=True)), TOGETHER, "var"),
    "deviation": (head_of(lambda x: x * x.std(1, keepdim=True)), TOGETHER, "std"),
    "mean and variance": (head_of(lambda x: x * torch.var_mean(x, 1, keepdim=True)[1]), TOGETHER, "var_mean"),
    "mean and deviation": (head_of(lambda x: x * torch.std_mean(x, 1, keepdim=True)[1]), TOGETHER, "std_mean"),
    "log of a sum": (head_of(lambda x: x * x.logsumexp(1, keepdim=True)), TOGETHER, "logsumexp"),
    "largest length": (
        head_of(lambda x: x * torch.linalg.vector_norm(x, ord=float("inf"), dim=1, keepdim=True)),
        TOGETHER, "linalg_vector_norm",
    ),
    "layer norm": (lambda m, x: head(m, m.layer_norm(m.a(x))), NORM, "native_layer_norm in layer_norm"),
    "scale by what is unknown": (
        lambda m, x: m.head(m.a(x).mean((2, 3)) * torch.cumsum(x.flatten(1)[:, :12], 1)),
        "channels meet what has none", "mul",
    ),
    "linear along rows": (
        lambda m, x: head(m, m.rows(m.a(x))), COUNTED, "addmm in rows",
    ),
    "channels with channels": (
        lambda m, x: m.head((m.a(x).flatten(2) @ m.a(x).flatten(2).mT).mean(2)),
        COUNTED, "bmm",
    ),
    "products of batches, added to": (
        lambda m, x: m.head(torch.baddbmm(m.a(x).flatten(2), m.a(x).flatten(2), torch.eye(64, dtype=x.dtype)
                                          .expand(len(x), 64, 64)).mean(2)),
        COUNTED, "baddbmm",
    ),
    "attention between positions": (
        lambda m, x: m.head(
            F.scaled_dot_product_attention(*[m.a(x).flatten(2).mT[:, None].contiguous()] * 3).mean((1, 2))
        ),
        "attention is scaled by its width", "_scaled_dot_product_flash_attention_for_cpu",
    ),
    "attention, not fused": (
        lambda m, x: m.head(F.scaled_dot_product_attention(*[m.a(x).flatten(2).mT] * 3).mean(1)),
        f"{RELIES} (its values differ)", "mul",
    ),
    "constant of the code": (head_of(lambda x: x + torch.ones(1, 12, 1, 1, dtype=x.dtype)), WRITTEN, "ones"),
    "flatten of written size": (lambda m, x: m.wide(m.a(x).view(-1, 768)), RELIES, "view"),
    "view across channels": (head_of(lambda x: x.view(-1, 24, 4, 8).view(-1, 12, 8, 8)), RELIES, "view"),
    "expanded to a written size": (
        lambda m, x: head(m, m.a(x) + m.single(x).expand(-1, 12, -1, -1)), RELIES, "add",
    ),
    "gates and gated": (head_of(lambda x: torch.cat([F.glu(x, 1), x[:, x.shape[1] // 2 :]], 1)), TOGETHER, "glu"),
    "split at written places": (head_of(lambda x: torch.cat(x.split([5, 7], 1)[::-1], 1)), RELIES, "split_with_sizes"),
    "written slice": (lambda m, x: m.sixteen(torch.cat([m.a(x)[:, 1:9], m.a(x)[:, 4:]], 1).mean((2, 3))), WRITTEN,
                      "slice"),
    "slice from behind": (head_of(lambda x: torch.cat([x[:, -2:], x[:, :10]], 1)), WRITTEN, "slice"),
    "slice with a step": (lambda m, x: head(m, torch.cat([m.a(x)[:, ::3], m.b(x), m.c(x)], 1)), WRITTEN, "slice"),
    "shuffle of written size": (
        head_of(lambda x: x.view(-1, 3, 4, 8, 8).transpose(1, 2).reshape(-1, 12, 8, 8)), WRITTEN, "view",
    ),
    "a channel by its number": (head_of(lambda x: x * x[:, 3][:, None]), "a channel is taken by its number", "select"),
    "channels one by one": (head_of(lambda x: torch.stack(x.unbind(1)[::-1], 1)), "channels are taken one by one",
                            "unbind"),
    "channels by a list": (head_of(lambda x: x[:, [*range(11, -1, -1)]]), NUMBERS, "index"),
    "channels by a tensor": (head_of(lambda x: x.index_select(1, torch.arange(12).flip(0))), NUMBERS, "index_select"),
    "channels cropped and padded": (
        head_of(lambda x: F.pad(x, (0, 0, 0, 0, -1, 1))), "leads to addmm in head", "constant_pad_nd",
    ),
    "the largest few": (head_of(lambda x: torch.cat(x.topk(6, 1)[:1] * 2, 1)), "read by an unknown operation", "topk"),
}  # fmt: skip


@pytest.mark.parametrize(("run", "why", "operation"), KEPT.values(), ids=KEPT)
def test_what_stays_whole_is_named_with_its_place(run: Callable[..., Any], why: str, operation: str) -> None:
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert group.size >= 3, "with so few, none could go even if all were free"
    assert group.frozen is not None
    assert group.frozen.startswith(why), group.frozen
    [(named, line)] = re.findall(rf": ([^:]*) \({re.escape(__file__)}:(\d+)\)$", group.frozen)
    code = (run.args[0] if isinstance(run, functools.partial) else run).__code__
    assert (named, int(line) - code.co_firstlineno) in [(operation, below) for below in range(3)], group.frozen
    assert "a" not in graph.scored_layers()


FIXED: dict[str, tuple[Callable[..., Any], list[int], Reads, str]] = {
    "pad of channels": (
        lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 3, 5)) + m.a(x)), [*range(3), *range(7, 12)], SAME,
        "padded by a written number of channels: constant_pad_nd",
    ),
    "pad of channels behind": (
        lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 0, 8)) + m.a(x)), [*range(4, 12)], SAME,
        "padded by a written number of channels: constant_pad_nd",
    ),
    "zeros next to channels": (
        lambda m, x: head(m, torch.cat([m.c(x), torch.zeros(len(x), 8, 8, 8, dtype=x.dtype)], 1) + m.a(x)),
        [*range(4, 12)], SAME, f"{WRITTEN}: zeros",
    ),
    "added to images": (
        lambda m, x: head(m, torch.cat([x, m.b(x), m.c(x), m.single(x)], 1) + m.a(x)), [0, 1, 2, 11], SAME,
        "network input",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "stay", "reads", "why"), FIXED.values(), ids=FIXED)
def test_some_channels_stay_and_the_others_go(run: Callable[..., Any], stay: list[int], reads: Reads, why: str) -> None:
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert group.frozen is None
    assert [i for i, index in enumerate(group.positions["a"].tolist()) if index in group.fixed] == stay
    assert any(reason.startswith(why) for reason in group.fixed.values()), group.fixed
    check(net, graph, reads)


def test_channels_that_go_only_all_together_stay_and_are_said_to() -> None:
    net = network(head_of(lambda x: F.group_norm(x, 1)))
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert (group.size, group.min_kept) == (1, 1)
    assert drawn(graph, 0)["a"] == []


def test_a_plan_keeps_what_is_fixed() -> None:
    net = network(FIXED["pad of channels"][0])
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    groups = (PlannedGroup(group.name, 12, tuple(sorted({*range(12)} - {min(group.fixed)}))),)
    with pytest.raises(InputError, match=r"which must stay: padded by a written number of channels"):
        Plan("m", "p", "all", None, 2, 1, groups, {}).removed(graph)


class Written(nn.Module):
    """akamaster's option A: pads by so many channels as an attribute says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.planes = channels

    def forward(self, x: Tensor) -> Tensor:
        ends = self.planes // 4
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, ends, ends), "constant", 0)


def test_option_a_as_it_is_mostly_written_is_pruned() -> None:
    model = get("resnet20").build(10)
    for stage, channels in (("layer2", 32), ("layer3", 64)):
        setattr(model.get_submodule(f"{stage}.0"), "shortcut", Written(channels))  # noqa: B010  # mypy: no attribute
    enliven(model)
    images = torch.randn(2, 3, 32, 32)
    graph = proven_graph(model, images)
    [stream] = [group for group in graph.groups if group.joins]
    assert (stream.size, len(stream.fixed), stream.min_kept) == (64, 48, 50)
    removed = {group.name: list(range(2)) for group in graph.in_scope("inner")}
    removed[stream.name] = [index for index in range(64) if index not in stream.fixed][3:9]
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, images) <= 1e-10
    assert thin.get_submodule("conv1").out_channels == 10


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("old", [False, True], ids=["parametrized", "by hooks"])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_weights_that_are_computed_keep_what_is_taken_together_and_name_it(kind: str, old: bool) -> None:
    """The norm of a filter is over all that it reads, so `a` stays; the filters of `b` go with their lengths."""
    net = Net(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 8), head=nn.Linear(8, 2))
    norm = getattr(nn.utils if old else parametrizations, kind)
    norm(net.get_submodule("b"))
    enliven(net)
    images = torch.randn(IMAGES)
    with torch.no_grad():
        net(images)
    graph = proven_graph(net, images)
    frozen = {group.name: group.frozen for group in graph.groups}
    [a] = [why for name, why in frozen.items() if name == "a"]
    assert a is not None
    assert " in b" in a
    [b] = [group for group in graph.groups if group.name != "a"]
    if kind == "weight_norm":
        assert b.frozen is None
        removed = {b.name: [0, 5, 6]}
        thin = slim(net, graph, removed)
        assert slim_error(net, thin, graph, removed, images) <= 1e-10
        assert (
            apart(outputs(thin, images), masked(net, images, {"b": [0, 5, 6]}, {"head": filters_of("b", range(8))}))
            <= 1e-10
        )
    else:
        assert b.frozen is not None


def composite(function: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"))


def overloads(name: str) -> list[Any]:
    """Overloads of an operation and of its form in place, but for those that write into what is given."""
    packets = [
        getattr(space, f"{name}{end}", None) for space in (torch.ops.aten, torch.ops.torchvision) for end in ("", "_")
    ]
    every = [getattr(packet, overload) for packet in packets if packet is not None for overload in packet.overloads()]
    kept = []
    for function in every:
        try:
            composite(function)
        except RuntimeError:  # torch lists it, but TorchScript alone has it
            continue
        if not any(argument.is_out for argument in function._schema.arguments):
            kept.append(function)
    return kept


# run on CUDA alone, or by older versions of torch
ELSEWHERE = {
    *("cudnn_batch_norm", "_scaled_dot_product_flash_attention", "_batch_norm_no_update", "_reshape_alias"),
}
# what dropout runs on GPUs, or where gradients are taken
ON_GPUS = {"native_dropout"}


def test_no_rule_is_for_what_torch_always_decomposes_or_does_not_have() -> None:
    dead = {name for name in RULES if all(map(composite, overloads(name)))}
    assert dead - ELSEWHERE == set()


def normed_sideways() -> nn.Module:
    """Lengths of a transposed conv's filters, whose dimension is the second."""
    torch.manual_seed(0)
    layers = {"a": conv(3, WIDTH), "back": nn.ConvTranspose2d(WIDTH, 5, 2, 2), "five": nn.Linear(5, 2)}
    net = Net(lambda m, x: mixed(m, "back", m.a(x)), **layers)
    parametrizations.weight_norm(layers["back"], dim=1)
    return enliven(net)


def test_lengths_over_the_other_dimension() -> None:
    net = normed_sideways()
    graph = proven_graph(net, torch.randn(IMAGES))
    assert {group.name: bool(group.frozen) for group in graph.groups} == {"a": True, "back": False}
    removed = {"back": [0, 3]}
    thin, images = slim(net, graph, removed), torch.randn(IMAGES)
    assert slim_error(net, thin, graph, removed, images) <= 1e-10
    assert apart(outputs(thin, images), masked(net, images, removed, {"five": filters_of("back", range(5))})) <= 1e-10


def test_every_rule_is_met_by_a_network_here() -> None:
    """Each of which is pruned exactly, or kept with a reason, by the tests above."""
    networks = [network(case[0]) for cases in (PRUNED, KEPT, FIXED) for case in cases.values()]
    networks += [drawing(draw) for draw in DRAWN_BETWEEN.values()]
    normed = Net(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 8), head=nn.Linear(8, 2))
    parametrizations.weight_norm(normed.get_submodule("b"))
    programs = [recorded(net, torch.randn(IMAGES)) for net in (*networks, normed, normed_sideways())]
    names = {operation.name for program in programs for operation in program.operations}
    met = names | {name[:-1] for name in names if name.endswith("_")}
    assert set(RULES) - met == ELSEWHERE | ON_GPUS
