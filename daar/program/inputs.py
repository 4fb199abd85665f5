"""What a network is called with: one tensor of images, several as a tuple, or named ones as a dict."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.program.draws import seeded
from daar.program.outputs import tensors

# a tensor (N, …), or a tuple, list or dict of them with the same N, nested at will
Images = Any


def call(model: nn.Module, images: Images) -> Any:
    """Run a network on a copy of images: a tuple or list is its positional arguments, a dict its keyword arguments."""
    return call_on_own(model, usable(images))


def call_on_own(model: nn.Module, images: Images) -> Any:
    """As `call`, on images that are a copy already, which the network may change in place."""
    args, kwargs = arguments(images)
    return model(*args, **kwargs)


def arguments(images: Images) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a call."""
    if isinstance(images, Mapping):
        return (), dict(images)
    return (tuple(images), {}) if isinstance(images, (list, tuple)) else ((images,), {})


def usable(images: Images) -> Images:
    """A copy, for networks that change their images in place; without tensors of inference mode."""
    return each(images, Tensor.clone)


def count(images: Images) -> int:
    """How many images there are."""
    return len(next(tensors(images)))


def each(images: Images, change: Callable[[Tensor], Tensor]) -> Images:
    """The same structure with each tensor changed."""
    if isinstance(images, Tensor):
        return change(images)
    if isinstance(images, Mapping):
        return {name: each(part, change) for name, part in images.items()}
    if isinstance(images, (list, tuple)):
        parts = [each(part, change) for part in images]
        return type(images)(*parts) if hasattr(images, "_fields") else type(images)(parts)
    return images


def first(images: Images, number: int) -> Images:
    """The first images; where there are fewer, the first ones again."""
    index = torch.arange(number) % count(images)
    return each(images, lambda part: part[index.to(part.device)])


def fewest(model: nn.Module, images: Images) -> Images:
    """As few of the images as the network runs on, two or more: some want multiples of a number of views or frames."""
    for number in (2, 4, 8, 16, 32):
        some = first(images, number)
        if number >= count(images) > 2:
            break
        try:
            with seeded(), evaluating(model):
                call(model, some)
        except Exception:  # whatever the network's own code raises; where none runs, the caller says it
            continue
        return some
    return images if count(images) > 1 else first(images, 2)


def split(images: Images, size: int) -> Iterator[Images]:
    """Batches of `size` images; the last may be smaller."""
    for start in range(0, count(images), size):
        yield each(images, lambda part: part[start : start + size])  # noqa: B023  # used before the next turn


def moved(images: Images, like: Tensor) -> Images:
    """On the device of a tensor; those that are floating-point numbers of its type too, of a complex one's parts."""
    kind = like.dtype.to_real() if like.is_complex() else like.dtype
    return each(images, lambda part: part.to(like.device, kind if part.is_floating_point() else part.dtype))
