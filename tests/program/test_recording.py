"""What is recorded of a run: operations in order, tensors by number, leaves by name, module and line, and failures."""

import dataclasses
import gc
import weakref
from collections import namedtuple
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.program.inputs import call, count, each, first, moved, split
from daar.program.outputs import nested, tensors
from daar.program.program import Program, refs
from daar.program.recording import RunError, record, recorded


class Net(nn.Module):
    """Layers by name, and a forward given as a function of the network and its inputs."""

    def __init__(self, run: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


IMAGES = (2, 3, 6, 6)


def names(program: Program) -> list[str]:
    """Of its operations, but for memory that nothing was written to."""
    return [operation.name for operation in program.operations if operation.name != "empty"]


def test_operations_come_in_order_with_tensors_by_number() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    program = recorded(net, torch.randn(IMAGES))
    assert names(program) == ["convolution", "native_batch_norm", "relu"]
    conv, norm, relu = (operation for operation in program.operations if operation.name != "empty")
    assert [operation.index for operation in program.operations] == list(range(len(program.operations)))
    by_name = {name: number for number, name in program.leaves.items()}
    assert conv.reads() == [*program.inputs, by_name["0.weight"], by_name["0.bias"]]
    assert norm.reads()[0] == conv.makes()[0]
    assert norm.reads()[1:] == [by_name[f"1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")]
    assert [ref.number for ref in refs(program.output)] == relu.makes()
    assert program.shapes[conv.makes()[0]] == (2, 4, 4, 4)
    assert program.batch == 2
    assert not program.constants


def test_module_and_line_are_those_of_the_networks_code() -> None:
    inner = Net(lambda m, x: m.conv(x) + 1, conv=nn.Conv2d(3, 4, 3))
    net = Net(lambda m, x: m.inner(x) * 2, inner=inner)
    program = recorded(net, torch.randn(IMAGES))
    outer_line, inner_line = (run.run.__code__.co_firstlineno for run in (net, inner))
    assert [(op.name, op.module, op.line) for op in program.operations] == [
        ("convolution", "inner.conv", f"{__file__}:{inner_line}"),
        ("add", "inner", f"{__file__}:{inner_line}"),
        ("mul", "", f"{__file__}:{outer_line}"),
    ]
    assert program.operations[1].place() == f"add in inner ({__file__}:{inner_line})"
    spans = {span.module: (span.first, span.last) for span in program.spans}
    assert spans == {"": (0, 3), "inner": (0, 2), "inner.conv": (0, 1)}


def test_operations_in_place_make_new_numbers() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        y.relu_()
        y[:, 0] += 1
        return y.sum()

    program = recorded(Net(run, conv=nn.Conv2d(3, 4, 1)), torch.randn(IMAGES))
    conv, relu = program.operations[:2]
    assert relu.name == "relu_"
    assert relu.reads() == conv.makes()
    assert relu.makes() != relu.reads()
    assert program.operations[-1].name == "sum"
    # what is read afterwards is what the operation in place made
    assert program.operations[2].reads() == relu.makes()


def test_leaves_are_parameters_buffers_and_plain_tensors_and_what_is_tied_is_one() -> None:
    net = Net(lambda m, x: m.two(m.one(x)) * m.scale * m.plain, one=nn.Conv2d(3, 3, 1), two=nn.Conv2d(3, 3, 1))
    net.two.weight = net.one.weight  # type: ignore[union-attr]
    net.register_buffer("scale", torch.ones(1), persistent=False)
    net.plain = torch.full((3, 1, 1), 2.0)
    program = recorded(net, torch.randn(IMAGES))
    assert sorted(program.leaves.values()) == ["one.bias", "one.weight", "plain", "scale", "two.bias"]
    assert not program.constants
    convs = [op for op in program.operations if op.name == "convolution"]
    assert convs[0].reads()[1] == convs[1].reads()[1]


def test_data_of_a_parameter_is_the_parameter() -> None:
    net = Net(lambda m, x: torch.conv2d(x, m.conv.weight.data), conv=nn.Conv2d(3, 4, 1))
    program = recorded(net, torch.randn(IMAGES))
    made_by = {number: operation for operation in program.operations for number in operation.makes()}
    number = program.operations[-1].reads()[1]
    while number in made_by:  # some versions of torch detach it, others do not say
        (number,) = made_by[number].reads()
    assert program.leaves[number] == "conv.weight"
    assert not program.constants


def test_tensors_of_nowhere_are_constants() -> None:
    outside = torch.randn(3, 1, 1)
    program = recorded(Net(lambda _, x: x * outside), torch.randn(IMAGES))
    [(number, value)] = program.constants.items()
    assert value is outside
    assert number in program.operations[0].reads()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_scripted_parts_are_recorded_with_their_leaves() -> None:
    part = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    program = recorded(Net(lambda m, x: m.part(x).mean((2, 3)), part=part), torch.randn(IMAGES))
    assert names(program) == ["convolution", "relu", "mean"]
    read = [program.leaves.get(number) for number in program.operations[0].reads()]
    assert read == [None, "part.0.weight", "part.0.bias"]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_as_it_was_and_was_run_in_eval_mode(training: bool) -> None:
    seen: list[bool] = []

    def run(m: Any, x: Tensor) -> Tensor:
        seen.append(m.drop.training)
        return m.drop(m.norm(x))

    net = Net(run, norm=nn.BatchNorm2d(3), drop=nn.Dropout())
    net.train(training)
    net.norm.eval()  # type: ignore[union-attr]
    before = [module.training for module in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    recorded(net, torch.randn(IMAGES))
    assert seen == [False]
    assert [module.training for module in net.modules()] == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.is_grad_enabled()


def test_hooks_of_the_user_run_and_are_recorded() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    net[0].register_forward_hook(lambda *call: call[2] * 3)
    assert names(recorded(net, torch.randn(IMAGES))) == ["convolution", "mul"]


def test_a_failure_names_the_module_and_says_what_was_raised() -> None:
    def fails(m: Any, x: Tensor) -> Tensor:
        raise KeyError(f"no\nsuch {len(x)}")

    net = Net(lambda m, x: m.part(m.conv(x)), conv=nn.Conv2d(3, 4, 1), part=Net(fails))
    with pytest.raises(InputError, match=r"^Net fails in 'part': 'no\\nsuch 2'$"):
        recorded(net, torch.randn(IMAGES))
    with pytest.raises(RunError) as caught:
        record(net, torch.randn(IMAGES))
    assert caught.value.inside == ["", "part"]
    assert names(caught.value.program) == ["convolution"]
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_recording_twice_gives_the_same_program() -> None:
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    one, other = (recorded(net, torch.randn(2, 5, 8)) for _ in range(2))
    assert names(one) == names(other)
    assert "_transformer_encoder_layer_fwd" not in names(one), "the fused path hides all weights"
    assert [op.args for op in one.operations] == [op.args for op in other.operations]
    assert one.leaves == other.leaves


def test_what_a_run_made_is_not_held_by_the_program() -> None:
    held: list[Any] = []

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        held.append(weakref.ref(y))
        return y.mean((2, 3))

    program = recorded(Net(run, conv=nn.Conv2d(3, 4, 1)), torch.randn(IMAGES))
    gc.collect()
    assert held[0]() is None
    assert len(program.operations) == 2


# structures of inputs and outputs


@dataclasses.dataclass
class Boxes:
    """As detection networks return them."""

    scores: Tensor
    boxes: Tensor
    size: int = 3


class Pair(NamedTuple):
    """A named tuple."""

    one: Tensor
    other: Tensor | None


class Holder:
    """A plain object that holds tensors."""

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.name = "x"


X = torch.arange(6.0).view(2, 3)
Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (X, 1),
        (None, 0),
        (3, 0),
        ("text", 0),
        ((X, None, 3), 1),
        ([X, (X, {"a": X})], 3),
        ({"out": X, "aux": None}, 1),
        (Boxes(X, X), 2),
        ([Boxes(X, X)], 2),
        (Pair(X, None), 1),
        (Point(X, X), 2),
        (Holder(X), 1),
        ({}, 0),
    ],
)
def test_tensors_of_any_structure(value: Any, number: int) -> None:
    assert len(list(tensors(value))) == number
    assert len(list(tensors(nested(value)))) == number
    program = recorded(Net(lambda _, x: _with(value, x + 1)), X)
    assert len(list(refs(program.output))) == number


