"""Finds a batch size that fits into memory where the recipe's does not."""

import gc
from collections.abc import Callable

import torch

from daar.errors import InputError, is_out_of_memory


def too_large(attempt: Callable[[int], object], size: int, reason: str) -> InputError:
    """The error for a batch that does not fit into memory; names the largest of its halves that fits.

    Args:
        attempt: runs a training step on N images; it may change the network, whose training ends here.
        size: images of the batch that did not fit.
        reason: the allocator's message.
    """
    fits = size // 2
    while fits >= 2 and not _fits(attempt, fits):
        fits //= 2
    told = f"out of memory: a batch of {size} images does not fit ({reason})"
    if fits < 2:
        return InputError(f"{told}, nor does any smaller one. Close other programs that use this memory.")
    return InputError(f"{told}, one of {fits} does. Set batch_size to {fits} or less, and lr in proportion.")


def _fits(attempt: Callable[[int], object], size: int) -> bool:
    _release()
    try:
        attempt(size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def _release() -> None:
    """Free what a failed attempt leaves behind: an exception keeps the tensors of all frames in its traceback."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
