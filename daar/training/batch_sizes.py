"""How many images each step of an epoch has, and which of them are this process's; wherever images come from."""

import math

from daar.device import distributed
from daar.errors import InputError


class BatchSizes:
    """Sizes of an epoch's batches; no batch has a single image.

    Every image comes once per epoch, but for a single one that would be left for the last batch.

    Args:
        total: images of the train part.
        batch_size: the recipe's, summed over the processes.

    Attributes:
        steps: batches of an epoch.
        count: images of an epoch.
    """

    def __init__(self, total: int, batch_size: int) -> None:
        if total < 2:
            raise InputError(f"training needs two images or more, got {total}. Check the dataset.")
        distributed.require_shares(batch_size)
        self._batch_size = batch_size
        self.steps = math.ceil(total / batch_size)
        if total % batch_size == 1 and self.steps > 1:
            self.steps -= 1  # batch norm cannot be trained on one image; each epoch leaves out another one
        self.count = min(self.steps * batch_size, total)

    def size(self, step: int) -> int:
        """See `Batches`."""
        return min(self._batch_size, self.count - step * self._batch_size)

    def mine(self, step: int) -> tuple[int, int]:
        """This process's images of a step as [first, stop), counted in the order of the epoch."""
        before = step * self._batch_size
        first, last = distributed.share(self.size(step))
        return before + first, before + last
