"""The exponential moving average of a network's weights along a training (Polyak & Juditsky, 1992)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.models.copying import copied


class Average:
    """A network whose weights and BN statistics are the moving average of another's; torch's `AveragedModel`.

    After step t it is d · average + (1 − d) · network, with d = min(decay, t / (9 + t)), so that the first steps are
    forgotten soon; after step 1 it is the network.

    Args:
        model: that is trained; copied.
        decay: of a step, in [0, 1).

    Attributes:
        model: with the averaged weights, for evaluation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def average(averages: Sequence[Tensor], present: Sequence[Tensor], _: Tensor | int) -> None:
            if averages[0].is_floating_point():
                done = int(self._averaged.n_averaged)  # on the CPU, unlike the third argument: a GPU need not wait
                torch._foreach_lerp_(list(averages), list(present), 1 - min(decay, (1 + done) / (10 + done)))
            else:  # BN counts its batches
                torch._foreach_copy_(list(averages), list(present))

        from torch.optim.swa_utils import AveragedModel  # loads torch's compiler, and most recipes do not average

        self._averaged = AveragedModel(copied(model), multi_avg_fn=average, use_buffers=True)
        self.model: nn.Module = self._averaged.module

    def add(self, model: nn.Module) -> None:
        """Take in the network after a step."""
        self._averaged.update_parameters(model)

    def state(self) -> dict[str, Tensor]:
        """All that a resume file needs: the averages and the number of steps."""
        return dict(self._averaged.state_dict())

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._averaged.load_state_dict(state)
