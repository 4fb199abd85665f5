"""Fold weights that a network computes from its parameters into plain layers.

Weight standardisation, weight norm and spectral norm compute a filter from all of its inputs, so without some of them
the rest would change: all channels that such a layer reads stay. Once what it computes is a parameter of its own, it is
pruned like any other. That ends the reparametrisation: tuning goes on with plain weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.draws import seeded
from daar.program.inputs import Images, call, count, first
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, Ref, Span
from daar.program.recording import held_as, recorded
from daar.program.replay import Replay
from daar.pruning.copying import copied

# largest relative change of the output that rounding of the folded weights explains
TOLERANCE = 1e-4
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
    """A copy whose convs with computed weights are plain ones, and their paths; the model itself where there are none.

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
    wanted = {ref.number for op in found.values() for ref in op.args[1:3] if isinstance(ref, Ref)}
    made = {n: value.detach().clone() for n, value in Replay(model, images).stream(first(images, 2), wanted, 2)}
    plain = copied(model)
    leaves = {number: held_as(plain, name) for number, name in program.leaves.items() if number in wanted}
    for path, op in found.items():
        held = {**leaves, **made}
        bias = None if op.args[2] is None else held[op.args[2].number].detach()
        layer = _plain(program, op, held[op.args[1].number].detach(), bias)
        _put(plain, path, layer.train(plain.get_submodule(path).training))
    _require_equal(model, plain, images)
    return plain, tuple(found)


def _computed(program: Program) -> dict[str, Operation]:
    """Module → its conv, whose weight is made of parameters alone; the module does nothing else with its input."""
    makers = {number: op for op in program.operations for number in op.makes()}
    depend = program.of_images()
    spans = {span.module: span for span in program.spans}
    found: dict[str, Operation] = {}
    for op in program.operations:
        if op.name != "convolution" or op.args[1].number not in makers or op.args[1].number in depend:
            continue
        if op.module and _does_nothing_else(op, spans[op.module], makers):
            found[op.module] = op
    return found


def _does_nothing_else(op: Operation, span: Span, makers: dict[int, Operation]) -> bool:
    source = op.args[0].number
    pad = makers.get(source)
    if source not in span.read and pad is not None and pad.name == "constant_pad_nd":
        source = pad.args[0].number
    return source in span.read and op.makes()[0] in span.made


def _plain(program: Program, op: Operation, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A conv of torch's own that holds the computed weight."""
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
        device=weight.device,
        dtype=weight.dtype,
        **options,
    )
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
