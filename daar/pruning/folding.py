"""Fold weights that a network computes from its parameters into plain layers.

Weight standardisation, weight norm and spectral norm compute a filter from all of its inputs, so without some of them
the rest would change: all channels that such a layer reads stay. Once what it computes is a parameter of its own, it is
pruned like any other. That ends the reparametrisation: tuning goes on with plain weights.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.models.copying import copied
from daar.program.draws import seeded
from daar.program.inputs import Images, call, count, first
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, Ref
from daar.program.recording import held_as, recorded
from daar.program.replay import Replay

# largest relative change of the output that rounding of the folded weights explains
TOLERANCE = 1e-4
# around the product of a linear layer
_SHAPES = ("view", "_unsafe_view", "expand")
_CONVS: dict[tuple[int, bool], type[Any]] = {
    (3, False): nn.Conv1d,
    (4, False): nn.Conv2d,
    (5, False): nn.Conv3d,
    (3, True): nn.ConvTranspose1d,
    (4, True): nn.ConvTranspose2d,
    (5, True): nn.ConvTranspose3d,
}


class PaddedConv2d(nn.Conv2d):
    """A conv behind zeros that are not the same on all sides, as padding `same` with a stride needs."""

    def __init__(self, *args: Any, sides: tuple[int, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.sides = sides

    def forward(self, images: Tensor) -> Tensor:
        """Pad and convolve."""
        return super().forward(F.pad(images, self.sides))


def computed_layers(model: nn.Module, images: Images) -> tuple[str, ...]:
    """Paths of the layers that `folded` makes plain ones of; arguments as there."""
    return tuple(_computed(recorded(model, first(images, max(2, count(images))))))


@seeded()  # new layers draw weights, which are replaced
def folded(model: nn.Module, images: Images) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy whose layers with computed weights are plain ones, and their paths; the model itself where there are none.

    Padding that a layer computes from the size of the images becomes that of these images.

    Args:
        model: the network; left as it is.
        images: of the size that it is used with.

    Raises:
        InputError: the copy computes something else.
    """
    images = first(images, max(2, count(images)))
    program = recorded(model, images)
    found = _computed(program)
    if not found:
        return model, ()
    wanted = {ref.number for layer in found.values() for ref in (layer.weight, layer.bias) if ref is not None}
    made = {n: value.detach().clone() for n, value in Replay(model, images).stream(first(images, 2), wanted, 2)}
    plain = copied(model)
    leaves = {number: held_as(plain, name) for number, name in program.leaves.items() if number in wanted}
    held = {**leaves, **made}
    for path, layer in found.items():
        bias = None if layer.bias is None else held[layer.bias.number].detach()
        new = _plain(program, layer.operation, held[layer.weight.number].detach(), bias)
        _put(plain, path, new.train(plain.get_submodule(path).training))
    _require_equal(model, plain, images)
    return plain, tuple(found)


@dataclass(frozen=True)
class _Layer:
    """A conv or a linear layer as it ran: numbers of what it may read, before and behind a pad or a view; and make."""

    operation: Operation
    weight: Ref
    bias: Ref | None
    sources: frozenset[int]
    results: frozenset[int]


def _computed(program: Program) -> dict[str, _Layer]:
    """Module → its layer, whose weight is made of parameters alone; the module does nothing else with its input."""
    makers = {number: op for op in program.operations for number in op.makes()}
    depend = program.of_images()
    spans = {span.module: span for span in program.spans}
    found: dict[str, _Layer] = {}
    for op in program.operations:
        if not op.module or op.name not in ("convolution", "mm", "addmm", "bmm"):
            continue
        layer = _conv(op, makers) if op.name == "convolution" else _linear(program, op, makers)
        if layer is None or layer.weight.number not in makers or layer.weight.number in depend:
            continue
        read, made = set(spans[op.module].read), set(spans[op.module].made)
        if not read.isdisjoint(layer.sources) and not made.isdisjoint(layer.results):
            found[op.module] = layer
    return found


def _conv(op: Operation, makers: dict[int, Operation]) -> _Layer:
    source, weight, bias = op.args[:3]
    pad = makers.get(source.number)
    padded = {pad.args[0].number} if pad is not None and pad.name == "constant_pad_nd" else set()
    return _Layer(op, weight, bias, frozenset({source.number, *padded}), frozenset(op.makes()))


def _linear(program: Program, op: Operation, makers: dict[int, Operation]) -> _Layer | None:
    """A product with a transposed weight; of more than two dimensions, all but the last are taken together."""
    bias, source, turned = op.args if op.name == "addmm" else (None, *op.args)
    turn = makers.get(_behind(turned.number, makers)[-1])
    if turn is None or turn.name != "t":
        return None
    results = op.makes()
    for after in program.operations[op.index + 1 :]:
        if results[-1] in after.reads() and after.name in _SHAPES:
            results.extend(after.makes())
        elif after.name == "add" and after.args[0] == Ref(results[-1]) and bias is None and _is_leaf(program, after):
            bias = after.args[1]
            results = after.makes()
    return _Layer(op, turn.args[0], bias, frozenset(_behind(source.number, makers)), frozenset(results))


def _is_leaf(program: Program, add: Operation) -> bool:
    return isinstance(add.args[1], Ref) and add.args[1].number in program.leaves


def _behind(number: int, makers: dict[int, Operation]) -> list[int]:
    """A tensor, and those of other shapes that it was."""
    numbers = [number]
    while (op := makers.get(numbers[-1])) is not None and op.name in _SHAPES:
        numbers.append(op.args[0].number)
    return numbers


def _plain(program: Program, op: Operation, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer of torch's own that holds the computed weight."""
    if op.name != "convolution":
        outputs, inputs = weight.shape
        linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta", dtype=weight.dtype)
        return _filled(linear, weight, bias)
    stride, padding, dilation, transposed, output_padding, groups = op.args[3:9]
    kind = _CONVS[weight.dim(), transposed]
    ins, outs = (len(weight), weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, len(weight))
    options: dict[str, Any] = {"output_padding": tuple(output_padding)} if transposed else {}
    pad = next((o for o in program.operations if op.args[0].number in o.makes()), None)
    if pad is not None and pad.name == "constant_pad_nd" and pad.module == op.module:
        kind, options = PaddedConv2d, {"sides": tuple(pad.args[1])}
    layer: nn.Module = kind(
        ins,
        outs,
        tuple(weight.shape[2:]),
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        bias=bias is not None,
        device="meta",
        dtype=weight.dtype,
        **options,
    )
    return _filled(layer, weight, bias)


def _filled(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer that was made without memory, so without random numbers, with its weights."""
    layer.to_empty(device=weight.device)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(weight)
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
    return layer


def _put(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)


def _require_equal(model: nn.Module, plain: nn.Module, images: Images) -> None:
    with evaluating(model), evaluating(plain), torch.no_grad():
        outputs = []
        for network in (plain, model):
            with seeded():
                outputs.append(list(tensors(call(network, images))))
        pairs = list(zip(*outputs, strict=True))
    for one, other in pairs:
        if one.is_floating_point() and not float((one - other).abs().max()) <= TOLERANCE * float(other.abs().max()):
            raise InputError(
                "weights that are computed from parameters could not be folded into plain ones: the network's output "
                "changes. Prune it as it is."
            )
