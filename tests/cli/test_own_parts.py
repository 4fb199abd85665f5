"""By hand: a dataset and a network of one's own through the commands, in a folder that has nothing else."""

import json
from pathlib import Path

import pytest

from daar.data import datasets
from daar.models import own
from tests.cli.test_main import one_line, run
from tests.data.own.folders import fill
from tests.suite.test_own_parts import NETWORK

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(own.FOLDERS, raising=False)
    monkeypatch.setattr(datasets, "_own", {})
    fill(tmp_path / "images", {"a": 30, "b": 30})
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "small.py").write_text(NETWORK)


def test_from_images_to_a_slim_network(capsys: Capture) -> None:
    said = run(capsys, "data", "prepare", "pets", "--folder", "images", "--size", 8, "--no-flip", "--title", "My pets")
    assert said.startswith("My pets: packed from own-folder at")
    assert "test: 12 images (6 of each class)" in run(capsys, "data", "check", "results/data/pets")
    mine, images = ["--networks-dir", "networks"], ["--dataset", "pets", "--images", 16]
    run(
        capsys, "train", "--network", "small", *mine, *images[:2], "--epochs", 1, "--batch-size", 16, "--out", "dense",
        "--precision", "float32",
    )  # fmt: skip
    about = json.loads(Path("dense/model.json").read_text())
    assert (about["network"], about["dataset"], about["num_classes"]) == ("small", "pets", 2)
    run(capsys, "score", "dense", *mine, *images, "--out", "importance.safetensors")
    of = ["--importance", "importance.safetensors", "--macs-reduction", 0.5, "--out", "plan.json"]
    run(capsys, "plan", "dense", *mine, *images, *of)
    run(
        capsys, "finetune", "dense", *mine, *images, "--plan", "plan.json", "--epochs", 1, "--batch-size", 16, "--out",
        "slim", "--schedule", "constant",
    )  # fmt: skip
    measured = json.loads(run(capsys, "measure", "slim", *mine, *images[:2], "--json"))
    assert measured["images"] == 12
    assert measured["macs"] < json.loads(run(capsys, "describe", "small", *mine, *images[:2], "--json"))["macs"]
    # a checkpoint says which network it is, not where its code lies
    for command in (["measure", "slim", *images[:2]], ["score", "dense", *images, "--out", "x"]):
        assert "unknown network 'small'" in one_line(run(capsys, *command, code=2))


def test_a_network_of_a_library_takes_the_dataset_s_size(capsys: Capture) -> None:
    run(capsys, "data", "prepare", "pets", "--folder", "images", "--size", 32)
    said = run(capsys, "describe", "torchvision:squeezenet1_1", "--dataset", "pets")
    assert said.startswith("squeezenet1_1 (torchvision, 32x32)")
    run(capsys, "train", "--network", "torchvision:squeezenet1_1", "--dataset", "pets", "--epochs", 0, "--out", "dense")
    assert json.loads(Path("dense/model.json").read_text())["network"] == "torchvision-squeezenet1_1-32"
    measured = json.loads(run(capsys, "measure", "dense", "--dataset", "pets", "--json"))
    assert measured["network"] == "torchvision-squeezenet1_1-32"


def test_it_is_listed(capsys: Capture) -> None:
    assert "networks/small.py" in run(capsys, "list", "networks", "--networks-dir", "networks")
    assert "small" in json.loads(run(capsys, "list", "networks", "--networks-dir", "networks", "--json"))
    assert "timm:NAME" in run(capsys, "list", "networks")
    assert "small" not in json.loads(run(capsys, "list", "networks", "--json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--folder", "nowhere", "--size", 8], "dataset pets: nowhere is not there"),
        (["--folder", "images/a", "--size", 8], "holds 30 images, but no folders of classes"),
        (["--folder", "images"], "names no size"),
        (["--size", 8], "neither folder nor parquet"),
        (["--folder", "images", "--size", 8000], "size: 8000 is greater than the maximum of 512"),
        ([], "unknown dataset 'pets'"),
    ],
)
def test_bad_input(capsys: Capture, options: list[object], said: str) -> None:
    assert said in one_line(run(capsys, "data", "prepare", "pets", *options, code=2))
    assert not Path("results").exists()


def test_folders_of_other_classes_say_what_they_are(capsys: Capture) -> None:
    Path("data").mkdir()
    Path("images").rename("data/train")
    said = one_line(run(capsys, "data", "prepare", "cifar10", "--data-root", "data", code=2))
    assert "data/train holds folders of other classes than CIFAR-10's: a, b." in said
    assert "daar data prepare NAME --folder DIR" in said
