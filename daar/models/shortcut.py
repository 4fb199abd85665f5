"""The parameter-free shortcut of He et al. 2016 (option A), as a module that can be pruned exactly."""

import torch
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """Subsample in space and copy input channels into a wider, otherwise zero, output.

    The copy is an explicit index map, because pruning changes it: the dense shortcut copies channel i to i + pad, and a
    channel that is kept must still be added to the same channel once others are removed on either side. Padding the
    pruned widths would add it to another channel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, ≥ in_channels; the added ones are split evenly between both ends.
        stride: step of the subsampling, in pixels.

    Attributes:
        source: int64 buffer (out_channels,): the input channel that each output channel copies, or -1 for zeros. Not in
            the state dict: like every width, it follows from the plan.
    """

    source: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        pad = (out_channels - in_channels) // 2
        source = torch.full((out_channels,), -1)
        source[pad : pad + in_channels] = torch.arange(in_channels)
        self.set_source(source)

    def set_source(self, source: Tensor) -> None:
        """Replace the index map, int64 (out_channels,), and choose the cheapest exact way to apply it."""
        self.register_buffer("source", source, persistent=False)
        source = source.cpu()
        copied = (source >= 0).nonzero().flatten()
        first = int(copied[0]) if len(copied) else 0
        # a run of consecutive channels, as in the dense network, is a plain pad: no gather needed
        self._run = (
            (int(source[first]), first, len(copied))
            if len(copied)
            and torch.equal(source[first : first + len(copied)], source[first] + torch.arange(len(copied)))
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        x = x[:, :, :: self.stride, :: self.stride]
        if self._run is not None:
            start, first, count = self._run
            after = len(self.source) - first - count
            return nn.functional.pad(x[:, start : start + count], (0, 0, 0, 0, first, after))
        zero = self.source < 0
        return x.index_select(1, self.source.clamp(min=0)).masked_fill(zero[:, None, None], 0)
