"""A data set in a folder of images, from its index to a measured slim network; the folders here are tiny."""

import hashlib
import json
import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from daar import models
from daar.checkpoint import checkpoint
from daar.cli import views
from daar.cli.main import main
from daar.data import datasets, decoding, folder_scan, image_folder, loading
from daar.data.calibration import calibration_batch, calibration_indices
from daar.data.decoding import Decoder, Work
from daar.data.image_folder import MEAN, STD, ImageFolder
from daar.errors import InputError
from daar.measure.accuracy import evaluate
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.recipe import Recipe

CPU = torch.device("cpu")
CLASSES = ("n01440764", "n01443537", "n02102040", "n03000684")
SIDE = 32


def smooth(seed: int, width: int, height: int) -> Image.Image:
    """A picture without the noise that JPEG would change most."""
    dice = np.random.default_rng(seed)
    small = Image.fromarray(dice.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def fill(root: Path, train: int = 6, val: int = 2, classes: tuple[str, ...] = CLASSES) -> Path:
    """A folder as ImageNet is unpacked, of images of several sizes."""
    for part, count in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                seed = 1000 * label + 10 * index + (part == "val")
                picture = smooth(seed, 40 + seed % 23, 36 + seed % 17)
                picture.save(root / part / name / f"{name}_{index}.JPEG", quality=95)
    return root


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet with images of 32 pixels, and ResNet-18 for them; decoded in this process."""
    shape = (3, SIDE, SIDE)
    monkeypatch.setitem(datasets.DATASETS, "imagenet", replace(datasets.get("imagenet"), shape=shape))
    monkeypatch.setitem(models.NETWORKS, "resnet18", replace(models.get("resnet18"), input_shape=shape))
    monkeypatch.setenv(decoding.WORKERS, "0")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("data") / "imagenet")


@pytest.fixture
def index(root: Path, tmp_path: Path) -> Path:
    return loading.prepare(datasets.get("imagenet"), tmp_path / "packs" / "imagenet", data_root=root.parent)


def split(index: Path, name: str) -> ImageFolder:
    found = loading.load(index / f"{name}.safetensors")
    assert isinstance(found, ImageFolder)
    return found


def data_of(index: Path) -> Data[ImageFolder]:
    return Data(split(index, "train"), split(index, "val"), MEAN, STD, flip=True)


# the index


def test_splits_follow_the_documented_rule(root: Path, index: Path) -> None:
    """Of 6 images of a class the first by the SHA-256 of its path is val; test is the official val."""
    for label, name in enumerate(CLASSES):
        paths = [f"train/{name}/{name}_{at}.JPEG" for at in range(6)]
        by_hash = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest())
        for part, expected in (("val", by_hash[:1]), ("train", by_hash[1:])):
            found = split(index, part)
            mine = [path for path, own in zip(found.paths, found.labels.tolist(), strict=True) if own == label]
            assert mine == expected
    test = split(index, "test")
    assert sorted(test.paths) == sorted(f"val/{name}/{name}_{at}.JPEG" for name in CLASSES for at in range(2))
    assert all(path.split("/")[1] == CLASSES[own] for path, own in zip(test.paths, test.labels.tolist(), strict=True))
    assert (test.classes, test.dataset, test.split, test.size) == (CLASSES, "imagenet", "test", SIDE)
    assert "4 classes, 24 train and 8 val images; the official release has 1,000 classes, 1,281,167" in test.source
    assert test.root == root.resolve()


@pytest.mark.parametrize(("count", "held"), [(2, 1), (19, 1), (20, 2), (499, 49), (500, 50), (1300, 50)])
def test_fifty_or_a_tenth_of_a_class_is_held_out(count: int, held: int) -> None:
    files = [folder_scan.File(f"train/a/{at}.JPEG", 0, 1) for at in range(count)]
    found = image_folder._hold_out(files, ["a"], Path())
    assert (len(found["train"]), len(found["val"])) == (count - held, held)


def test_imagenet_s_official_counts_add_up() -> None:
    dataset = datasets.get("imagenet")
    assert dataset.official == {"train": 1_281_167, "test": 50_000}
    assert dataset.splits == {"train": 1_231_167, "val": 50 * 1_000, "test": 50_000}
    assert (dataset.num_classes, dataset.stays_in_folder) == (1_000, True)


def test_a_folder_gives_the_same_index_wherever_it_lies(root: Path, index: Path, tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere")
    again = image_folder.prepare(datasets.get("imagenet"), elsewhere, tmp_path / "again")
    for name in ("train", "val", "test"):
        assert (again / f"{name}.safetensors").read_bytes() == (index / f"{name}.safetensors").read_bytes()


def test_damage_and_another_folder_s_source_are_refused(index: Path) -> None:
    file = index / "train.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"train.safetensors is damaged.*daar data prepare"):
        loading.load(file)
    source = json.loads((index / "source.json").read_text())
    source["checksums"]["val"] = "0" * 64
    (index / "source.json").write_text(json.dumps(source))
    with pytest.raises(InputError, match="not of one data set"):
        loading.load(index / "val.safetensors")
    source["checksums"]["test"] = split_checksum(index / "test.safetensors")
    source["where"] = str(index / "gone")
    (index / "source.json").write_text(json.dumps(source))
    with pytest.raises(InputError, match=r"images in .*gone, but there is no such folder"):
        loading.load(index / "test.safetensors")


def split_checksum(path: Path) -> str:
    return image_folder._read(path)[0]["checksum"]


def prepared(root: Path, **options: Any) -> Path:
    return image_folder.prepare(datasets.get("imagenet"), root, root.parent / "index", **options)


def test_absent_and_empty_classes_are_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "a")
    for file in (root / "val" / CLASSES[2]).iterdir():
        file.unlink()
    with pytest.raises(InputError, match=rf"val/{CLASSES[2]} has no images"):
        prepared(root)
    (root / "val" / CLASSES[2]).rmdir()
    with pytest.raises(InputError, match=rf"{root}/val lacks 1 of the classes that {root}/train has: {CLASSES[2]}"):
        prepared(root)
    for file in list((root / "train" / CLASSES[0]).iterdir())[1:]:
        file.unlink()
    (root / "val" / CLASSES[2]).mkdir()
    smooth(0, 40, 40).save(root / "val" / CLASSES[2] / "x.png")
    with pytest.raises(InputError, match=rf"train/{CLASSES[0]} has 1 usable images; it needs two"):
        prepared(root)


def test_a_folder_that_is_not_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ImageNet is not there: expected one of train/<class>/ and val/<class>/"):
        loading.prepare(datasets.get("imagenet"), tmp_path / "out", data_root=tmp_path)


# corrupt images


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder with a truncated image, one that is text, and an empty one."""
    root = fill(tmp_path / "imagenet")
    broken = [f"train/{name}/{name}_{at}.JPEG" for name, at in ((CLASSES[0], 3), (CLASSES[1], 2), (CLASSES[3], 0))]
    (root / broken[0]).write_bytes((root / broken[0]).read_bytes()[:-200])
    (root / broken[1]).write_text("no image")
    (root / broken[2]).write_bytes(b"")
    return root, broken


def test_corrupt_images_are_named_and_counted(damaged: tuple[Path, list[str]]) -> None:
    root, broken = damaged
    with pytest.raises(InputError, match=rf"1 of 32 images .*: {broken[2]}\. Replace them, or .*--skip-corrupt"):
        prepared(root)  # an empty file shows without being opened
    with pytest.raises(InputError, match=rf"3 of 32 images .* cannot be decoded: {', '.join(broken)}\. Replace"):
        prepared(root, verify=True)
    assert not (root.parent / "index").exists()


def test_corrupt_images_are_left_out_only_if_told_so(damaged: tuple[Path, list[str]]) -> None:
    root, broken = damaged
    index = prepared(root, skip_corrupt=True)
    named = [path for name in ("train", "val", "test") for path in split(index, name).paths]
    everything = {str(path.relative_to(root)) for path in root.rglob("*.JPEG")}
    assert set(named) == everything - set(broken)
    assert len(named) == 29
    assert json.loads((index / "source.json").read_text())["skipped"] == broken
    assert f"3 corrupt images left out: {', '.join(broken)}" in split(index, "train").source


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_went_bad_later_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv(decoding.WORKERS, workers)
    root = fill(tmp_path / "imagenet")
    index = prepared(root)
    victim = root / split(index, "train").paths[5]
    victim.write_text("no image")
    assert image_folder.changed(index / "train.safetensors") == [split(index, "train").paths[5]]
    with pytest.raises(InputError) as caught:
        fit(network(), data_of(index), SHORT, 0, CPU, say=lambda _: None)
    assert str(caught.value).startswith(f"{victim.resolve()} should be an image, but it cannot be decoded: no known")
    assert "--skip-corrupt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_packed_data_sets_are_whole_or_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--skip-corrupt is for folders of images; Digits is packed whole"):
        loading.prepare(datasets.get("digits"), tmp_path, skip_corrupt=True)


