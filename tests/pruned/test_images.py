"""Images as engineers have them: tensors, several inputs, loaders; integers stay integers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import daar
from daar.errors import InputError
from daar.program.outputs import tensors
from daar.pruned import images as forms
from tests.networks import one_thread  # noqa: F401  # it acts on this module
from tests.pruned.networks import Bytes, Line, Tokens, Two, made

X = torch.randn(20, 3, 12, 12, generator=torch.Generator().manual_seed(0))
DEPTH = torch.randn(20, 1, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(20) % 5
IDS = torch.randint(0, 50, (20, 30), generator=torch.Generator().manual_seed(2))


class Sample(NamedTuple):
    image: Tensor
    label: Tensor


def loader(*held: Tensor, size: int = 8) -> Any:
    return DataLoader(TensorDataset(*held), batch_size=size)


def generator() -> Iterator[Tensor]:
    yield from X.split(3)


@pytest.mark.parametrize(
    ("kind", "given", "expected", "labels"),
    [
        (Line, X, X, None),
        (Line, loader(X), X, None),
        (Line, loader(X, LABELS), X, LABELS),
        (Line, loader(X, LABELS, size=64), X, LABELS),
        (Line, next(iter(loader(X, LABELS, size=20))), X, LABELS),
        (Line, (X, LABELS), X, LABELS),
        (Line, Sample(X, LABELS), X, LABELS),
        (Line, [Sample(X[:9], LABELS[:9]), Sample(X[9:], LABELS[9:])], X, LABELS),
        (Line, [X[:5], X[5:]], X, None),
        (Line, generator(), X, None),
        (Two, (X, DEPTH), (X, DEPTH), None),
        (Two, loader(X, DEPTH), (X, DEPTH), None),
        (Two, loader(X, DEPTH, LABELS), (X, DEPTH), LABELS),
        (Two, {"x": X, "depth": DEPTH}, {"x": X, "depth": DEPTH}, None),
        (Tokens, IDS, IDS, None),
        (Tokens, {"ids": IDS, "labels": LABELS}, {"ids": IDS}, LABELS),
        (
            Tokens,
            [{"ids": IDS[:9], "labels": LABELS[:9]}, {"ids": IDS[9:], "labels": LABELS[9:]}],
            {"ids": IDS},
            LABELS,
        ),
    ],
)
def test_every_form_gives_one_batch(kind: type[nn.Module], given: Any, expected: Any, labels: Tensor | None) -> None:
    taken, found = forms.collected(made(kind), given, None, 100)
    assert type(taken) is type(expected)
    torch.testing.assert_close(taken, expected, rtol=0, atol=0)
    assert (found is None) == (labels is None)
    assert labels is None or torch.equal(found, labels)  # type: ignore[arg-type]


def test_as_many_batches_are_taken_as_are_needed() -> None:
    asked: list[int] = []

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            asked.append(len(asked))
            yield X[:8], LABELS[:8]

    taken, labels = forms.collected(made(Line), endless(), None, 20)
    assert labels is not None
    assert (len(taken), len(labels), asked) == (20, 20, [0, 1, 2])
    plain = daar.prune(made(Line), torch.cat([X[:8], X[:8], X[:4]]), method="hrank")
    assert daar.prune(made(Line), endless(), method="hrank", calibration_images=20).plan == plain.plan


@pytest.mark.parametrize(
    ("kind", "given", "method"),
    [
        *((Two, (X, DEPTH), method) for method in ("l1", "hrank", "daar")),
        (Two, {"depth": DEPTH, "x": X}, "daar"),
        (Tokens, IDS, "daar"),
        (Tokens, {"ids": IDS, "scale": 0.5}, "l1"),
        (Bytes, (255 * torch.rand(20, 3, 12, 12)).to(torch.uint8), "daar"),
        (Line, X[:1], "daar"),
    ],
)
def test_networks_are_pruned_by_what_they_take(kind: type[nn.Module], given: Any, method: str) -> None:
    model = made(kind)
    pruned = daar.prune(model, given, method=method, macs_reduction=0.3)
    assert 0.3 <= pruned.report.macs_reduction < 0.4
    assert pruned.report.slim_error <= 1e-10
    again = daar.slim_by(made(kind), given, pruned.plan)
    again.load_state_dict(pruned.model.state_dict())
    args, kwargs = ((), given) if isinstance(given, dict) else (given if isinstance(given, tuple) else (given,), {})
    with torch.no_grad():
        assert torch.equal(again(*args, **kwargs), pruned.model(*args, **kwargs))


class Views(nn.Module):
    """One answer for four images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Line()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).view(len(x) // 4, 4, 5).mean(1)


@pytest.mark.parametrize("method", ["l1", "hrank", "bn_scale"])
def test_networks_that_want_several_images_at_once_get_them(method: str, tmp_path: Path) -> None:
    pruned = daar.prune(made(Views), loader(X, size=4), method=method, macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-10
    daar.save(pruned, tmp_path)
    assert torch.equal(daar.load(made(Views), tmp_path)(X), pruned.model(X))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d])
