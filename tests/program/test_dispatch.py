"""Compiled parts of a network are seen as they are written, and only those load torch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from daar.program.recording import record

PLAIN = """
import sys, torch
from torch import nn
from daar.program.recording import record
record(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
print("torch._dynamo" in sys.modules)
"""


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), self.activate

    def activate(self, values: Tensor) -> Tensor:
        return torch.relu(values) * 2

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.b(self.act(self.a(images)))
        return values.mean((2, 3))


def run(model: nn.Module) -> None:
    with torch.no_grad():
        model(torch.zeros(2, 3, 8, 8))


def names(model: nn.Module) -> list[str]:
    return [str(operation.function) for operation in record(model, torch.zeros(2, 3, 8, 8)).operations]


@pytest.mark.parametrize("part", ["function", "layer", "whole"])
@pytest.mark.parametrize("ran", [False, True])
def test_what_is_compiled_is_recorded_as_it_is_written(part: str, ran: bool) -> None:
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        compiled.append(graph)
        return graph.forward

    model = Network().eval()
    expected = names(model)
    if part == "function":
        model.act = torch.compile(model.activate, backend=backend)
    else:
        (model.b if part == "layer" else model).compile(backend=backend)
    if ran:
        run(model)
    before = len(compiled)
    assert names(model) == expected
    assert len(compiled) == before  # nothing was compiled for it, our own code among it
    run(model)
    assert compiled  # and it is compiled as before


def test_without_compiled_parts_the_compiler_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
