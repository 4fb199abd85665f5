"""Small networks with further inputs than images, for the tests of daar.pruned."""

import torch
from torch import Tensor, nn

from tests.networks import enliven


class Line(nn.Sequential):
    """Two convs with BN and a head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5),
        )  # fmt: skip


class Two(nn.Module):
    """Colour and depth."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(1, 16, 3, padding=1)
        self.body, self.head = nn.Conv2d(16, 16, 3), nn.Linear(16, 5)

    def forward(self, x: Tensor, depth: Tensor) -> Tensor:
        return self.head(self.body((self.colour(x) + self.depth(depth)).relu()).relu().mean((2, 3)))


class Tokens(nn.Module):
    """Convs over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.one, self.two = nn.Embedding(50, 12), nn.Conv1d(12, 16, 3), nn.Conv1d(16, 16, 3)
        self.head = nn.Linear(16, 5)

    def forward(self, ids: Tensor, scale: float = 1.0) -> Tensor:
        x = self.one(self.embed(ids).transpose(1, 2) * scale).relu()
        return self.head(self.two(x).relu().mean(2))


class Bytes(nn.Module):
    """Takes pixels as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Line()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.to(self.body.get_parameter("0.weight").dtype) / 255)


def made(kind: type[nn.Module]) -> nn.Module:
    """One of them, its weights always the same."""
    torch.manual_seed(0)
    network: nn.Module = enliven(kind())
    return network