# decoding


def test_centre_crops_are_torchvision_s_evaluation(root: Path, index: Path) -> None:
    """As for its published ImageNet weights: resize to 256 and crop 224, here an eighth of both, in uint8."""
    usual = transforms.Compose([transforms.Resize(round(SIDE * 256 / 224)), transforms.CenterCrop(SIDE)])
    test = split(index, "test")
    chosen = torch.tensor([3, 0, 5])
    expected = [np.asarray(usual(Image.open(root / test.paths[at]).convert("RGB"))) for at in chosen]
    assert np.array_equal(test.pixels(chosen).numpy(), np.stack(expected))
    for size in (1, 3, 8):
        batches = list(test.batches(1, 8, size))
        assert torch.equal(torch.cat([pixels for pixels, _ in batches]), test.pixels(torch.arange(1, 8)))
        assert torch.equal(torch.cat([labels for _, labels in batches]), test.labels[1:8])


def test_a_full_size_centre_crop_is_224_of_256() -> None:
    picture = smooth(0, 500, 333)
    by_hand = picture.resize((int(256 * 500 / 333), 256), Image.Resampling.BILINEAR)
    left, top = round((by_hand.width - 224) / 2), round((256 - 224) / 2)
    expected = by_hand.crop((left, top, left + 224, top + 224))
    assert decoding.centre_crop(picture, 224).tobytes() == expected.tobytes()


