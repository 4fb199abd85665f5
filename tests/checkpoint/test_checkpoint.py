import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.errors import InputError
from daar.pruning.groups import channel_graph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.slim import slim
from daar.storage import files


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


def test_copied_alone_into_another_folder_it_gives_the_same_logits_in_another_process(tmp_path: Path) -> None:
    model = checkpoint.build_dense(description()).eval()
    graph = channel_graph(model, torch.zeros(1, 3, 32, 32))
    groups = tuple(PlannedGroup(g.name, g.size, tuple(range(0, g.size, 2))) for g in graph.in_scope("all"))
    plan = Plan("l1", "uniform", "all", 0.5, 100, 50, groups, {})
    thin = slim(model, graph, plan.removed(graph))
    checkpoint.save(tmp_path / "here" / "net", thin, description(plan=plan))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("model.safetensors", "model.json"):
        shutil.copy(tmp_path / "here" / "net" / name, elsewhere)
    shutil.rmtree(tmp_path / "here")
    images = torch.randn(4, 3, 32, 32)
    safetensors.torch.save_file({"images": images}, tmp_path / "images.safetensors")
    script = (
        "import sys, torch, safetensors.torch; from daar.checkpoint import checkpoint; torch.set_num_threads(1)\n"
        "model, about = checkpoint.load(sys.argv[1]); images = safetensors.torch.load_file(sys.argv[2])['images']\n"
        "with torch.no_grad(): logits = model(images)\n"
        "safetensors.torch.save_file({'logits': logits}, sys.argv[3])"
    )
    command = [sys.executable, "-c", script, "elsewhere", "images.safetensors", "logits.safetensors"]
    path = {"PYTHONPATH": str(Path(checkpoint.__file__).parents[2]), "PATH": ""}
    subprocess.run(command, cwd=tmp_path, env=path, check=True)
    with torch.no_grad():
        torch.testing.assert_close(
            safetensors.torch.load_file(tmp_path / "logits.safetensors")["logits"], thin(images), rtol=0, atol=1e-6
        )


def test_building_leaves_torch_s_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoint.build_dense(description())
    assert torch.equal(torch.rand(3), expected)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_format_1(folder: Path) -> None:
    """What checkpoints were before model.json kept the hash of the weights."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    del content["weights_sha256"]
    path.write_text(json.dumps({**content, "format": 1}))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_hash_of_the_weights_is_kept(saved: Path) -> None:
    content = json.loads((saved / "model.json").read_text())
    assert content["weights_sha256"] == hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()


def test_older_checkpoints_without_the_hash_still_load(saved: Path) -> None:
    before = checkpoint.load(saved)
    as_format_1(saved)
    after = checkpoint.load(saved)
    assert after[1] == before[1]
    assert all(map(torch.equal, after[0].state_dict().values(), before[0].state_dict().values()))


def test_format_2_without_the_hash_is_refused(saved: Path) -> None:
    as_format_1(saved)
    edit(saved, format=2)
    assert "weights_sha256" in refusal(saved)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.999])
def test_a_flipped_bit_is_noticed(saved: Path, position: float) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[header + int(position * (len(content) - header))] ^= 1
    path.write_bytes(content)
    said = refusal(saved)
    assert "is not the file that model.json names" in said
    assert "copy both files again" in said


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_files_of_two_checkpoints_are_noticed(tmp_path: Path, saved: Path, name: str) -> None:
    torch.manual_seed(1)
    checkpoint.save(tmp_path / "other", checkpoint.build_dense(description()), description())
    shutil.copy(tmp_path / "other" / name, saved)
    assert "another checkpoint's" in refusal(saved)


def test_a_crash_between_the_two_files_is_noticed_and_repaired_by_saving_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    torch.manual_seed(1)
    newer = checkpoint.build_dense(description())
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, newer, description())
    assert "its writing was cut short" in refusal(saved)
    checkpoint.save(saved, newer, description())
    state = checkpoint.load(saved)[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in newer.state_dict().items())


def test_a_crash_before_the_first_description_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_json", lambda *_: None)
    checkpoint.save(tmp_path, checkpoint.build_dense(description()), description())
    assert "model.json should be the description of a checkpoint, but there is no such file" in refusal(tmp_path)


def test_a_newer_format_is_refused(saved: Path) -> None:
    edit(saved, format=99)
    with pytest.raises(InputError, match=r"has format 99; this version reads up to 2\. Update daar"):
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
        ({"network": "resnet21"}, "unknown network 'resnet21'; there are: "),
        (
            {"network": "resnet32"},
            "does not fit the resnet32 of its model.json: missing 'layer1.3.conv1.weight', 'layer1.3.bn1.weight'",
        ),
        ({"num_classes": 12}, "'linear.weight' has shape (10, 64), expected (12, 64) (and 1 more of another shape)"),
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
    with pytest.raises(InputError, match="should be weights, but there is no such file"):
        checkpoint.load(saved)


def test_foreign_tensors_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(path), "extra": torch.zeros(1)}, path)
    as_format_1(saved)
    assert "unknown 'extra'. Copy both again" in refusal(saved)


def test_a_failed_write_leaves_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
        checkpoint.save(saved, checkpoint.build_dense(description()), description())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
