import io
import math
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import thop
import torch
from torch import nn

from daar import models
from daar.checkpoint import checkpoint
from daar.cli.main import main
from daar.errors import InputError
from daar.pruning.groups import channel_graph
from daar.pruning.slim import slim
from daar.stages.import_weights import import_weights
from daar.stages.measure import measure

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
State = dict[str, torch.Tensor]


def run(file: Path, out: Path, network: str = "resnet20", mean: tuple[float, ...] = MEAN) -> None:
    import_weights(file=file, network=network, dataset="cifar10", out=out, mean=mean, std=STD)


def refusal(file: Path | str, out: Path, network: str = "resnet20", dataset: str = "cifar10") -> str:
    """The one line that an import ends in; nothing is written."""
    with pytest.raises(InputError) as error:
        import_weights(file=file, network=network, dataset=dataset, out=out)
    assert "\n" not in str(error.value)
    assert not out.exists()
    return str(error.value)


def written(tmp_path: Path, state: Any, name: str = "a.pt") -> Path:
    torch.save(state, tmp_path / name)
    return tmp_path / name


def imported(tmp_path: Path) -> dict[str, Any]:
    return checkpoint.describe(tmp_path / "out").provenance["imported"]


def require_equal(folder: Path, state: State) -> None:
    model, _ = checkpoint.load(folder)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.fixture
def state() -> State:
    return models.get("resnet20").build(10).state_dict()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_wrapped_and_dataparallel_files_are_read(tmp_path: Path, state: dict, wrap, prefix: str) -> None:  # type: ignore[no-untyped-def]
    torch.save(wrap({f"{prefix}{name}": value for name, value in state.items()}), tmp_path / "a.th")
    run(tmp_path / "a.th", tmp_path / "out")
    require_equal(tmp_path / "out", state)
    about = checkpoint.describe(tmp_path / "out")
    assert (about.mean, about.trained_on) == (MEAN, ("train", "val"))
    assert about.provenance["imported"]["file"] == "a.th"


