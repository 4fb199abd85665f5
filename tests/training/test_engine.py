import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from daar import models
from daar.data import packed
from daar.data.augmentation import Draw, ImageStore, draw
from daar.data.packed import Pack
from daar.device.randomness import derive, generator
from daar.errors import InputError
from daar.measure.accuracy import evaluate
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.progress import duration
from daar.training.recalibrate import recalibrate
from daar.training.recipe import Recipe

CPU = torch.device("cpu")
SHORT = Recipe(epochs=2, lr=0.05, batch_size=64, precision="float32")


@pytest.fixture(scope="module")
def data(digits: Path) -> Data:
    train, val = (packed.load(digits / f"{split}.safetensors") for split in ("train", "val"))
    return Data(train, val, train.mean, train.std, flip=False)


@pytest.fixture(scope="module")
def few(data: Data) -> Data:
    """For what takes a few steps to see."""
    return Data(_part(data.train, 300), _part(data.val, 100), data.mean, data.std, flip=False)


def fresh(name: str = "resnet20") -> nn.Module:
    torch.manual_seed(0)
    return models.get(name).build(10)


def quiet(_: str) -> None:
    pass


# augmentation


def by_hand(images: np.ndarray, padding: int, row: dict, mean: list[float], std: list[float]) -> np.ndarray:
    """One image cropped, mirrored and normalised the plain way: (C, H, W)."""
    image = np.pad(images[row["order"]], ((padding, padding), (padding, padding), (0, 0)))
    height, width = images.shape[1:3]
    image = image[row["top"] : row["top"] + height, row["left"] : row["left"] + width]
    if row["mirrored"]:
        image = image[:, ::-1]
    return ((image / 255 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


def test_batches_are_padded_crops_mirrored_and_normalised() -> None:
    images = torch.randint(256, (20, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    epoch = draw(20, 2, True, seed=3, epoch=1, device=CPU)
    batch = ImageStore(images, 2, mean, std, CPU).batch(Draw(epoch.rows[5:15]))
    for index, image in enumerate(batch):
        row = {key: getattr(epoch, key)[5 + index].item() for key in ("order", "top", "left", "mirrored")}
        assert np.allclose(image.numpy(), by_hand(images.numpy(), 2, row, mean, std), atol=1e-5)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_is_a_permutation_and_uses_every_crop_and_both_sides() -> None:
    epoch = draw(5000, 4, True, seed=0, epoch=0, device=CPU)
    assert sorted(epoch.order.tolist()) == list(range(5000))
    for values in (epoch.top, epoch.left):
        share = torch.bincount(values, minlength=9) / 5000
        assert (share - 1 / 9).abs().max() < 0.02
    assert abs(float(epoch.mirrored.float().mean()) - 0.5) < 0.03
    assert not draw(50, 4, False, 0, 0, CPU).mirrored.any()


def test_draws_differ_between_seeds_and_epochs_and_repeat_within() -> None:
    orders = [draw(100, 4, True, seed, epoch, CPU).order.tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0), (0, 0)]]
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_seeds_of_named_axes_are_pinned_and_apart() -> None:
    # a change of these would silently change every published result
    assert derive("epoch", 0, 0) == 40507880404941673
    assert len({derive(name, seed, epoch) for name in "ab" for seed in range(3) for epoch in range(3)}) == 18
    assert torch.equal(torch.rand(3, generator=generator("a", 1)), torch.rand(3, generator=generator("a", 1)))


# the loop


def plain_loop(model: nn.Module, data: Data, recipe: Recipe, seed: int) -> nn.Module:
    """The same training written the textbook way: torch's SGD for one parameter group, no fused kernels."""
    images = (data.train.images.float() / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    black = F.pad(data.train.images, (0, 0, 4, 4, 4, 4)).float() / 255
    padded = (black - torch.tensor(data.mean)) / torch.tensor(data.std)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay, foreach=False
    )
    steps = -(-len(images) // recipe.batch_size)
    model.train()
    for epoch in range(recipe.epochs):
        plan = draw(len(images), 4, False, seed, epoch, CPU)
        for step in range(steps):
            part = range(step * recipe.batch_size, min((step + 1) * recipe.batch_size, len(images)))
            crops = [padded[plan.order[i], plan.top[i] :][:32, plan.left[i] :][:, :32] for i in part]
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(epoch + step / steps)
            loss = F.cross_entropy(
                model(torch.stack(crops).permute(0, 3, 1, 2)), data.train.labels[plan.order[list(part)]]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def test_fit_does_what_the_textbook_loop_does(data: Data) -> None:
    few = Data(_part(data.train, 150), _part(data.val, 150), data.mean, data.std, flip=False)
    recipe = Recipe(epochs=1, lr=0.01, batch_size=32, precision="float32")
    ours, plain = fresh().double(), fresh().double()
    with pytest.MonkeyPatch.context() as patch:
        # both in float64, so that only a real difference shows
        patch.setattr("daar.training.batches.ImageStore.batch", _in_double(ImageStore.batch))
        patch.setattr("daar.training.batches.evaluate", lambda *_, **__: evaluate_stub())
        fit(ours, few, recipe, 7, CPU, say=quiet)
    torch.set_default_dtype(torch.float64)
    try:
        plain_loop(plain, few, recipe, 7)
    finally:
        torch.set_default_dtype(torch.float32)
    for (name, a), b in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5), name


def _part(pack: Pack, count: int) -> Pack:
    return Pack(**{**pack.__dict__, "images": pack.images[:count], "labels": pack.labels[:count]})


def _in_double(batch):
    return lambda *arguments: batch(*arguments).double()


def evaluate_stub():
    from daar.measure.accuracy import Accuracy

    return Accuracy(0.0, None)


def test_training_learns_and_says_so(data: Data) -> None:
    said: list[str] = []
    progress = fit(fresh(), data, Recipe(epochs=3, lr=0.05, batch_size=64), 0, CPU, say=said.append)
    assert progress.curve[-1].train_top1 > 80
    assert progress.curve[-1].loss < progress.curve[0].loss / 3
    assert re.fullmatch(r"cpu, \w+ \(.+\), 20 steps of 64 images an epoch, steps run kernel by kernel", said[0])
    assert len(said) == 4
    assert said[1].startswith("epoch 1/3  lr 0.0")
    assert "ETA" in said[1]


def test_same_seed_same_bits_other_seed_other_bits(few: Data) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = fresh()
        fit(model, few, Recipe(epochs=1, lr=0.05, batch_size=64), seed, CPU, say=quiet)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_best_is_the_first_of_the_highest_on_val(few: Data) -> None:
    model = fresh()
    recipe = Recipe(epochs=4, lr=0.05, batch_size=64, precision="float32")
    progress = fit(model, few, recipe, 0, CPU, say=quiet)
    tops = [epoch.val_top1 for epoch in progress.curve]
    assert progress.best_epoch == tops.index(max(tops)) + 1
    model.load_state_dict(progress.best)
    assert evaluate(model, few.val, few.mean, few.std, CPU).top1 == max(tops)


def test_no_epochs_change_nothing(data: Data) -> None:
    model = fresh()
    before = copy.deepcopy(model.state_dict())
    assert fit(model, data, Recipe(epochs=0), 0, CPU, say=quiet).best_epoch == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("count", [65, 64, 3])
def test_a_single_left_over_image_is_no_batch(data: Data, count: int) -> None:
    few = Data(_part(data.train, count), _part(data.val, 10), data.mean, data.std, flip=False)
    progress = fit(fresh("vgg16_bn"), few, Recipe(epochs=1, batch_size=64, lr=0.001), 0, CPU, say=quiet)
    assert len(progress.curve) == 1


def test_a_batch_larger_than_the_data_is_all_of_them(data: Data) -> None:
    few = Data(_part(data.train, 40), _part(data.val, 10), data.mean, data.std, flip=False)
    whole, larger = fresh(), fresh()
    for model, size in ((whole, 40), (larger, 4096)):
        fit(model, few, Recipe(epochs=2, batch_size=size, lr=0.01, precision="float32"), 0, CPU, say=quiet)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), larger.parameters(), strict=True))


