"""Exported files, run by other programs, against the networks they come from."""

import dataclasses
import hashlib
import json
import resource
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from daar.checkpoint import checkpoint
from daar.errors import InputError
from daar.measure import export as exporting
from daar.measure.export import FORMATS, export
from daar.models.shortcut import PaddedShortcut
from daar.pruning.groups import channel_graph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.slim import slim
from tests.checkpoint.test_checkpoint import description
from tests.cli.test_main import one_line, run
from tests.networks import Cnn, enliven, one_thread  # noqa: F401  # one_thread acts on this module

SHAPE = (3, 32, 32)


def plan_of(model: nn.Module) -> Plan:
    """Random channels, so that a padded shortcut needs its index map, and odd widths."""
    dice = np.random.default_rng(0)
    groups = channel_graph(model, torch.zeros(1, *SHAPE)).in_scope("all")
    kept = {g.name: tuple(sorted(map(int, dice.permutation(g.size)[: g.size // 2 | 1]))) for g in groups}
    return Plan(
        "l1", "uniform", "all", 0.5, 100, 50, tuple(PlannedGroup(g.name, g.size, kept[g.name]) for g in groups), {}
    )


def slim_network(name: str) -> tuple[nn.Module, Plan]:
    torch.manual_seed(0)
    dense = enliven(checkpoint.build_dense(description(name)))
    plan = plan_of(dense)
    graph = channel_graph(dense, torch.zeros(1, *SHAPE))
    return slim(dense, graph, plan.removed(graph)), plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim ResNet-20 checkpoint."""
    out = tmp_path_factory.mktemp("slim")
    model, plan = slim_network("resnet20")
    checkpoint.save(out, model, description("resnet20", plan))
    return out


def depthwise() -> nn.Module:
    torch.manual_seed(0)
    net = Cnn(8)
    x = net.layer(nn.Conv2d(3, 6, 3, padding=1), 0, 6)
    x = net.step("relu", net.layer(nn.BatchNorm2d(6), x))
    x = net.layer(nn.Conv2d(6, 12, 3, padding=1, groups=6), x, 12)
    x = net.layer(nn.Hardswish(), net.layer(nn.BatchNorm2d(12), x))
    x = net.layer(nn.Conv2d(12, 5, 1, groups=1), net.layer(nn.Conv2d(12, 12, 1, groups=4), x, 12), 5)
    x = net.layer(nn.Linear(5, 4), net.step("mean", x), 4)
    net.heads.append(x)
    return enliven(net)


def onnx_logits(path: Path, images: torch.Tensor) -> torch.Tensor:
    opened = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(opened.run(None, {opened.get_inputs()[0].name: images.numpy()})[0])


def pt2_logits(path: Path, images: torch.Tensor) -> torch.Tensor:
    return torch.export.load(path).module()(images)


LOGITS = {"onnx": onnx_logits, "pt2": pt2_logits}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("network", ["resnet20", "vgg16_bn", "depthwise"])
def test_the_file_is_the_network_at_any_batch_size(tmp_path: Path, form: str, network: str) -> None:
    model, shape = (depthwise(), (3, 8, 8)) if network == "depthwise" else (slim_network(network)[0], SHAPE)
    if network == "resnet20":
        assert any(m._run is None for m in model.modules() if isinstance(m, PaddedShortcut))
    model.train()
    out = tmp_path / f"net.{form}"
    assert export(model, shape, out, form, {"network": network}) <= FORMATS[form].tolerance
    assert model.training
    model.eval()
    for count in (1, 7):
        images = torch.randn(count, *shape)
        with torch.no_grad():
            expected = model(images)
        got = LOGITS[form](out, images)
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert expected.std() > 0.01  # not a network that says the same of everything
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_onnx_by_its_reference_in_numpy(tmp_path: Path) -> None:
    model = depthwise()
    export(model, (3, 8, 8), tmp_path / "net.onnx", "onnx", {})
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    images = torch.randn(3, 3, 8, 8)
    (got,) = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(np.asarray(got), model(images).numpy(), rtol=1e-4, atol=1e-5)


def test_what_the_files_say_of_themselves(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    said = run(capsys, "export", folder, "--format", "onnx", "--out", tmp_path / "net.onnx")
    assert said.startswith(f"{tmp_path / 'net.onnx'}: equal to the network")
    run(capsys, "export", folder, "--format", "pt2")
    extra = {"daar.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    card: dict[str, Any] = json.loads(extra["daar.json"])
    meta = onnx.load(tmp_path / "net.onnx").metadata_props
    assert {p.key: p.value for p in meta} == {k: v if isinstance(v, str) else json.dumps(v) for k, v in card.items()}

    plan = json.dumps(json.loads((folder / "model.json").read_text())["plan"], sort_keys=True, separators=(",", ":"))
    assert card["plan"] == hashlib.sha256(plan.encode()).hexdigest()[:12]
    assert (card["network"], card["dataset"], card["num_classes"]) == ("resnet20", "cifar10", 10)
    assert (card["mean"], card["std"], card["input_shape"]) == ([0.5] * 3, [0.2] * 3, [3, 32, 32])
    assert card["checkpoint"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    # convs and the linear of ONNX itself: weights times places
    shapes = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "net.onnx")).graph
    places = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][2:] for v in shapes.value_info}
    sizes = {i.name: int(np.prod(i.dims)) for i in shapes.initializer}
    counted = {
        n.output[0]: sizes[n.input[1]] * int(np.prod(places.get(n.output[0], [])))
        for n in shapes.node
        if n.op_type in ("Conv", "Gemm")
    }
    assert (len(counted), sum(counted.values())) == (20, card["macs"])


def test_no_path_of_this_machine_in_the_files(folder: Path, tmp_path: Path) -> None:
    model, _ = checkpoint.load(folder)
    home = str(Path(exporting.__file__).parents[2]).encode()
    for form in FORMATS:
        export(model, SHAPE, tmp_path / form, form, {})
    assert home not in (tmp_path / "onnx").read_bytes()
    with zipfile.ZipFile(tmp_path / "pt2") as archive:
        assert not [name for name in archive.namelist() if home in archive.read(name)]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("damage", [1e-2, float("nan")])
def test_a_file_that_is_not_the_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, damage: float
) -> None:
    kind = FORMATS[form]

    def writes_other_weights(program: torch.export.ExportedProgram, about: Any) -> bytes:
        name, weight = next((name, value) for name, value in program.state_dict.items() if value.dim() == 4)
        program.state_dict[name] = nn.Parameter(weight + damage)
        return kind.write(program, about)

    monkeypatch.setitem(FORMATS, form, dataclasses.replace(kind, write=writes_other_weights))
    with pytest.raises(InputError, match="should match the network's"):
        export(depthwise(), (3, 8, 8), tmp_path / "out" / "net", form, {})
    assert not list((tmp_path / "out").iterdir())


class Frozen(nn.Module):
    """Looks at its logits: no graph holds that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torch does not export the network") as error:
        export(Frozen(), (3, 8, 8), tmp_path / "net.pt2", "pt2", {})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    err = one_line(run(capsys, "export", folder, "--format", "onnx", "--out", tmp_path / "net.onnx", code=2))
    assert err.endswith(f"{package} is not installed. Run: pip install -e '.[export]'\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("form", "size"), [("onnx", 100), ("pt2", 100_000)])
def test_a_full_disk_is_told_as_one(folder: Path, tmp_path: Path, form: str, size: int) -> None:
    command = [sys.executable, "-m", "daar", "export", str(folder), "--format", form, "--out", str(tmp_path / "net")]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 2, ended.stderr
    assert f"cannot write {tmp_path / 'net'}: File too large" in one_line(ended.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("said", ["could not create a primitive", "DefaultCPUAllocator: can't allocate memory"])
def test_out_of_memory_is_not_blamed_on_the_network(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.export, "export", full)
    err = one_line(run(capsys, "export", folder, "--format", "pt2", "--out", tmp_path / "net", code=2))
    assert err.startswith(f"daar: error: out of memory: {said}")


def test_the_lock_has_the_extra() -> None:
    root = Path(exporting.__file__).parents[2]
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["export"]
    locked = dict(line.split("==", 1) for line in (root / "requirements.lock").read_text().splitlines() if "==" in line)
    for requirement in wanted:
        name, least = requirement.split(">=")
        assert [int(n) for n in locked[name].split(".")] >= [int(n) for n in least.split(".")], requirement
    assert {name for kind in FORMATS.values() for name in kind.modules} == {name.split(">=")[0] for name in wanted}


def test_bad_input(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    assert "there is no such file" in one_line(run(capsys, "export", tmp_path / "no", "--format", "pt2", code=2))
    assert "invalid choice: 'tflite'" in run(capsys, "export", folder, "--format", "tflite", code=2)
    with pytest.raises(InputError, match=r"unknown format 'tflite'.*onnx, pt2"):
        export(depthwise(), (3, 8, 8), tmp_path / "net", "tflite", {})
    (tmp_path / "file").write_text("")
    taken = run(capsys, "export", folder, "--format", "pt2", "--out", tmp_path / "file" / "net.pt2", code=2)
    assert "cannot write" in one_line(taken)