def as_hrankplus(state: State) -> OrderedDict[str, torch.Tensor]:
    """Under the names of lmbxmu/HRankPlus's ResNets, whose classifier is `fc`."""
    return OrderedDict((name.replace("linear.", "fc."), value) for name, value in state.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_files_as_hrankplus_saves_them_are_read_numpy_scalars_and_all(
    tmp_path: Path, state: State, zipped: bool
) -> None:
    model = models.get("resnet20").build(10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {
        "epoch": np.int64(149),
        "state_dict": as_hrankplus(state),
        "best_top1_acc": np.float64(93.26),
        "best": (np.float32(1), np.bool_(True), torch.tensor(93.26)),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(content, tmp_path / "resnet_56.pt", _use_new_zipfile_serialization=zipped)
    before = set(torch.serialization.get_safe_globals())
    run(tmp_path / "resnet_56.pt", tmp_path / "out")
    require_equal(tmp_path / "out", state)
    assert set(torch.serialization.get_safe_globals()) == before


def test_scalars_of_numpy_1_bear_another_name_and_are_read_too(tmp_path: Path, state: State) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "best_top1": np.float64(93)}, buffer, _use_new_zipfile_serialization=False)
    now, then = b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n"
    assert now in buffer.getvalue()
    (tmp_path / "old.pt").write_bytes(buffer.getvalue().replace(now, then))
    run(tmp_path / "old.pt", tmp_path / "out")
    require_equal(tmp_path / "out", state)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(nn.Sequential(OrderedDict(module=model))),
    ],
)
def test_what_wrappers_put_before_the_names_is_taken_off(
    tmp_path: Path, state: State, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    model = models.get("resnet20").build(10)
    model.load_state_dict(state)
    wrapped = wrap(model).state_dict()
    assert not set(wrapped) & set(state)
    run(written(tmp_path, wrapped), tmp_path / "out")
    require_equal(tmp_path / "out", state)


def test_what_thop_leaves_in_a_state_dict_is_passed_over(tmp_path: Path, state: State) -> None:
    model = models.get("resnet20").build(10).eval()
    model.load_state_dict(state)
    thop.profile(model, inputs=(torch.zeros(1, 3, 32, 32),), verbose=False)
    assert {"total_ops", "layer1.0.total_params"} < set(model.state_dict())
    run(written(tmp_path, model.state_dict()), tmp_path / "out")
    require_equal(tmp_path / "out", state)


def test_safetensors_files_are_read_foreign_or_ours(tmp_path: Path, state: State) -> None:
    safetensors.torch.save_file(as_hrankplus(state), tmp_path / "a.safetensors")
    run(tmp_path / "a.safetensors", tmp_path / "foreign")
    run(tmp_path / "foreign" / "model.safetensors", tmp_path / "ours")
    for folder in ("foreign", "ours"):
        require_equal(tmp_path / folder, state)
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "should hold weights, but it cannot be read" in refusal(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32_with_a_note(tmp_path: Path, state: State, kind: torch.dtype) -> None:
    cast = {name: value.to(kind) if value.is_floating_point() else value for name, value in state.items()}
    run(written(tmp_path, cast), tmp_path / "out")
    require_equal(tmp_path / "out", {name: value.to(state[name].dtype) for name, value in cast.items()})
    assert checkpoint.load(tmp_path / "out")[0].state_dict()["conv1.weight"].dtype == torch.float32
    assert imported(tmp_path)["converted_from"] == [str(kind).removeprefix("torch.")]


def test_float32_weights_bear_no_note_and_old_files_need_no_counters(tmp_path: Path, state: State) -> None:
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    run(written(tmp_path, old), tmp_path / "out")
    require_equal(tmp_path / "out", state)
    assert sorted(imported(tmp_path)) == ["file", "sha256"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, state: State, value: float) -> None:
    broken = state["layer2.0.conv1.weight"].double()
    broken[3, 2, 1, 1] = value
    file = written(tmp_path, {**state, "layer2.0.conv1.weight": broken})
    kind = "NaN" if math.isnan(value) else "infinite"
    expected = f"layer2.0.conv1.weight has 1 {kind} value of 4,608. The training failed or the file is damaged"
    assert expected in refusal(file, tmp_path / "out")


@pytest.mark.parametrize(
    "kind", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_types_that_are_no_floats_of_16_to_64_bits_are_refused_by_name(
    tmp_path: Path, state: State, kind: torch.dtype, suffix: str
) -> None:
    cast = {**state, "conv1.weight": state["conv1.weight"].to(kind)}
    file = tmp_path / f"a{suffix}"
    torch.save(cast, file) if suffix == ".pt" else safetensors.torch.save_file(cast, file)
    said = refusal(file, tmp_path / "out")
    assert f"conv1.weight is of {kind}, expected torch.float32. Give weights of this type; quantised ones" in said


@pytest.mark.parametrize(("counter", "taken"), [
    (torch.tensor(7, dtype=torch.int32), 7),
    (torch.tensor(7.0), 7),  # averaged, as of an exponential moving average
    (torch.tensor(7.5), None),
    (torch.tensor(float("nan")), None),
    (torch.tensor(float("inf")), None),
    (torch.tensor(-1), None),
    (torch.tensor(True), None),
    (torch.tensor(1 + 1j), None),
])  # fmt: skip
def test_counts_of_batches_are_whole_numbers_or_refused(
    tmp_path: Path, state: State, counter: torch.Tensor, taken: int | None
) -> None:
    file = written(tmp_path, {**state, "bn1.num_batches_tracked": counter})
    if taken is None:
        assert ": bn1.num_batches_tracked " in refusal(file, tmp_path / "out")
    else:
        run(file, tmp_path / "out")
        assert int(checkpoint.load(tmp_path / "out")[0].state_dict()["bn1.num_batches_tracked"]) == taken


def test_what_was_cast_is_said(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path, {n: v.half() if "conv" in n else v.double() if "linear" in n else v for n, v in state.items()}
    )
    main(["import", str(file), "--network", "resnet20", "--dataset", "cifar10", "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("cast weights of float16, float64 to float32\nimported ")


def test_that_mean_and_std_are_imagenets_is_said(
    tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, state)
    command = ["import", str(file), "--network", "resnet20", "--dataset", "cifar10", "--out", str(tmp_path / "out")]
    main(command)
    assert "\nImageNet's mean and std will be used; give --mean and --std if it was" in capsys.readouterr().out
    main([*command, *("--mean", "0.5", "0.5", "0.5")])
    assert "\nImageNet's std will be used; give --std if it was" in capsys.readouterr().out
    main([*command, *("--mean", "0.5", "0.5", "0.5"), *("--std", "0.2", "0.2", "0.2")])
    assert "ImageNet" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_file_that_torch_did_not_write_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    assert "read safely: it is empty, damaged, or of another kind. Save" in refusal(tmp_path / "a.pt", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    assert "should be weights, but is a pipe" in refusal(tmp_path / f"a{suffix}", tmp_path / "out")
    assert "should be weights, but is a folder" in refusal(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"mean": (0.5,)}, "must have 3 values each, one for a channel, got 1 and 3"),
        ({"std": (0.2,) * 4}, "got 3 and 4"),
        ({"mean": (123.675, 116.28, 103.53)}, "mean has 123.675, expected 0 to 1, as pixels are in 0..1. Divide"),
        ({"mean": (0.5, -0.1, 0.5)}, "mean has -0.1"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean has nan"),
        ({"std": (0.2, 0.2, 0.0)}, "std has 0, expected 0.001 to 1"),
        ({"std": (0.2, -0.2, 0.2)}, "std has -0.2"),
        ({"std": (0.2, float("inf"), 0.2)}, "std has inf, expected 0.001 to 1, as pixels are in 0..1. Give what"),
        ({"std": (58.395, 57.12, 57.375)}, "std has 58.395"),
        ({"std": (1e-4, 0.2, 0.2)}, "std has 0.0001"),
    ],
)
def test_mean_and_std_that_pixels_cannot_have_are_refused(
    tmp_path: Path, state: State, numbers: dict[str, tuple[float, ...]], said: str
) -> None:
    given: dict[str, Any] = {"mean": MEAN, "std": STD, **numbers}
    with pytest.raises(InputError, match=re.escape(said)):
        import_weights(
            file=written(tmp_path, state), network="resnet20", dataset="cifar10", out=tmp_path / "out", **given
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.0, 1 / 255), (0.485, 0.0039), (0.5, 0.5), (1.0, 0.001)])
def test_mean_and_std_of_every_convention_are_taken(tmp_path: Path, state: State, mean: float, std: float) -> None:
    file = written(tmp_path, state)
    import_weights(
        file=file, network="resnet20", dataset="cifar10", out=tmp_path / "o", mean=(mean,) * 3, std=(std,) * 3
    )
    assert checkpoint.load(tmp_path / "o")[1].std == (std,) * 3


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "harm")}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="cannot be read safely"):
        run(tmp_path / "evil.pt", tmp_path / "out")
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "out").exists()