@pytest.mark.parametrize("method", ["l1", "fpgm", "hrank", "daar"])
def test_methods_score_layers_of_any_rank(kind: type[nn.Module], method: str) -> None:
    torch.manual_seed(0)
    rank = int(kind.__name__[4])
    body = [kind(3, 12, 3), nn.ReLU(), kind(12, 12, 3), nn.ReLU(), nn.Flatten(2)]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 3))
    pruned = daar.prune(model, torch.randn(12, 3, *[8] * rank), method=method, macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_get_the_type_of_the_weights(dtype: torch.dtype) -> None:
    pruned = daar.prune(made(Line).to(dtype), X, method="daar", macs_reduction=0.3)
    assert {value.dtype for value in pruned.model.parameters()} == {dtype}
    assert pruned.model(X.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("given", "labels", "said"),
    [
        ([], None, "images hold no batch; they must be a tensor .* A generator that was used up gives none"),
        ("x", None, "images are a str; they must be a tensor"),
        (3, None, "images are a int; they must be"),
        ({}, None, "images are a dict without a tensor"),
        ((), None, "images are a tuple without a tensor"),
        (torch.tensor(1.0), None, r"images are torch.float32 \(\); each tensor must be \(N, …\)"),
        ({"x": X, "depth": DEPTH[:3]}, None, r"images are torch.float32 \(3, 1, 12, 12\); .* the same for all"),
        ([X[:3], torch.randn(3, 3, 9, 9)], None, "the batches of images do not fit together: .* images of one size"),
        ([X, X[:, :1]], None, "do not fit together: .* give inputs, or images and labels, as a tuple"),
        ([X[:3], X[:2] * torch.nan], None, "images hold NaN or infinity"),
        ((X, LABELS), LABELS, "labels are given twice"),
        (X, LABELS[:3], r"labels are \(3,\); they must be a tensor \(20,\)"),
        (X, LABELS.tolist(), "labels are list; they must be a tensor"),
        ({"x": X, "labels": LABELS, "other": X}, None, "the model fails on images of shape .*unexpected keyword"),
    ],
)
def test_what_is_no_image_is_said(given: Any, labels: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        daar.prune(made(Line), given, labels, method="l1")
    assert "\n" not in str(error.value)


def test_a_list_for_two_inputs_is_told_from_a_tuple() -> None:
    for images in ([X, DEPTH], [X, X]):
        with pytest.raises(InputError, match=r"list of batches, but the network takes 2 .* as a tuple: \(x, depth\)"):
            daar.prune(made(Two), images, method="l1")


def test_the_form_of_images_comes_back_without_values() -> None:
    for given in (X, (X, IDS), {"x": X, "scale": 0.5, "more": (IDS, None)}):
        form = forms.form(given)
        again = forms.blank(form, 3)
        assert forms.form(again) == form
        assert not any(bool(value.any()) for value in tensors(again))


class OfBatch(Line):
    """Takes a batch as its loader gives it."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        made: Tensor = super().forward(batch["image"])
        return made


class Free(nn.Module):
    """Any number of inputs, of which the last is a class for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 5)

    def forward(self, *args: Tensor) -> Tensor:
        x, kinds = args
        return self.head(self.body(x).relu().mean((2, 3))) + F.one_hot(kinds, 5)


@pytest.mark.parametrize(
    "images", [{"image": X}, ({"image": X},), {"batch": {"image": X}}, [{"image": X}, {"image": X}]]
)
def test_a_network_that_takes_a_dict_is_given_it(images: Any) -> None:
    pruned = daar.prune(made(OfBatch), images, method="l1")
    with torch.no_grad():
        assert pruned.model({"image": X}).shape == (20, 5)


def test_classes_that_a_network_reads_are_inputs() -> None:
    images = X, torch.arange(len(X)) % 5
    assert daar.prune(made(Free), images, method="l1", macs_reduction=0.3).model(*images).shape == (20, 5)
