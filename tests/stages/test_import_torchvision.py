"""Weights of torchvision, fetched by their names: never from the network in a test."""

import io
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from daar import models
from daar.checkpoint import checkpoint
from daar.cli.main import main
from daar.errors import InputError
from daar.stages.import_weights import import_weights
from tests.stages.test_import_weights import MEAN, STD, State, refusal, require_equal, run, written


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    assert torch.hub.get_dir() == str(folder.parent)
    return folder


@pytest.mark.parametrize(
    ("network", "name", "top1", "resize"),
    # torchvision's own table of weights
    [("resnet18", "IMAGENET1K_V1", 69.758, 256), ("mobilenet_v2", "IMAGENET1K_V2", 72.154, 232)],
)
def test_torchvision_s_weights_are_fetched_by_name_and_give_its_logits(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, network: str, name: str, top1: float, resize: int
) -> None:
    theirs = torchvision.models.get_model(network, weights=None).eval()
    asked: dict[str, object] = {}

    def download(url: str, **options: object) -> State:
        asked.update(options, url=url)
        return theirs.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    options = ["--network", network, "--dataset", "imagenet", "--out", str(tmp_path / "out")]
    main(["import", f"torchvision:{name}", *options])
    model, about = checkpoint.load(tmp_path / "out")
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image), theirs(image), rtol=0, atol=1e-6)
    assert (asked["check_hash"], asked["weights_only"]) == (True, True)
    assert asked["url"] == torchvision.models.get_model_weights(network)[name].url
    assert (about.mean, about.std, about.num_classes, about.input_shape) == (MEAN, STD, 1000, (3, 224, 224))
    assert about.trained_on == ("train", "val")
    origin = about.provenance["imported"]
    assert origin["torchvision"].endswith(f"_Weights.{name}")
    assert (origin["published_top1"], origin["resize"], origin["crop"]) == (top1, resize, 224)


def test_a_file_of_torchvision_is_imported_as_it_is(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(weights=None)
    file = written(tmp_path, theirs.state_dict(), "resnet18-f37072fd.pth")
    import_weights(file=file, network="resnet18", dataset="imagenet", out=tmp_path / "out")
    require_equal(tmp_path / "out", theirs.state_dict())
    assert checkpoint.describe(tmp_path / "out").mean == MEAN


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (urllib.error.URLError("Name or service not known"), "Name or service not known"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    ],
)
def test_without_a_network_the_file_to_fetch_is_named(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception, reason: str
) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise answer

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    said = refusal("torchvision:IMAGENET1K_V1", tmp_path / "out", "resnet18", "imagenet")
    assert said.startswith("resnet18-f37072fd.pth cannot be downloaded: ")
    assert reason in said
    assert "give the local file: daar import resnet18-f37072fd.pth --network resnet18" in said
    assert not list(hub.iterdir())


class Reply(io.BytesIO):
    """What the network sends."""

    def info(self) -> Any:
        return {}

    def get_all(self, _: str) -> None: ...


def test_a_download_of_another_hash_is_refused(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Reply(b"not what was published")
    monkeypatch.setattr(reply, "info", lambda: reply)
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_: reply)
    said = refusal("torchvision:IMAGENET1K_V1", tmp_path / "out", "resnet18", "imagenet")
    assert "cannot be downloaded: invalid hash value" in said
    assert not list(hub.iterdir())


@pytest.mark.parametrize("content", [b"half a file", None])
def test_a_damaged_file_in_the_cache_is_refused(tmp_path: Path, hub: Path, content: bytes | None) -> None:
    torch.save(models.get("resnet18").build(1000).state_dict(), hub / "resnet18-f37072fd.pth")
    if content is not None:
        (hub / "resnet18-f37072fd.pth").write_bytes(content)
    said = refusal("torchvision:IMAGENET1K_V1", tmp_path / "out", "resnet18", "imagenet")
    assert "resnet18-f37072fd.pth in torchvision's cache is damaged" in said
    assert "Delete it and import again" in said


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("V1", "resnet50", "no weights 'V1' for resnet50; there are: IMAGENET1K_V1, IMAGENET1K_V2."),
        ("IMAGENET1K_V1", "resnet56", "torchvision has no weights for resnet56 of 3×32×32 images"),
        ("IMAGENET1K_V1", "googlenet", "torchvision has no weights for googlenet of 3×32×32 images"),
    ],
)
def test_what_torchvision_does_not_have_is_named(tmp_path: Path, name: str, network: str, said: str) -> None:
    assert said in refusal(f"torchvision:{name}", tmp_path / "out", network)


def test_torchvision_s_weights_take_no_other_mean(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="brings its own mean and std"):
        run(Path("torchvision:IMAGENET1K_V1"), tmp_path / "out", "resnet18")
