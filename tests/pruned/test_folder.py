"""Slim networks in folders: the same in another process, and damage is said in one line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

import daar
from daar.checkpoint import checkpoint
from daar.errors import InputError
from daar.pruned import Pruned
from daar.storage import schemas
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, Tokens, Two, made

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
DEPTH = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def tuned(pruned: Pruned) -> Pruned:
    with torch.no_grad():
        for value in pruned.model.parameters():
            value.add_(0.01)
    return pruned


def test_a_new_process_has_the_slim_network_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    pruned = tuned(daar.prune(enliven(torchvision.models.mobilenet_v3_small()), x, method="l1", exclude=["features.0"]))
    daar.save(pruned, tmp_path / "slim")
    assert sorted(file.name for file in (tmp_path / "slim").iterdir()) == ["model.safetensors", "slim.json"]
    with torch.no_grad():
        expected = pruned.model.eval()(x)
    safetensors.torch.save_file({"x": x, "expected": expected}, tmp_path / "images.safetensors")
    code = """
import sys, safetensors.torch, torch, torchvision, daar
torch.set_num_threads(1)
net = daar.load(torchvision.models.mobilenet_v3_small(), sys.argv[1]).eval()
held = safetensors.torch.load_file(sys.argv[2])
print(torch.equal(net(held["x"]), held["expected"]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "slim"), str(tmp_path / "images.safetensors")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout == "True\n"


@pytest.mark.parametrize(
    ("kind", "images"),
    [(Two, (X, DEPTH)), (Two, {"x": X, "depth": DEPTH}), (Tokens, {"ids": torch.ones(4, 20, dtype=torch.int64)})],
)
def test_networks_come_back_by_how_they_are_called(kind: type[nn.Module], images: Any, tmp_path: Path) -> None:
    pruned = tuned(daar.prune(made(kind), images, method="l1", macs_reduction=0.3))
    daar.save(pruned, tmp_path)
    again = daar.load(made(kind).train(), tmp_path)
    assert all(part.training for part in again.modules())
    for name, value in pruned.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_types_are_those_saved_and_what_is_trained_is_the_model_s(tmp_path: Path) -> None:
    pruned = daar.prune(made(Line), X, method="l1")
    pruned.model.to(torch.bfloat16)
    daar.save(pruned, tmp_path)
    model = made(Line)
    model.get_parameter("0.weight").requires_grad_(False)
    again = daar.load(model, str(tmp_path))
    assert {value.dtype for value in again.parameters()} == {torch.bfloat16}
    assert [name for name, value in again.named_parameters() if not value.requires_grad] == ["0.weight"]
    assert torch.equal(again(X.bfloat16()), pruned.model(X.bfloat16()))


def test_tied_weights_are_saved_and_stay_tied(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        model[4].weight = model[2].weight
        return nn.Sequential(model, nn.Conv2d(8, 2, 1))

    torch.manual_seed(0)
    pruned = tuned(daar.prune(tied(), X, method="l1", macs_reduction=0.2))
    daar.save(pruned, tmp_path)
    again = daar.load(tied(), tmp_path)
    assert again.get_parameter("0.4.weight") is again.get_parameter("0.2.weight")
    assert torch.equal(again(X), pruned.model(X))


def rewrite(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "slim.json").read_text(encoding="utf-8"))
        change(content)
        (folder / "slim.json").write_text(json.dumps(content), encoding="utf-8")

    return apply


def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return apply


def other_weights(folder: Path) -> None:
    """Sound ones of another network, with the hash that goes with them."""
    daar.save(daar.prune(made(Two), (X, DEPTH), method="l1", macs_reduction=0.2), folder / "other")
    described = json.loads((folder / "other" / "slim.json").read_text(encoding="utf-8"))
    (folder / "other" / "model.safetensors").rename(folder / "model.safetensors")
    rewrite(lambda content: content.update(weights_sha256=described["weights_sha256"]))(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "slim.json").unlink(), "slim.json should be the description .* no such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors should be the weights .* no such"),
        (lambda folder: (folder / "slim.json").write_text("{"), "slim.json should be .* is not JSON"),
        (lambda folder: (folder / "slim.json").write_bytes(b"\x80\x04."), "slim.json should be .* in UTF-8"),
        (weights(lambda content: content[:-4]), "is not the file that slim.json names: its SHA-256 is"),
        (weights(lambda content: content[:-1] + bytes([content[-1] ^ 1])), "is not the file that slim.json names"),
        (rewrite(lambda content: content.update(format=2)), "slim.json has format 2; this version reads up to 1"),
        (rewrite(lambda content: content.pop("plan")), r"slim.json.*plan"),
        (rewrite(lambda content: content["plan"].update(scope="outer")), r"slim.json: plan.*scope"),
        (rewrite(lambda content: content["plan"]["groups"][0].update(kept=[99])), "below 16"),
        (rewrite(lambda content: content["plan"].update(exclude=["nowhere"])), "exclude names 'nowhere'"),
        (
            rewrite(lambda content: content["plan"]["groups"][0]["kept"].pop()),
            "does not fit the slim network: .* shape",
        ),
        (rewrite(lambda content: content.update(called_with={"shape": [3]})), "slim.json.*called_with"),
        (rewrite(lambda content: content.update(called_with={"shape": [3, -1], "dtype": "float32"})), "called_with"),
        (rewrite(lambda content: content.update(called_with={"shape": [3, 9], "dtype": "qint8"})), "called_with"),
        (rewrite(lambda content: content.update(called_with={"shape": [1, 9, 9], "dtype": "float32"})), "Line fails"),
        (rewrite(lambda content: content.update(called_with={"value": 3})), "called_with should be shapes and types"),
        (other_weights, "does not fit the slim network: unknown 'body.bias'"),
    ],
)
def test_damage_is_said_in_one_line(damage: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    daar.save(daar.prune(made(Line), X, method="l1"), tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=said) as error:
        daar.load(made(Line), tmp_path)
    assert "\n" not in str(error.value)


def test_other_networks_and_other_things_are_refused(tmp_path: Path) -> None:
    pruned = daar.prune(made(Line), X, method="l1")
    daar.save(pruned, tmp_path / "slim")
    with pytest.raises(
        InputError, match=r"slim was saved from a .*\.Line; .* given is one too: .* in this network it is"
    ) as error:
        daar.load(Line(24), tmp_path / "slim")
    assert str(error.value).endswith(". Give the network that was pruned.")
    with pytest.raises(
        InputError, match=r"slim was saved from a .*\.Line; the network given is a torchvision.*\.ResNet: "
    ):
        daar.load(torchvision.models.resnet18(), tmp_path / "slim")
    with pytest.raises(InputError, match=r"pruned is a Line; it must be what daar\.prune returns"):
        daar.save(pruned.model, tmp_path / "slim")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="folder is 3; it must be a path"):
        daar.save(pruned, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="folder is None"):
        daar.load(made(Line), None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model is a str"):
        daar.load("resnet18", tmp_path / "slim")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        daar.save(pruned, tmp_path / "file")


def test_the_plan_can_be_read_again(tmp_path: Path) -> None:
    pruned = daar.prune(made(Line), X, method="l1", exclude=["3"], macs_reduction=0.2)
    daar.save(pruned, tmp_path / "slim")
    plan = daar.load_plan(tmp_path / "slim")
    assert plan == pruned.plan
    again = daar.slim_by(made(Line), X, plan)
    assert [value.shape for value in again.parameters()] == [value.shape for value in pruned.model.parameters()]
    with pytest.raises(InputError, match=r"slim\.json should be the description .* no such file"):
        daar.load_plan(tmp_path)
    with pytest.raises(InputError, match=r"plan is a str; .* such as pruned.plan or daar.load_plan\(folder\)"):
        daar.slim_by(made(Line), X, str(tmp_path))  # type: ignore[arg-type]


def test_commands_say_that_such_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    daar.save(daar.prune(made(Line), X, method="l1"), tmp_path / "slim")
    for read in (checkpoint.load, checkpoint.describe):
        with pytest.raises(
            InputError, match=r"slim should be a checkpoint .* is a folder of daar\.save\. .* daar\.load"
        ):
            read(tmp_path / "slim")
    with pytest.raises(InputError, match=r"model\.json should be"):
        checkpoint.load(tmp_path)


def test_every_key_of_slim_json_is_described() -> None:
    schema = schemas.schema("slim")
    assert sorted(schema["required"]) == sorted(schema["properties"])
    assert all("description" in part for part in schema["properties"].values())
