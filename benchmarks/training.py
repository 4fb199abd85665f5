"""Images per second of training and of evaluation, compared with loops in the usual style."""

import functools
import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.harness import Benchmark, Options, Side, Sides, at_least
from daar import models
from daar.data.packed import Pack
from daar.device import malloc
from daar.device.precision import flushing_denormals
from daar.measure.accuracy import evaluate
from daar.training.batches import Data
from daar.training.engine import Loop
from daar.training.recipe import Recipe

BATCH = 128
TEST_BATCH = 500
WORKERS = 2
CLASSES = 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

Loader = DataLoader[tuple[Tensor, int]]

REFERENCE = f"DataLoader with {WORKERS} workers over PIL images, torchvision transforms, float32, NCHW"


def benchmarks() -> list[Benchmark]:
    """Training of ResNet-20 and -56, in the engine's own precision and in float32; evaluation."""
    listed = []
    for network, title in (("resnet20", "ResNet-20"), ("resnet56", "ResNet-56")):
        for precision, suffix, words in (("auto", "", ""), ("float32", "-float32", ", ours in float32")):
            opener = functools.partial(_training, network, precision)
            name = f"train-{network}{suffix}"
            goal = None if suffix else at_least(2.5)
            listed.append(Benchmark(name, f"Training {title}, batch {BATCH}{words}", opener, goal))
    opener = functools.partial(_evaluation, "resnet20")
    return [
        *listed,
        Benchmark(
            "evaluate-resnet20", f"Evaluating ResNet-20, the reference by batches of {TEST_BATCH}", opener, at_least(4)
        ),
    ]


@contextmanager
def _training(network: str, precision: str, options: Options) -> Iterator[Sides]:
    pack = random_pack(options.train_images, "train")
    loader = picture_loader(Pictures(pack, _augmented()), BATCH, options.device, shuffle=True)
    images = options.steps * BATCH
    with closing(endless(loader)) as batches:
        reference = _reference(network, batches, Recipe(batch_size=BATCH), options.device)
        yield Sides(
            engine(network, precision, pack, options),
            Side(REFERENCE, lambda: reference(options.steps), images, before=lambda: reference(options.lead)),
        )


def engine(network: str, precision: str, pack: Pack, options: Options) -> Side:
    """The side of daar's training engine."""
    recipe = Recipe(batch_size=BATCH, precision=precision)
    loop = Loop(_model(network), Data(pack, pack, MEAN, STD, flip=True), recipe, 0, options.device)
    steps = itertools.chain.from_iterable(loop.train(epoch) for epoch in itertools.count())

    def ours(count: int) -> None:
        with flushing_denormals(options.device), malloc.retain_freed_memory(options.device):
            for _ in itertools.islice(steps, count):
                pass
        synchronise(options.device)

    return Side(
        f"daar's engine: uint8 images on the device, {loop.precision}, channels_last",
        lambda: ours(options.steps),
        options.steps * BATCH,
        before=lambda: ours(options.lead),
    )


def _reference(
    network: str, batches: Iterator[tuple[Tensor, Tensor]], recipe: Recipe, device: torch.device
) -> Callable[[int], None]:
    """The training loop of most CIFAR code; the returned function runs a number of its steps."""
    model = _model(network).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )

    def steps(count: int) -> None:
        for batch in itertools.islice(batches, count):
            images, labels = (part.to(device) for part in batch)
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
            # for a progress line, as usual at every step
            loss.item()
            (logits.argmax(1) == labels).sum().item()
        synchronise(device)

    return steps


@contextmanager
def _evaluation(network: str, options: Options) -> Iterator[Sides]:
    pack = random_pack(options.test_images, "test")
    model = _model(network).to(options.device)
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    loader = picture_loader(Pictures(pack, plain), TEST_BATCH, options.device, shuffle=False)

    def ours() -> None:
        evaluate(model, pack, MEAN, STD, options.device)

    def reference() -> None:
        model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in loader:
                logits = model(images.to(options.device))
                correct += (logits.argmax(1) == labels.to(options.device)).sum().item()

    yield Sides(
        Side(
            "daar's evaluate: uint8 images in memory, strict float32",
            ours,
            options.test_images,
        ),
        Side(REFERENCE, reference, options.test_images),
    )


class Pictures(Dataset[tuple[Tensor, int]]):
    """Serves images as torchvision.datasets.CIFAR10 does: each as a PIL image, through the transforms."""

    def __init__(self, pack: Pack, transform: transforms.Compose) -> None:
        self._images, self._labels, self._transform = pack.images.numpy(), pack.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def _augmented() -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def endless(loader: Loader) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Batches of a loader, pass after pass."""
    while True:
        yield from loader


def picture_loader(
    pictures: Pictures, batch_size: int, device: torch.device, *, shuffle: bool, workers: int = WORKERS
) -> Loader:
    """A loader whose workers stay alive between passes, so that their start is not timed."""
    return DataLoader(
        pictures,
        batch_size,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )


def random_pack(count: int, split: str) -> Pack:
    """Random images of CIFAR-10's size."""
    dice = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=dice)
    labels = torch.randint(CLASSES, (count,), generator=dice)
    names = tuple(map(str, range(CLASSES)))
    return Pack(images, labels, names, MEAN, STD, "random", split, "random pixels", "")


def _model(network: str) -> nn.Module:
    return models.get(network).build(CLASSES)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
