import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from daar import checkpoint
from daar.checkpoint import Description
from daar.errors import InputError
from daar.pruning.groups import channel_graph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.slim import slim


def description(network: str = "resnet20", plan: Plan | None = None) -> Description:
    return Description(
        network=network,
        dataset="cifar10",
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        trained_on=("train",),
        plan=plan,
        provenance={"seed": 3},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "net", checkpoint.build_dense(description()), description())
    return tmp_path / "net"


def test_dense_round_trip(tmp_path: Path) -> None:
    model = checkpoint.build_dense(description()).eval()
    checkpoint.save(tmp_path, model, description())
    loaded, about = checkpoint.load(tmp_path)
    assert about == description()
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("network", ["resnet20", "resnet20_b", "vgg16_bn"])
def test_slim_round_trip_elsewhere_with_only_the_two_files(tmp_path: Path, network: str) -> None:
    model = checkpoint.build_dense(description(network)).eval()
    graph = channel_graph(model, torch.zeros(1, 3, 32, 32))
    groups = tuple(PlannedGroup(g.name, g.size, tuple(range(0, g.size, 3))) for g in graph.in_scope("all"))
    plan = Plan("l1", "uniform", "all", 0.5, 100, 50, groups, {})
    thin = slim(model, graph, plan.removed(graph))
    checkpoint.save(tmp_path / "a", thin, description(network, plan))
    (tmp_path / "b").mkdir()
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "a" / name).rename(tmp_path / "b" / name)
    loaded, about = checkpoint.load(tmp_path / "b")
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), thin(images))
    assert about.plan == plan


def test_building_leaves_torch_s_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoint.build_dense(description())
    assert torch.equal(torch.rand(3), expected)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_newer_format_is_refused(saved: Path) -> None:
    edit(saved, format=99)
    with pytest.raises(InputError, match=r"has format 99; this version reads up to 1\. Update daar"):
        checkpoint.load(saved)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(saved: Path, keep: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="should hold weights, but it cannot be read"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "resnet21"}, "unknown network 'resnet21'; there are: resnet110"),
        ({"network": "resnet32"}, "lacks 'layer1.3.bn1.bias'"),
        ({"num_classes": 12}, "'linear.bias' has shape"),
        ({"num_classes": 0}, "num_classes"),
        ({"mean": "black"}, "mean"),
        ({"surprise": 1}, "surprise"),
        ({"trained_on": ["everything"]}, "trained_on"),
        ({"plan": {"format": 1}}, "plan"),
    ],
)
def test_a_description_that_does_not_fit_is_named(saved: Path, changes: dict, said: str) -> None:
    edit(saved, **changes)
    with pytest.raises(InputError) as error:
        checkpoint.load(saved)
    assert said in str(error.value)


def test_missing_files_are_named(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(
        InputError, match=r"model\.json should be the description of a checkpoint, but there is no such"
    ):
        checkpoint.load(tmp_path / "nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="should hold weights"):
        checkpoint.load(saved)


def test_foreign_tensors_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(path), "extra": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="has 'extra' and 0 more that the network does not have"):
        checkpoint.load(saved)


def test_a_failed_write_leaves_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
        checkpoint.save(saved, checkpoint.build_dense(description()), description())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