def _with(value: Any, x: Tensor) -> Any:
    """The same structure with another tensor."""
    if isinstance(value, Tensor):
        return x
    if isinstance(value, dict):
        return {key: _with(part, x) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_with(part, x) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_with(part, x) for part in value)
    if isinstance(value, Boxes):
        return Boxes(x, x)
    return Holder(x) if isinstance(value, Holder) else value


def both(m: Any, left: Tensor, right: Tensor) -> Tensor:
    return left + right[:, :, None]


@pytest.mark.parametrize(
    ("images", "run"),
    [
        (torch.randn(IMAGES), lambda _, x: x * 2),
        ((torch.randn(2, 3, 4), torch.randn(2, 3)), both),
        ([torch.randn(2, 3, 4), torch.randn(2, 3)], both),
        ({"right": torch.randn(2, 3), "left": torch.randn(2, 3, 4)}, both),
        ({"pair": (torch.randn(2, 3, 4), torch.randn(2, 3))}, lambda m, pair: both(m, *pair)),
        ((torch.randn(2, 3), torch.tensor([1, 2])), lambda _, x, index: x * index[:, None]),
    ],
)
def test_inputs_of_any_structure(images: Any, run: Any) -> None:
    net = Net(run)
    assert count(images) == 2
    program = recorded(net, images)
    assert len(program.inputs) == len(list(tensors(images)))
    assert set(program.inputs) <= {number for op in program.operations for number in op.reads()}
    # three images of two: the first again
    three = first(images, 3)
    assert count(three) == 3
    assert torch.equal(call(net, three)[2], call(net, images)[0])
    parts = list(split(three, 2))
    assert [count(part) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([call(net, part) for part in parts]), call(net, three))
    double = moved(images, torch.empty(0, dtype=torch.float64))
    assert [t.dtype for t in tensors(double)] == [
        torch.float64 if t.is_floating_point() else torch.int64 for t in tensors(images)
    ]
    assert type(each(images, lambda part: part)) is type(images)


def test_a_named_tuple_of_images_stays_one() -> None:
    images = Pair(torch.randn(3, 2), torch.randn(3, 2))
    assert isinstance(each(images, lambda part: part[:1]), Pair)
