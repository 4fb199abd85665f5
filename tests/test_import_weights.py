import os
from pathlib import Path

import pytest
import torch

from daar import checkpoint, models
from daar.data import datasets, packed
from daar.errors import InputError
from daar.stages.import_weights import import_weights
from daar.stages.measure import measure

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(file: Path, out: Path, network: str = "resnet20", mean: tuple[float, ...] = MEAN) -> None:
    import_weights(file=file, network=network, dataset="cifar10", out=out, mean=mean, std=STD)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return models.get("resnet20").build(10).state_dict()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_wrapped_and_dataparallel_files_are_read(tmp_path: Path, state: dict, wrap, prefix: str) -> None:  # type: ignore[no-untyped-def]
    torch.save(wrap({f"{prefix}{name}": value for name, value in state.items()}), tmp_path / "a.th")
    run(tmp_path / "a.th", tmp_path / "out")
    model, about = checkpoint.load(tmp_path / "out")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (about.mean, about.trained_on) == (MEAN, ("train", "val"))
    assert about.provenance["imported"]["file"] == "a.th"


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


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(models.get("resnet20").build(10), tmp_path / "module.pt")
    with pytest.raises(InputError, match="Save it again as a plain state dict"):
        run(tmp_path / "module.pt", tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "bn1.bias"}, "lacks 'bn1.bias' and 0 more"),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "has 'extra.weight' and 0 more"),
        (
            lambda s: {**s, "linear.weight": torch.zeros(100, 64)},
            "'linear.weight' has shape (100, 64); the network needs",
        ),
        (lambda _: torch.zeros(3), "holds a Tensor and no state dict"),
        (lambda _: {}, "no state dict"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, state: dict, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    torch.save(damage(state), tmp_path / "a.pt")
    with pytest.raises(InputError) as error:
        run(tmp_path / "a.pt", tmp_path / "out")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(InputError, match="must have 3 values each, got 1 and 3"):
        run(tmp_path / "a.pt", tmp_path / "out", mean=(0.5,))


# the published figure: 91.73 % of the 10,000 test images (akamaster/pytorch_resnet_cifar10 prints 8.27 % error)
def test_published_resnet20_gives_its_published_accuracy(tmp_path: Path, real_data: Path) -> None:
    packs = packed.prepare(datasets.get("cifar10"), tmp_path / "cifar10", data_root=real_data)
    run(real_data / "checkpoints" / "resnet20-12fca82f.th", tmp_path / "net")
    found = measure(folder=tmp_path / "net", packs=packs, device=torch.device("cpu"))
    assert found["top1"] == pytest.approx(91.73, abs=0.011)
    assert (found["macs"], found["params"], found["images"]) == (40_551_040, 269_722, 10_000)
    assert found["val_seen"]
    assert found["val_top1"] is None