class Reading(Evil):
    """Unpickling this would let numpy read any file."""

    def __reduce__(self) -> tuple:
        return np.fromfile, (str(self.path),)


def test_of_numpy_scalars_alone_are_let_through(tmp_path: Path, state: State) -> None:
    for beside, named in ((Reading(tmp_path / "secret"), "fromfile"), (np.zeros(3), "_reconstruct")):
        file = written(tmp_path, {"state_dict": state, "best": beside})
        said = refusal(file, tmp_path / "out")
        assert "it holds more than tensors" in said
        assert named in said


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, models.get("resnet20").build(10)), tmp_path / "out")
    assert "it holds more than tensors (daar.models.resnet_cifar.ResNet)" in said
    assert "Save it again as a plain state dict" in said


def test_torchscript_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    with warnings.catch_warnings(action="ignore"):  # torch deprecates it
        torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(tmp_path / "script.pt")
    said = refusal(tmp_path / "script.pt", tmp_path / "out")
    assert "it is a TorchScript archive, which holds code" in said
    assert "weights_only" not in said


def test_advice_to_load_unsafely_is_not_repeated(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x04.", b"# no pickle", b"PK\x03\x04", b"\x80\x02c__main__\nx\n."):
        (tmp_path / "weights.pt").write_bytes(content)
        said = refusal(tmp_path / "weights.pt", tmp_path / "out")
        assert "weights_only" not in said
        assert "arbitrary code" not in said


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "bn1.bias"}, "resnet20 with 10 classes: missing 'bn1.bias'."),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "resnet20 with 10 classes: unknown 'extra.weight'."),
        (
            lambda _: {f"z{i}": torch.zeros(1) for i in range(9)},
            "unknown 'z0', 'z1', 'z2', 'z3', 'z4', 'z5', 'z6', 'z7' and 1 more; missing 'conv1.weight', 'bn1.weight', "
            "'bn1.bias', 'bn1.running_mean', 'bn1.running_var', 'layer1.0.conv1.weight', 'layer1.0.bn1.weight', "
            # 19 convs, 19 BNs of 4 tensors and counters that are not asked for, linear's 2: 97
            "'layer1.0.bn1.bias' and 89 more. No name is resnet20's: import weights of that very definition",
        ),
        (
            lambda s: {**s, "linear.weight": torch.zeros(10, 32)},
            "'linear.weight' has shape (10, 32), expected (10, 64). All names fit but widths are smaller",
        ),
        (
            lambda s: {**s, "linear.weight": torch.zeros(10, 65)},
            "'linear.weight' has shape (10, 65), expected (10, 64). No network of the registry fits",
        ),
        (lambda _: torch.zeros(3), "holds a Tensor and no state dict"),
        (lambda _: {}, "no state dict"),
        (lambda _: {"module": torch.zeros(1)}, "unknown ''; missing 'conv1.weight'"),
        (
            lambda s: {**s, "module.conv1.weight": s["conv1.weight"] + 1},
            "'conv1.weight' and 'module.conv1.weight' are both 'conv1.weight' here. Take one of them out.",
        ),
        (
            lambda s: {"_orig_mod.bn1.bias": s["bn1.bias"], "module.bn1.bias": s["bn1.bias"]},
            "'_orig_mod.bn1.bias' and 'module.bn1.bias' are both 'bn1.bias' here.",
        ),
        (
            lambda s: {**s, "fc.weight": s["linear.weight"] + 1},
            "'linear.weight' and 'fc.weight' are both 'linear.weight' here.",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, state: dict, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    assert said in refusal(written(tmp_path, damage(state)), tmp_path / "out")


def test_every_wrong_shape_is_counted(tmp_path: Path) -> None:
    file = written(tmp_path, models.get("resnet20").build(100).state_dict())
    assert (
        "does not fit resnet20 with 10 classes: 'linear.weight' has shape (100, 64), expected (10, 64) "
        "(and 1 more of another shape). "
    ) in refusal(file, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "classes", "asked", "advice"),
    [
        ("resnet20", 100, "resnet20", "weights of resnet20 with 100 classes: say --dataset cifar100."),
        ("resnet20", 12, "resnet20", "weights of resnet20 with 12 classes, and no dataset here has as many for it."),
        ("resnet32", 10, "resnet20", "weights of resnet32 with 10 classes: say --network resnet32."),
        ("resnet56_b", 10, "resnet56", "weights of resnet56_b with 10 classes: say --network resnet56_b."),
        ("resnet20_b", 100, "resnet20", "with 100 classes: say --network resnet20_b --dataset cifar100."),
        ("vgg16_bn", 10, "resnet56", "weights of vgg16_bn with 10 classes: say --network vgg16_bn."),
        ("resnet18", 1000, "resnet34", "with 1000 classes: say --network resnet18 --dataset imagenet."),
        # equal names and shapes; only the strides tell them apart
        ("mobilenet_v2", 1000, "mobilenetv2", "with 1000 classes: say --network mobilenet_v2 --dataset imagenet."),
    ],
)
def test_the_network_and_dataset_that_do_fit_are_named(
    tmp_path: Path, given: str, classes: int, asked: str, advice: str
) -> None:
    file = written(tmp_path, models.get(given).build(classes).state_dict())
    assert advice in refusal(file, tmp_path / "out", network=asked)


