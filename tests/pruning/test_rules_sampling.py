"""Pools, pads, resizing: every channel by itself, its positions together."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align, roi_pool

from tests.judge import Reads, filters_of
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.one_operation import ORDER, SAME, Case, pruned_exactly
from tests.pruning.test_groups import head

# image, left, top, right, bottom
BOXES = torch.tensor([[0, 1.0, 2, 6, 7], [1, 0, 0, 4, 5], [1, 3, 3, 7, 8]])

PRUNED: dict[str, Case] = {
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
    "wrapped around": (lambda m, x: head(m, F.pad(m.a(x), (1, 1, 1, 1), "circular")), 12, SAME),
    "bicubic, antialiased": (
        lambda m, x: head(m, F.interpolate(m.a(x), (5, 5), mode="bicubic", antialias=True)), 12, SAME,
    ),
    "lines, nearest, exact": (
        lambda m, x: m.head(F.interpolate(m.a(x).flatten(2), 40, mode="nearest-exact").mean(2)), 12, SAME,
    ),
    "volumes, nearest, exact": (
        lambda m, x: m.head(F.interpolate(m.a(x)[:, :, None], (2, 5, 5), mode="nearest-exact").mean((2, 3, 4))),
        12, SAME,
    ),
    "unpooled": (
        lambda m, x: head(m, F.max_unpool2d(*F.max_pool2d(m.a(x), 2, return_indices=True), (2, 2)) * m.a(x)), 12, SAME,
    ),
    "lines unpooled": (
        lambda m, x: m.head(
            (F.max_unpool1d(*F.max_pool1d(m.a(x).flatten(2), 2, return_indices=True), (2,)) * m.a(x).flatten(2)).mean(2)
        ), 12, SAME,
    ),
    "volumes unpooled": (
        lambda m, x: m.head(
            F.max_unpool3d(*F.max_pool3d(m.a(x)[:, :, None], (1, 2, 2), return_indices=True), (1, 2, 2))
            .square().mean((2, 3, 4))
        ), 12, SAME,
    ),
    "pools of random sizes": (
        lambda m, x: head(m, F.fractional_max_pool2d(m.a(x), 2, output_size=(5, 5), _random_samples=x.new_full(
            (len(x), m.a(x).shape[1], 2), 0.3))), 12, SAME,
    ),
    "pools of volumes of random sizes": (
        lambda m, x: m.head(F.fractional_max_pool3d(
            m.a(x)[:, :, None].expand(-1, -1, 5, -1, -1), 2, output_size=(2, 5, 5),
            _random_samples=x.new_full((len(x), m.a(x).shape[1], 3), 0.3),
        ).mean((2, 3, 4))), 12, SAME,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    pruned_exactly(run, size, reads)
