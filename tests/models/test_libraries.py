"""Networks of timm and torchvision, by names that are safe in paths. Nothing is downloaded."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torchvision

from daar import models
from daar.errors import InputError
from daar.models import libraries, library_networks
from daar.models.libraries import LibraryNetwork


@pytest.mark.parametrize(
    ("said", "name", "size", "weights"),
    [
        ("torchvision:resnet18", "torchvision-resnet18-224", 224, ""),
        ("torchvision:resnet18@64", "torchvision-resnet18-64", 64, ""),
        ("torchvision:resnet18.IMAGENET1K_V1@64", "torchvision-resnet18.IMAGENET1K_V1-64", 64, "IMAGENET1K_V1"),
    ],
)
def test_a_name_in_paths_is_the_same_network(said: str, name: str, size: int, weights: str) -> None:
    network = libraries.get(said)
    assert (network.name, network.input_shape, network.weights) == (name, (3, size, size), weights)
    assert models.get(name) == network == models.get(said)
    assert models.title(name) == network.title
    assert not set(name) & set(":/@ ")


def test_a_size_is_filled_in_where_there_is_none() -> None:
    assert libraries.at_size("torchvision:resnet18", 40) == "torchvision:resnet18@40"
    for name in ("torchvision:resnet18@64", "torchvision-resnet18-64", "resnet18"):
        assert libraries.at_size(name, 40) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:res net", "Names are of letters"),
        ("torchvision:../x", "Names are of letters"),
        ("torchvision:", "Names are of letters"),
        ("torchvision:hf-hub:someone/network", "Names are of letters"),
        ("torchvision:resnet18@7", "expected 8 to 4,096"),
        ("torchvision:resnet18@5000", "expected 8 to 4,096"),
        ("hub:resnet18", "unknown network"),
    ],
)
def test_names_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.get(name)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else found(name))
    with pytest.raises(InputError, match=r"needs the package timm, .* pip install timm"):
        models.get("timm:resnet18")


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet", "mobilenet_v3_small"])
def test_torchvision_at_another_size(name: str) -> None:
    """The same weights from the same seed as torchvision's own constructor draws."""
    network = models.get(f"torchvision:{name}@64")
    torch.manual_seed(3)
    model = network.build(5).eval()
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(3)
    other = torchvision.models.get_model(name, weights=None, num_classes=5, **options).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(images), other(images))
    assert network.code(["build"]) == ["daar.models.library_networks:build"]


def test_a_network_that_the_library_has_not_or_that_cannot_take_the_size() -> None:
    with pytest.raises(InputError, match=r"torchvision has no network 'resnet1'; it has .*resnet1"):
        models.get("torchvision:resnet1").build(5)
    with pytest.raises(InputError, match="torchvision:alexnet@8: the network fails on an image of 8x8"):
        models.get("torchvision:alexnet@8").build(5)


class TestPublishedWeights:
    """They are read to train alone; the classifier is kept where it has as many classes."""

    @pytest.fixture(autouse=True)
    def _cached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(1)
        self.published = torchvision.models.squeezenet1_1(num_classes=1000).state_dict()
        monkeypatch.setattr(library_networks, "_from_torchvision", lambda *_: self.published)

    def network(self) -> LibraryNetwork:
        return libraries.get("torchvision:squeezenet1_1.IMAGENET1K_V1@64")

    @pytest.mark.parametrize("classes", [5, 1000])
    def test_start_a_training(self, classes: int) -> None:
        fresh = self.network().build(classes).state_dict()
        with libraries.starting():
            started = self.network().build(classes).state_dict()
        last = [name for name in started if name.startswith("classifier.1")]
        assert len(last) == 2
        for name, value in started.items():
            published = classes == 1000 or name not in last
            assert torch.equal(value, self.published[name]) if published else value.shape == fresh[name].shape
        assert not torch.equal(fresh["features.0.weight"], self.published["features.0.weight"])

    def test_others_are_refused(self) -> None:
        self.published["features.0.weight"] = torch.zeros(3)
        with libraries.starting(), pytest.raises(InputError, match=r"another shape of features\.0\.weight"):
            self.network().build(5)
        del self.published["features.0.weight"]
        with libraries.starting(), pytest.raises(InputError, match=r"have no features\.0\.weight"):
            self.network().build(5)


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with libraries.starting():
        with pytest.raises(InputError, match=r"no weights 'V9' of resnet18; it has: IMAGENET1K_V1"):
            models.get("torchvision:resnet18.V9@64").build(5)

        def offline(*_: object, **__: object) -> None:
            raise OSError("no\nnetwork")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
        with pytest.raises(InputError, match=r"cannot be downloaded: no network\. Fetch them") as error:
            models.get("torchvision:resnet18.IMAGENET1K_V1@64").build(5)
    assert "\n" not in str(error.value)


def test_timm_by_what_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in, since timm is an extra."""
    asked: list[Any] = []
    stand_in = ModuleType("timm")

    def create_model(name: str, **options: Any) -> torch.nn.Module:
        asked.append((name, options))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, options["num_classes"]))

    def config(name: str) -> Any:
        return type("Config", (), {"fixed_input_size": name.startswith("vit"), "hf_hub_id": f"timm/{name}"})

    stand_in.create_model = create_model  # type: ignore[attr-defined]
    stand_in.is_model = lambda name: name != "nope"  # type: ignore[attr-defined]
    stand_in.list_models = lambda: ["resnet18", "noper"]  # type: ignore[attr-defined]
    stand_in.models = type("Models", (), {"get_pretrained_cfg": staticmethod(config)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    models.get("timm:resnet18@16").build(5)
    models.get("timm:vit_tiny@16").build(5)
    assert asked == [("resnet18", {"num_classes": 5}), ("vit_tiny", {"num_classes": 5, "img_size": 16})]
    stand_in.list_pretrained = lambda _: ["resnet18.a1"]  # type: ignore[attr-defined]
    hub = ModuleType("huggingface_hub")
    cached = {"model.safetensors": None, "pytorch_model.bin": "/cache/pytorch_model.bin"}
    hub.try_to_load_from_cache = lambda _, file: cached[file]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with libraries.starting(), pytest.raises(InputError, match="weights 'b' of resnet18; it has: a1"):
        models.get("timm:resnet18.b@16").build(5)
    with libraries.starting(), pytest.raises(InputError, match="cannot be downloaded: 'num_classes'"):
        models.get("timm:resnet18.a1@16").build(5)
    file = {"file": "/cache/pytorch_model.bin"}
    assert asked[-1] == ("resnet18.a1", {"pretrained": True, "pretrained_cfg_overlay": file})
    with pytest.raises(InputError, match=r"timm has no network 'nope'; it has 2, such as noper"):
        models.get("timm:nope@16").build(5)
