"""Labels of any shape: told from inputs, given to the method that reads them, and named where they are missing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import daar
from daar.errors import InputError
from daar.pruned import images as forms
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, Two, made

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
DEPTH = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(8) % 5
MASKS = torch.arange(8 * 144).view(8, 12, 12) % 3
TARGETS = torch.linspace(0, 1, 8)
SHAPES = [CLASSES, MASKS, TARGETS, CLASSES[:, None], torch.eye(8)[:, :5], MASKS[:, None].float(), CLASSES > 2]


class Mapped(nn.Module):
    """A map of three classes; its loss where it gets a target, as segmentation networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        x = self.head(self.two(self.one(x).relu()).relu())
        return x if target is None else nn.functional.cross_entropy(x, target)


class Scaled(Mapped):
    """Its second argument is no target."""

    def forward(self, x: Tensor, depth: Tensor | None = None) -> Tensor:
        return super().forward(x if depth is None else x * depth.sigmoid())


class Packed(nn.Module):
    """Takes its inputs packed into one dict or tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Mapped()

    def forward(self, inputs: Any) -> Tensor:
        x, depth = inputs.values() if isinstance(inputs, dict) else inputs
        output: Tensor = self.body(x * depth.sigmoid())
        return output


def network(name: str) -> nn.Module:
    """A Mapped whose optional argument has this name."""
    code = (
        f"class Named(Mapped):\n    def forward(self, x, {name}=None):\n        return Mapped.forward(self, x, {name})"
    )
    held: dict[str, Any] = {"Mapped": Mapped}
    exec(code, held)
    torch.manual_seed(0)
    made_of: nn.Module = enliven(held["Named"]())
    return made_of


class Pairs(torch.utils.data.Dataset[Any]):
    """(inputs, mask), the inputs by name or by place."""

    def __init__(self, *, named: bool) -> None:
        self.named = named

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        inputs = {"x": X[index], "depth": DEPTH[index]} if self.named else (X[index], DEPTH[index])
        return inputs, MASKS[index]


def seen_by_a_function(model: nn.Module, images: Any, labels: Tensor | None = None) -> tuple[Tensor, tuple[str, ...]]:
    seen: list[Tensor] = []

    def norm(model: nn.Module, batch: Any, layers: list[str]) -> dict[str, Tensor]:
        seen.append(batch.labels)
        return {layer: model.get_parameter(f"{layer}.weight").square().flatten(1).sum(1) for layer in layers}

    pruned = daar.prune(model, images, labels, method=norm, macs_reduction=0.3)
    return seen[0], pruned.report.notes


@pytest.mark.parametrize("labels", SHAPES, ids=lambda value: f"{value.dtype} {tuple(value.shape)}")
def test_a_function_gets_labels_of_any_shape_as_they_are(labels: Tensor) -> None:
    loader = DataLoader(TensorDataset(X, labels), batch_size=3)
    for images, more in [((X, labels), None), (loader, None), ([(X, labels)], None), (X, labels)]:
        seen, notes = seen_by_a_function(made(Mapped), images, more)
        assert torch.equal(seen, labels.long() if labels.dim() == 1 and labels is not TARGETS else labels)
        assert notes == ()


def test_what_stands_in_is_named() -> None:
    seen, notes = seen_by_a_function(made(Mapped), X)
    assert torch.equal(seen, torch.zeros(8, dtype=torch.int64))
    assert notes == ("labels: none were given, and the network's output is not logits (N, C); zeros stand in.",)
    model = made(Line)
    seen, notes = seen_by_a_function(model, X)
    with torch.no_grad():
        assert torch.equal(seen, model.eval()(X).argmax(1))
    assert notes == ("labels: none were given; the network's own predictions stand in.",)
    assert notes[0] in str(daar.prune(model, X, method=lambda model, _, layers: norms(model, layers)).report)
    assert daar.prune(model, X, method="hrank", macs_reduction=0.3).report.notes == ()


def norms(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    return {layer: model.get_parameter(f"{layer}.weight").abs().flatten(1).sum(1) for layer in layers}


def test_a_method_of_daar_reads_classes_alone() -> None:
    x = torch.cat([X] * 8)
    given: dict[str, Any] = {"options": {"boundary": "auto"}, "macs_reduction": 0.3, "policy": "uniform"}
    plain = daar.prune(made(Mapped), x, **given)
    assert daar.prune(made(Mapped), (x, torch.cat([MASKS] * 8)), **given).plan == plain.plan


@pytest.mark.parametrize("name", ["target", "targets", "label", "labels", "y", "gt", "mask", "masks"])
def test_an_optional_argument_named_like_a_target_is_no_input(name: str) -> None:
    model = network(name)
    for images in ((X, MASKS), [X, MASKS], [(X, MASKS)], DataLoader(TensorDataset(X, MASKS), batch_size=4)):
        taken, labels = forms.collected(model, images, None, 99)
        assert torch.equal(taken, X)
        assert torch.equal(labels, MASKS)  # type: ignore[arg-type]
    taken, labels = forms.collected(model, {"x": X, name: MASKS}, None, 99)
    if name in ("y", "gt", "mask", "masks"):  # may be inputs, and the dict names them
        assert sorted(taken) == sorted(["x", name])
    else:
        assert list(taken) == ["x"]
        assert torch.equal(labels, MASKS)  # type: ignore[arg-type]
    assert daar.prune(model, (X, MASKS), method="l1", macs_reduction=0.3).report.slim_error <= 1e-10


def by_name() -> dict[str, Tensor]:
    return {"x": X, "depth": DEPTH}


@pytest.mark.parametrize("kind", [Two, Scaled])
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (lambda: (by_name(), MASKS), by_name()),
        (lambda: ((X, DEPTH), MASKS), (X, DEPTH)),
        (lambda: [[X, DEPTH], MASKS], (X, DEPTH)),
        (lambda: [by_name(), MASKS], by_name()),
        (lambda: DataLoader(Pairs(named=True), batch_size=3), by_name()),
        (lambda: DataLoader(Pairs(named=False), batch_size=3), (X, DEPTH)),
        (lambda: next(iter(DataLoader(Pairs(named=False), batch_size=8))), (X, DEPTH)),
        (lambda: (X, DEPTH, MASKS), (X, DEPTH)),
    ],
)
def test_nested_batches(kind: type[nn.Module], images: Callable[[], Any], expected: Any) -> None:
    taken, labels = forms.collected(made(kind), images(), None, 99)
    torch.testing.assert_close(taken, expected, rtol=0, atol=0)
    assert torch.equal(labels, MASKS)  # type: ignore[arg-type]
    assert daar.prune(made(kind), images(), method="daar", policy="uniform").report.slim_error <= 1e-10


@pytest.mark.parametrize("named", [False, True])
def test_inputs_that_the_network_takes_packed_stay_packed(named: bool) -> None:
    inputs = by_name() if named else (X, DEPTH)
    for images in ((inputs, MASKS), DataLoader(Pairs(named=named), batch_size=4)):
        taken, labels = forms.collected(made(Packed), images, None, 99)
        torch.testing.assert_close(taken, (inputs,), rtol=0, atol=0)
        assert torch.equal(labels, MASKS)  # type: ignore[arg-type]
    pruned = daar.prune(made(Packed), (inputs, MASKS), method="l1", macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-10


def test_an_optional_input_is_one_where_the_network_runs_with_it() -> None:
    taken, labels = forms.collected(made(Scaled), (X, DEPTH), None, 99)
    assert (len(taken), labels) == (2, None)
    taken, labels = forms.collected(made(Scaled), (X, torch.randn(8, 7)), None, 99)
    assert torch.equal(taken, X)
    assert tuple(labels.shape) == (8, 7)  # type: ignore[union-attr]


def test_targets_that_are_no_tensor_are_left_out() -> None:
    boxes = [{"boxes": torch.ones(2, 4)}] * 8
    taken, labels = forms.collected(made(Mapped), [(X, boxes)], None, 99)
    assert torch.equal(taken, X)
    assert labels is None


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (X, MASKS[:3], r"labels are \(3, 12, 12\); they must be a tensor \(8,\) or \(8, …\), with one entry for each"),
        (X, torch.tensor(3), r"labels are \(\); they must be"),
        ((X, CLASSES[:3]), None, r"labels are \(3,\); they must be"),
        ([(X, CLASSES[:3])], None, r"labels are \(3,\); they must be a tensor \(8,\)"),
        ([(X, MASKS), (X, MASKS[:, :5])], None, "the labels of the batches do not fit together: .* or images alone"),
    ],
)
def test_labels_that_cannot_be_are_said(images: Any, labels: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        daar.prune(made(Mapped), images, labels, method="l1")
    assert "\n" not in str(error.value)