def test_random_crops_are_of_the_published_sizes_and_both_sides() -> None:
    """A picture whose colours are its coordinates tells where a crop is from."""
    side = 240
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    picture = Image.fromarray(np.stack([rows, columns, rows], axis=-1))
    areas, ratios, mirrored = [], [], 0
    for seed in range(300):
        crop = np.asarray(decoding.random_crop(picture, 64, True, seed)).astype(float)
        # without the borders, where scaling has fewer pixels to mix
        height = (crop[50, 32, 0] - crop[14, 32, 0]) * 64 / 36
        width = (crop[32, 50, 1] - crop[32, 14, 1]) * 64 / 36
        mirrored += width < 0
        areas.append(height * abs(width) / side**2)
        ratios.append(abs(width) / height)
    assert 0.05 < min(areas) < 0.2
    assert 0.9 < max(areas) < 1.05
    assert 0.7 < min(ratios) < 0.85
    assert 1.18 < max(ratios) < 1.4
    # the mean of an area that is uniform, given that the crop fits into a square, over a grid
    area, log_ratio = np.meshgrid(np.linspace(0.08, 1, 500), np.linspace(math.log(3 / 4), math.log(4 / 3), 500))
    fits = area * np.exp(np.abs(log_ratio)) <= 1
    assert abs(np.mean(areas) - area[fits].mean()) < 4 * np.std(areas) / math.sqrt(300)
    assert 110 < mirrored < 190
    never = [np.asarray(decoding.random_crop(picture, 64, False, seed)).astype(float) for seed in range(30)]
    assert all(crop[32, 50, 1] > crop[32, 14, 1] for crop in never)


def test_random_crops_leave_torch_s_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    decoding.random_crop(smooth(0, 40, 40), 32, True, 1)
    assert torch.equal(torch.rand(3), expected)