def test_the_network_that_fits_is_found_by_its_published_names_too(tmp_path: Path) -> None:
    file = written(tmp_path, as_hrankplus(models.get("resnet32").build(10).state_dict()))
    assert "say --network resnet32." in refusal(file, tmp_path / "out")


def test_pruned_weights_are_told_from_others(tmp_path: Path) -> None:
    model = models.get("resnet20").build(10).eval()
    graph = channel_graph(model, torch.zeros(1, 3, 32, 32))
    thin = slim(model, graph, {group.name: [0, 1] for group in graph.in_scope("all")})
    said = refusal(written(tmp_path, thin.state_dict()), tmp_path / "out")
    assert "'conv1.weight' has shape (14, 3, 3, 3), expected (16, 3, 3, 3) (and " in said
    assert "these are pruned weights; import the dense ones" in said


def test_option_b_projections_are_known_even_where_nothing_fits(tmp_path: Path) -> None:
    weights = models.get("resnet20_b").build(10).state_dict()
    said = refusal(written(tmp_path, {**weights, "extra": torch.zeros(1)}), tmp_path / "out")
    assert "It has option-B projections: try --network resnet20_b." in said


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, models.get("resnet20").build(100).state_dict())
    options = ["--network", "resnet20", "--dataset", "cifar10", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as exit_code:
        main(["import", str(file), *options])
    assert exit_code.value.code == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "say --dataset cifar100" in said.err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"\x80\x02}q\x00."])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError):
        run(tmp_path / "a.pt", tmp_path / "out")


def test_a_truncated_file_is_refused(tmp_path: Path, state: dict) -> None:
    torch.save(state, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read safely"):
        run(tmp_path / "a.pt", tmp_path / "out")


def test_missing_file_and_short_mean(tmp_path: Path, state: dict) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        run(tmp_path / "none.pt", tmp_path / "out")
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(InputError, match="must have 3 values each, one for a channel, got 1 and 3"):
        run(tmp_path / "a.pt", tmp_path / "out", mean=(0.5,))


# the published figure: 91.73 % of the 10,000 test images (akamaster/pytorch_resnet_cifar10 prints 8.27 % error)
def test_published_resnet20_gives_its_published_accuracy(tmp_path: Path, real_data: Path, real_cifar10: Path) -> None:
    run(real_data / "checkpoints" / "resnet20-12fca82f.th", tmp_path / "net")
    found = measure(folder=tmp_path / "net", packs=real_cifar10, device=torch.device("cpu"))
    assert found["top1"] == pytest.approx(91.73, abs=0.011)
    assert (found["macs"], found["params"], found["images"]) == (40_551_040, 269_722, 10_000)
    assert found["val_seen"]
    assert found["val_top1"] is None
