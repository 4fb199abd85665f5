"""MACs without building anything: against arithmetic by hand for every count."""

import itertools

import torch
from torch import Tensor, nn

from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # it acts on this module

IMAGE = torch.zeros(1, 3, 8, 8)


class Added(nn.Module):
    """c is added onto a and b next to each other; a is also read alone, by a conv with a depthwise one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 6, 1)
        self.part, self.deep = nn.Conv2d(4, 5, 1), nn.Conv2d(5, 10, 3, groups=5)
        self.one, self.two = nn.Linear(10, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.a(x)
        both = torch.cat([a, self.b(x)], 1) + self.c(x)
        return self.one(self.deep(self.part(a)).mean((2, 3))), self.two(both.mean((2, 3)))


def test_what_reads_a_part_of_a_group_counts_those_of_it_that_are_left() -> None:
    graph = channel_graph(Added(), IMAGE)
    assert [(group.name, group.size) for group in graph.groups] == [("a", 6), ("part", 5)]
    orders = list(itertools.permutations(range(6)))[::41]
    for order, wide, narrow in itertools.product(orders, range(7), range(6)):
        left = order[:wide]
        read = sum(channel < 4 for channel in left)
        made = 64 * 3 * (2 * wide) + 64 * read * narrow + 36 * 9 * (2 * narrow)
        by_hand = made + 2 * narrow * 3 + wide * 2
        # whichever of the filters of `part` are left, the depthwise conv has two for each
        assert ClosedForm(graph, {"a": list(order), "part": [4, 2, 0, 1, 3]})({"a": wide, "part": narrow}) == by_hand
    # without an order channels go from behind; what is not named stays whole
    assert ClosedForm(graph)({"a": 4}) == 64 * 3 * 8 + 64 * 4 * 5 + 36 * 9 * 10 + 10 * 3 + 4 * 2


def test_a_filter_of_a_grouped_conv_reads_its_group_alone() -> None:
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.Conv2d(8, 4, 1, bias=False)
    graph = channel_graph(nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 2)), IMAGE)
    macs = ClosedForm(graph)
    assert [(group.name, group.size) for group in graph.groups] == [("0", 3), ("1", 4), ("2", 4)]  # pairs of channels
    for first, second, third in itertools.product(range(4), range(5), range(5)):
        convs = 9 * 3 * (2 * first) + 9 * first * (2 * second) + (2 * second) * third
        assert macs({"0": first, "1": second, "2": third}) == 64 * convs + 64 * third * 2