def test_neither_processes_nor_the_first_step_change_a_pixel(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(workers: str, first_step: int) -> list[torch.Tensor]:
        monkeypatch.setenv(decoding.WORKERS, workers)
        found = data_of(index).batches(Recipe(batch_size=6), 3, CPU)
        assert (found.steps, found.count) == (4, 20)
        return [found.make(*drawn)[0] for drawn in found.epoch(1, first_step)]

    alone = batches("0", 0)
    assert [len(images) for images in alone] == [6, 6, 6, 2]
    for workers, first in (("2", 0), ("1", 2)):
        again = batches(workers, first)
        assert len(again) == 4 - first
        assert all(torch.equal(a, b) for a, b in zip(again, alone[first:], strict=True))


def test_an_epoch_has_every_image_once_in_uint8_values(index: Path) -> None:
    data = data_of(index)
    found = data.batches(Recipe(batch_size=20), 3, CPU)
    (images, labels), (others, _) = (found.make(*next(found.epoch(number, 0))) for number in (0, 1))
    assert images.shape == (20, 3, SIDE, SIDE)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.bincount(labels).tolist() == [5, 5, 5, 5]
    assert not torch.equal(images, others)
    pixels = 255 * (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1))
    assert float((pixels - pixels.round()).abs().max()) < 1e-3


