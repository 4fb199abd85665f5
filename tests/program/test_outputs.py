"""What a network returns: its tensors, whatever holds them; nothing that can be read only once."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.errors import InputError
from daar.program.outputs import tensors
from daar.program.recording import recorded


class Yielding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        yield self.b(self.a(x).relu())


class Zipped(Yielding):
    def forward(self, x: Tensor) -> Any:
        y = self.b(self.a(x).relu())
        return {"maps": y, "pairs": zip([y], [y], strict=True)}


@pytest.mark.parametrize(("kind", "named"), [(Yielding, "generator"), (Zipped, "zip")])
def test_what_can_be_read_only_once_is_refused(kind: type[nn.Module], named: str) -> None:
    images = torch.randn(2, 3, 8, 8)
    for run in (
        lambda: daar.prune(kind(), images, method="l1", macs_reduction=0.3),
        lambda: recorded(kind(), images),
    ):
        with pytest.raises(InputError, match=f"returns a {named}, which .* only once; it must be .*[^\n]*$"):
            run()


def test_tensors_in_order() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    assert list(tensors({"a": [one, None, 3], "b": (two,)})) == [one, two]
