"""What layers read: their weights as they run, and the channels of the layer before."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.errors import InputError
from daar.program.inputs import Images
from daar.program.program import Operation, Program
from daar.program.replay import Replay
from daar.pruning import weights
from daar.pruning.coupling import places_of
from daar.pruning.groups import ChannelGraph
from daar.pruning.layer import Channels, Layer


@dataclass(frozen=True, eq=False)
class Reading:
    """What a layer makes of the channels of another for a batch of images.

    A linear layer is a conv with one place, whose kernel is as large as what it reads of each channel.

    Attributes:
        layer: whose channels are read.
        reader: the conv or linear layer that reads them.
        inputs: (n, c_out, H, W) the channels as the reader gets them, padded, in the order of the layer's filters.
        weight: (c_read, c_out, k, k) what the reader multiplies them by; zeros where a grouped conv does not.
        stride: of the reader.
        dilation: of the reader.
    """

    layer: str
    reader: str
    inputs: Tensor
    weight: Tensor
    stride: tuple[int, int]
    dilation: tuple[int, int]

    def parts(self, places: Tensor, outputs: Tensor) -> Tensor:
        """What each channel adds to one of the reader's outputs, at one place of each image.

        Args:
            places: (n,) of the places that the reader makes, from 0, row by row.
            outputs: (n,) which of the reader's outputs.

        Returns:
            (n, c_out); their sum over all channels that the reader reads, and its bias, is what it makes there.
        """
        columns = self.places[1]
        starts = torch.stack((places // columns, places % columns))
        rows, columns_ = (
            start[:, None] * stride + dilation * torch.arange(size, device=places.device)
            for start, stride, dilation, size in zip(
                starts, self.stride, self.dilation, self.weight.shape[2:], strict=True
            )
        )
        image = torch.arange(len(places), device=places.device)
        seen = self.inputs[image[:, None, None], :, rows[:, :, None], columns_[:, None, :]]  # (n, k, k, c_out)
        return torch.einsum("nabc,ncab->nc", seen, self.weight[outputs])

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of what the reader makes."""
        sizes = zip(self.inputs.shape[2:], self.weight.shape[2:], self.stride, self.dilation, strict=True)
        rows, columns = ((size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation in sizes)
        return rows, columns


def weights_of(graph: ChannelGraph, layer: str) -> list[int]:
    """Numbers of the tensors that a layer's calls take as their weight, each once."""
    calls = [graph.program.operations[at] for at in graph.calls[layer]]
    return list(dict.fromkeys(_operand(operation, weight=True) for operation in calls))


def oriented(graph: ChannelGraph, layer: str, weight: Tensor) -> Tensor:
    """A layer's weight, or its gradient, as its operation takes it, with the filters first: (c_out, c_in/groups, …).

    Raises:
        InputError: each image has a weight of its own.
    """
    about, operation = graph.layers[layer], graph.program.operations[graph.calls[layer][0]]
    if about.kind != "conv":
        turned = weight.movedim(-1, 0).transpose(1, -1)
    elif operation.args[6]:  # transposed: (c_in, c_out/groups, …)
        parts = weight.reshape(int(operation.args[8]), -1, *weight.shape[1:])
        turned = parts.transpose(1, 2).flatten(0, 1)
    else:
        turned = weight
    if len(turned) != len(about.outputs):
        raise InputError(
            f"layer {layer!r} computes filters for each image, {len(turned)} in all; gradients are of one set, "
            f"{len(about.outputs)}. Choose a method that needs none."
        )
    return turned


def stream(
    model: nn.Module, graph: ChannelGraph, replay: Replay, images: Images, layers: Sequence[str], batch_size: int
) -> Iterator[Reading]:
    """A `Reading` for each batch, layer and layer that reads it; other arguments as of `daar.api.readings`.

    Args:
        model: the network.
        graph: of what it ran.
        replay: the same.
        images: on its device.
        layers: names of convs.
        batch_size: images per pass.
    """
    wanted: dict[int, list[tuple[str, str, Operation, Tensor]]] = {}
    for reader, calls in graph.calls.items():
        for operation in (graph.program.operations[at] for at in calls):
            if _is_plain(graph.layers[reader], operation, graph.program):
                wanted.setdefault(_operand(operation, weight=False), []).extend(
                    (layer, reader, operation, places)
                    for layer in layers
                    for places in _places(graph.layers[reader], graph.layers[layer].outputs)
                )
    dense = {
        reader: _dense(weights.ran_with(model, graph, images, reader).detach(), graph.layers[reader])
        for reader in {reader for some in wanted.values() for _, reader, _, _ in some}
    }
    for number, values in replay.stream(images, {number for number, some in wanted.items() if some}, batch_size):
        for layer, reader, operation, places in wanted[number]:
            yield _reading(layer, reader, operation, values, dense[reader], places.to(values.device))


def contributions(readings: Iterator[Reading], places: int, seed: int) -> dict[str, Tensor]:
    """Sums of products of what two channels add to the same outputs of the layers that read them.

    Args:
        readings: of any layers.
        places: outputs that are drawn for each image, each at one place of one of the reader's channels.
        seed: of the draw; with the names of the layers it fixes it, whatever other layers there are.

    Returns:
        layer → (c_out, c_out) float64, on the CPU.
    """
    dice: dict[tuple[str, str], torch.Generator] = {}
    sums: dict[str, Tensor] = {}
    for reading in readings:
        name = reading.layer, reading.reader
        if name not in dice:
            digest = hashlib.sha256(f"contributions {seed} {name}".encode()).digest()
            dice[name] = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        count = len(reading.inputs)
        made = [int(np.prod(reading.places)), len(reading.weight)]
        total = sums.get(reading.layer, torch.zeros((), dtype=torch.float64))
        for _ in range(places):
            place, output = (torch.randint(n, (count,), generator=dice[name]).to(reading.inputs.device) for n in made)
            parts = reading.parts(place, output).double()
            total = total + (parts.T @ parts).cpu()
        sums[reading.layer] = total
    return sums


def _operand(operation: Operation, *, weight: bool) -> int:
    """The number of what a conv or a product of matrices takes as its weight, or as its input."""
    shift = int(operation.name in ("addmm", "baddbmm"))
    number: int = operation.args[shift + int(weight)].number
    return number


def _is_plain(layer: Layer, operation: Operation, program: Program) -> bool:
    """Whether it is a conv over images or a linear layer on one vector for each image, and not depthwise."""
    if layer.is_depthwise:
        return False
    if layer.kind == "linear":
        return operation.name in ("addmm", "mm") and len(program.shapes[_operand(operation, weight=False)]) == 2
    return layer.kind == "conv" and not operation.args[6] and len(operation.args[3]) == 2


def _places(reader: Layer, outputs: Channels) -> Iterator[Tensor]:
    """Where the reader's input has the channels, -1 where it does not: (c_out, R), for a conv one column at a time."""
    found = places_of(outputs, reader.inputs)
    if found is None:
        return
    again, filters = Counter[int](), Counter(outputs.tolist())
    at = []
    for channel, places in zip(outputs.tolist(), found, strict=True):
        # where several filters go together, as those of a grouped conv's parts, they are read in their order
        at.append(np.array_split(places, filters[channel])[again[channel]])
        again[channel] += 1
    most = max(map(len, at))
    table = torch.full((len(at), most), -1)
    for row, places in zip(table, at, strict=True):
        row[: len(places)] = torch.from_numpy(places)
    yield from (table,) if reader.kind == "linear" else torch.split(table, 1, dim=1)


def _dense(weight: Tensor, reader: Layer) -> Tensor:
    """(c_read, c_in, k, k) also of a grouped conv, with zeros where it reads nothing; of a linear layer k is 1."""
    weight = weight.reshape(*weight.shape, *(1 for _ in range(4 - weight.dim())))
    parts, width = reader.parts, weight.shape[1]
    if parts == 1:
        return weight
    whole = weight.new_zeros(len(weight), parts * width, *weight.shape[2:])
    made = len(weight) // parts
    for part in range(parts):
        rows, columns = slice(part * made, (part + 1) * made), slice(part * width, (part + 1) * width)
        whole[rows, columns] = weight[rows]
    return whole


def _reading(layer: str, reader: str, operation: Operation, values: Tensor, weight: Tensor, places: Tensor) -> Reading:
    there = (places >= 0).to(values.dtype)
    if operation.name in ("addmm", "mm"):
        inputs = values[:, places] * there  # (n, c_out, R)
        return Reading(layer, reader, inputs[..., None], weight[:, places, :, 0], (1, 1), (1, 1))
    stride, padding, dilation = ((int(a), int(b)) for a, b in operation.args[3:6])
    inputs = F.pad(values[:, places[:, 0]] * there[:, :, None], (padding[1], padding[1], padding[0], padding[0]))
    return Reading(layer, reader, inputs, weight[:, places[:, 0]], stride, dilation)