def test_nan_loss_names_epoch_step_and_lr(data: Data, tmp_path: Path) -> None:
    model = fresh()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match=r"the loss is nan at epoch 1, step 1 of 20, lr .* Lower lr"):
        fit(model, data, SHORT, 0, CPU, resume_file=tmp_path / "resume.safetensors", say=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("bf16", True)])
def test_float32_is_strict_and_settings_come_back(
    data: Data, monkeypatch: pytest.MonkeyPatch, precision: str, allowed: bool
) -> None:
    few = Data(_part(data.train, 32), _part(data.val, 10), data.mean, data.std, flip=False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[bool] = []
    recipe = Recipe(epochs=1, lr=0.01, batch_size=32, precision=precision)
    fit(fresh(), few, recipe, 0, CPU, say=lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    assert seen[1:] == [allowed]  # the first line comes before the first epoch
    assert torch.backends.cudnn.allow_tf32


# resuming


class KilledError(Exception):
    pass


def test_a_run_killed_between_epochs_goes_on_bit_for_bit(few: Data, tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, lr=0.05, batch_size=64)
    undisturbed, file = fresh(), tmp_path / "resume.safetensors"
    expected = fit(undisturbed, few, recipe, 0, CPU, say=quiet)

    def die_after_two(line: str) -> None:
        if line.startswith("epoch 3"):
            raise KilledError

    with pytest.raises(KilledError):
        fit(fresh(), few, recipe, 0, CPU, resume_file=file, say=die_after_two)
    said: list[str] = []
    resumed = fresh()
    progress = fit(resumed, few, recipe, 0, CPU, resume_file=file, say=said.append)
    assert said[1] == f"continues after epoch 2 from {file}"
    for (name, a), b in zip(resumed.state_dict().items(), undisturbed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert progress.best_epoch == expected.best_epoch
    assert all(torch.equal(value, expected.best[name]) for name, value in progress.best.items())
    assert [e.loss for e in progress.curve] == [e.loss for e in expected.curve]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": Recipe(epochs=2, lr=0.06, batch_size=64, precision="float32")}, "lr was 0.05, is now 0.06"),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"identity": {"network": "other"}}, "network was None, is now 'other'"),
    ],
)
def test_another_run_s_resume_file_is_refused_by_name(few: Data, tmp_path: Path, changed: dict, said: str) -> None:
    file = tmp_path / "resume.safetensors"
    fit(fresh(), few, SHORT, 0, CPU, resume_file=file, say=quiet)
    recipe, seed, identity = (
        changed.get(key, value) for key, value in [("recipe", SHORT), ("seed", 0), ("identity", {})]
    )
    with pytest.raises(InputError, match=said):
        fit(fresh(), few, recipe, seed, CPU, resume_file=file, identity=identity, say=quiet)


def test_a_damaged_resume_file_is_refused(few: Data, tmp_path: Path) -> None:
    file = tmp_path / "resume.safetensors"
    fit(fresh(), few, SHORT, 0, CPU, resume_file=file, say=quiet)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot be read.*Delete it"):
        fit(fresh(), few, SHORT, 0, CPU, resume_file=file, say=quiet)


# evaluation and recalibration


def test_accuracy_is_correct_over_n_whatever_the_batch(data: Data) -> None:
    model = fresh().eval()
    pack = data.val
    images = ((pack.images.double() / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)).permute(0, 3, 1, 2)
    with torch.no_grad():
        right = (copy.deepcopy(model).double()(images).argmax(1) == pack.labels).sum()
    for batch_size in (7, 180, 1000):
        assert evaluate(model, pack, data.mean, data.std, CPU, batch_size).top1 == 100 * int(right) / 180
    assert evaluate(model, pack, data.mean, data.std, CPU).top5 is None


def test_top5_counts_the_five_highest() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(100.0).flip(0).expand(len(x), 100) * self.scale

    labels = torch.arange(20)
    pack = Pack(
        images=torch.zeros(20, 4, 4, 3, dtype=torch.uint8),
        labels=labels,
        classes=tuple(map(str, range(100))),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        dataset="hundred",
        split="test",
        source="",
        checksum="",
    )
    accuracy = evaluate(Fixed(), pack, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CPU, batch_size=6)
    assert (accuracy.top1, accuracy.top5) == (5.0, 25.0)


def test_recalibrated_statistics_are_the_mean_over_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    images = torch.randn(100, 3, 8, 8)
    recalibrate(model, images, batch_size=50)
    with torch.no_grad():
        maps = [model[0](part).numpy() for part in images.split(50)]
    mean = np.mean([m.mean(axis=(0, 2, 3)) for m in maps], axis=0)
    var = np.mean([m.var(axis=(0, 2, 3), ddof=1) for m in maps], axis=0)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert np.allclose(norm.running_mean.numpy(), mean, atol=1e-6)
    assert np.allclose(norm.running_var.numpy(), var, atol=1e-6)
    assert norm.momentum == 0.1
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.4, "3 s"), (200, "3 min 20 s"), (18720, "5 h 12 min"), (59.6, "1 min 0 s")]
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_curve_is_plain_json(data: Data) -> None:
    from daar.training.progress import curve_to_json

    progress = fit(fresh(), data, Recipe(epochs=1, lr=0.01), 0, CPU, say=quiet)
    assert json.loads(json.dumps(curve_to_json(progress.curve)))[0]["epoch"] == 1


def test_val_is_moved_to_the_device_once(data: Data) -> None:
    model, fresh_data = fresh(), Data(data.train, data.val, data.mean, data.std, flip=False)
    expected = evaluate(model, data.val, data.mean, data.std, CPU)
    assert fresh_data.watch(model, CPU) == expected
    there = fresh_data._val_on(CPU)
    assert fresh_data.watch(model, CPU) == expected
    assert fresh_data._val_on(CPU) is there
    moved = fresh_data._val_on(torch.device("meta"))
    assert isinstance(moved, Pack)
    assert {moved.images.device.type, moved.labels.device.type} == {"meta"}
    assert fresh_data._val_on(CPU) is there
