"""Which images a step has, whatever they come from."""

import math

from daar.device import distributed
from daar.errors import InputError


class Steady:
    """What batches of every kind have in common: a size, and no single image left over.

    Every image comes once an epoch; a single one that would be left over is left out.

    Args:
        total: images of the train part.
        batch_size: of the recipe; of all processes.
    """

    def __init__(self, total: int, batch_size: int) -> None:
        if total < 2:
            raise InputError(f"training needs two images or more, got {total}. Check the dataset.")
        distributed.require_shares(batch_size)
        self._batch_size = batch_size
        self.steps = math.ceil(total / batch_size)
        if total % batch_size == 1 and self.steps > 1:
            self.steps -= 1  # batch norm cannot be trained on a single image; another one is left out each epoch
        self.count = min(self.steps * batch_size, total)

    def size(self, step: int) -> int:
        """See `Batches`."""
        return min(self._batch_size, self.count - step * self._batch_size)

    def mine(self, step: int) -> tuple[int, int]:
        """This process's images of a step, first and behind the last in the order of the epoch."""
        before = step * self._batch_size
        first, last = distributed.share(self.size(step))
        return before + first, before + last