def test_images_come_with_their_own_labels(tmp_path: Path) -> None:
    """Pictures of one colour each: no crop changes it."""
    root, colours = fill(tmp_path / "imagenet"), [(255, 0, 10), (0, 200, 0), (30, 30, 30), (90, 0, 250)]
    for file in root.rglob("*.JPEG"):
        Image.new("RGB", (50, 40), colours[CLASSES.index(file.parent.name)]).save(file, format="PNG")
    found = data_of(prepared(root)).batches(Recipe(batch_size=20), 3, CPU)
    images, labels = found.make(*next(found.epoch(0, 0)))
    expected = (torch.tensor(colours)[labels] / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(images, expected[:, :, None, None].expand_as(images), atol=1e-5)


def test_calibration_images_are_the_first_of_the_same_permutation(index: Path, root: Path) -> None:
    train = split(index, "train")
    images, labels = calibration_batch(train, 1, 7, MEAN, STD)
    chosen = calibration_indices("imagenet", 1, 7, 20).tolist()
    usual = transforms.Compose(
        [transforms.Resize(round(SIDE * 256 / 224)), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    )
    usual = transforms.Compose([*usual.transforms, transforms.Normalize(MEAN, STD)])
    expected = torch.stack([usual(Image.open(root / train.paths[at]).convert("RGB")) for at in chosen])
    assert torch.allclose(images, expected, atol=1e-5)
    assert labels.tolist() == [int(train.labels[at]) for at in chosen]


def test_a_dead_process_is_one_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = split(index, "train")
    decoder = Decoder(train.root, SIDE, False, 1)
    works = (Work([train.paths[at % 20]] * 50) for at in range(1000))

    def kill_it() -> None:
        for _ in decoder(works):
            loading: Any = decoder._loader._iterator
            with (
                loading._workers_done_event._cond
            ):  # killed while it holds this lock, it would have torch wait for ever
                os.kill(loading._workers[0].pid, signal.SIGKILL)
            time.sleep(0.2)

    with pytest.raises(InputError, match=r"a process that decodes images has died.*DAAR_WORKERS=1"):
        kill_it()


def test_a_dead_process_noticed_in_the_middle_of_a_step_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch raises its error from a signal handler, wherever the program is."""

    def die(_: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. ")

    monkeypatch.setattr(views, "list_names", die)
    with pytest.raises(SystemExit) as ended:
        main(["list", "methods"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("daar: error: a process that decodes images has died")
    assert said.count("\n") == 1


def test_the_number_of_processes_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(decoding.WORKERS, "many")
    with pytest.raises(InputError, match="DAAR_WORKERS must be a whole number of processes, 0 or more, got 'many'"):
        decoding.workers()
    monkeypatch.delenv(decoding.WORKERS)
    assert decoding.workers() == torch.get_num_threads()


# the stages

SHORT = Recipe(epochs=2, lr=0.05, batch_size=8, precision="float32")


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.get("resnet18").build(len(CLASSES))


def test_accuracy_counts_every_image_of_the_folder_once(index: Path, root: Path) -> None:
    model = network().eval()
    test = split(index, "test")
    images = (test.pixels(torch.arange(8)).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        right = (network().eval().double()(images.permute(0, 3, 1, 2)).argmax(1) == test.labels).sum()
    for size in (1, 3, 8, 500):
        assert evaluate(model, test, MEAN, STD, CPU, size).top1 == 100 * int(right) / 8


class KilledError(Exception):
    pass


def test_a_killed_training_goes_on_bit_for_bit(index: Path, tmp_path: Path) -> None:
    undisturbed, resumed, file = network(), network(), tmp_path / "resume.safetensors"
    fit(undisturbed, data_of(index), SHORT, 0, CPU, say=lambda _: None)

    def die(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KilledError

    with pytest.raises(KilledError):
        fit(network(), data_of(index), SHORT, 0, CPU, resume_file=file, say=die)
    fit(resumed, data_of(index), SHORT, 0, CPU, resume_file=file, say=lambda _: None)
    for (name, a), b in zip(resumed.state_dict().items(), undisturbed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_every_command_works_on_a_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prepare, train, score, plan, tune, prune, measure and export, as on packed data."""
    packs, dense, slim = tmp_path / "packs", tmp_path / "dense", tmp_path / "slim"
    data = ["--dataset", "imagenet", "--packs", packs, "--data-root", root.parent, "--device", "cpu", "--threads", "1"]
    recipe = ["--epochs", "1", "--lr", "0.01", "--batch-size", "10", "--precision", "float32"]

    def daar(*words: Any) -> str:
        main([str(word) for word in words])
        return capsys.readouterr().out

    said = daar("data", "prepare", "imagenet", "--data-root", root.parent, "--out", packs / "imagenet", "--verify")
    assert "ImageNet: index of the image-folder" in said
    assert "epoch 1/1" in daar("train", "--network", "resnet18", "--out", dense, *data, *recipe)
    about = checkpoint.describe(dense)
    assert (about.num_classes, about.mean, about.input_shape) == (4, MEAN, (3, SIDE, SIDE))
    few = ["--images", "16"]
    daar("score", dense, "--method", "hrank", "--out", slim / "importance.safetensors", *data, *few)
    plan = ["--importance", slim / "importance.safetensors", "--macs-reduction", "0.5", "--out", slim / "plan.json"]
    assert "% removed" in daar("plan", dense, "--method", "hrank", *plan, *data, *few)
    daar("finetune", dense, "--plan", slim / "plan.json", "--out", slim / "tuned", *recipe, *data, *few)
    daar("prune", dense, "--macs-reduction", "0.3", "--out", slim / "pruned", *data, *few)
    for folder in (dense, slim / "tuned", slim / "pruned"):
        found = json.loads(daar("measure", folder, "--json", *data))
        assert (found["images"], found["dataset"], found["top5"]) == (8, "imagenet", None)
    assert math.isclose(found["macs"], 0.7 * 37e6, rel_tol=0.02)  # 224² / 32² is 49: 1.814 G / 49
    daar("export", slim / "tuned", "--format", "pt2")
    check = json.loads(daar("data", "check", packs / "imagenet", "--json"))
    assert check["counts"]["val"] == dict.fromkeys(CLASSES, 1)
    assert "train: 20 images (5 of each class)" in daar("data", "check", packs / "imagenet")
    source = json.loads((packs / "imagenet" / "source.json").read_text())
    moved = {**source, "where": str(tmp_path)}  # a folder without them
    (packs / "imagenet" / "source.json").write_text(json.dumps(moved))
    with pytest.raises(InputError, match=r"32 images below .* are gone or not what they were.* and 29 more\. Restore"):
        loading.check(packs / "imagenet")


@pytest.mark.parametrize(
    "path", ["../a/x.png", "/etc/a/x.png", "train/../x.png", "train/a/..", "train/x.png", "a\0/b/c"]
)
def test_paths_of_an_index_cannot_leave_its_folder(path: str) -> None:
    with pytest.raises(InputError, match=r"should name images as PART/CLASS/NAME"):
        image_folder._plain_paths(f"train/a/x.png\n{path}".encode(), "\n", Path("train.safetensors"))
    assert image_folder._plain_paths(b"train/a/..x.png\nval/..b/x", "\n", Path("t")) == ("train/a/..x.png", "val/..b/x")
