"""Training by daar's engine beside loops that others have published, run from checkouts that the user has.

None of their code is kept here: what stands below is how to call it. To add a loop, add a `Published` to `LOOPS`.
"""

import functools
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms

from daar import files, gpu
from daar.bench import foreign
from daar.bench.harness import Benchmark, Options, Side, Sides
from daar.bench.training import BATCH, CLASSES, Pictures, endless, engine, picture_loader, random_pack, synchronise
from daar.errors import InputError, unknown

TITLES = {"resnet20": "ResNet-20", "resnet56": "ResNet-56"}
CROP = transforms.RandomCrop(32, padding=4)
FLIP = transforms.RandomHorizontalFlip()


class Batches:
    """What a published loop takes for its loader: exactly so many batches of an endless stream.

    Args:
        stream: batches without an end.
        count: how many a pass takes.
    """

    def __init__(self, stream: Iterator[tuple[Tensor, Tensor]], count: int) -> None:
        self._stream, self._count = stream, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self._count):
            yield next(self._stream)


Train = Callable[[Batches], object]


@dataclass(frozen=True)
class Published:
    """A published loop, and how its own `main()` calls it.

    Attributes:
        repository: owner and name on GitHub.
        commit: the one that it is known to run at.
        script: the file with `train`.
        needs: further files that the script imports.
        networks: ours -> its name for the same architecture.
        arguments: command line of the script, from its name for the network and a folder for what it writes.
        ready: makes network and optimizer as its `main()` does; gives one call of `train`.
        augmentation: its transforms of training images, up to `ToTensor`.
        mean: of its normalisation.
        std: likewise.
        workers: of its DataLoader, unless the command line says otherwise.
        besides: what its steps do beyond training, in words.
        renamed: what torch and Python have renamed since, old -> new.
    """

    repository: str
    commit: str
    script: str
    needs: tuple[str, ...]
    networks: Mapping[str, str]
    arguments: Callable[[str, str], list[str]]
    ready: Callable[[ModuleType, str, torch.device], Train]
    augmentation: tuple[Any, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    workers: int
    besides: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is to be had."""
        return f"https://github.com/{self.repository}"


def benchmarks(checkouts: Sequence[str]) -> list[Benchmark]:
    """Training of the networks that each loop at hand has, ours in its own precision and in float32."""
    found = []
    for name, folder in _folders(checkouts).items():
        for network in LOOPS[name].networks:
            for precision, suffix, words in (("auto", "", ""), ("float32", "-float32", ", ours in float32")):
                title = f"Training {TITLES[network]}, batch {BATCH}, against {LOOPS[name].repository}{words}"
                opener = functools.partial(_sides, name, folder, network, precision)
                found.append(Benchmark(f"published-{name}-{network}{suffix}", title, opener))
    return found


def _folders(checkouts: Sequence[str]) -> dict[str, Path]:
    """Folder of each loop by name, once it is seen to have what the loop needs."""
    found: dict[str, Path] = {}
    for item in checkouts:
        name, equals, where = item.partition("=")
        if not equals or not where:
            hint = f"NAME is one of {', '.join(LOOPS)}, FOLDER your checkout of it"
            raise InputError(f"--published takes NAME=FOLDER, got {item!r}. {hint}: --published {next(iter(LOOPS))}=…")
        if name not in LOOPS:
            known = f"They are {', '.join(f'{own} ({loop.address})' for own, loop in LOOPS.items())}."
            raise unknown("published loop", name, list(LOOPS), known)
        if name in found:
            raise InputError(f"--published names {name} twice, got {item!r} too. Give one folder for each loop.")
        found[name] = _checked(LOOPS[name], Path(where))
    return found


def _checked(loop: Published, folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(
            f"--published needs a checkout of {loop.repository}, but {folder} is no folder. "
            f"Run: git clone {loop.address} {folder}"
        )
    for file in (loop.script, *loop.needs):
        if not (folder / file).is_file():
            raise InputError(
                f"a checkout of {loop.repository} has the file {file}, but {folder} has none. "
                f"Name the top folder of a checkout of {loop.address}."
            )
    return folder


@contextmanager
def _sides(name: str, folder: Path, network: str, precision: str, options: Options) -> Iterator[Sides]:
    loop, device = LOOPS[name], options.device
    pack = random_pack(options.train_images, "train")
    augmented = transforms.Compose(
        [*loop.augmentation, transforms.ToTensor(), transforms.Normalize(loop.mean, loop.std)]
    )
    # more workers than cores would hold their loop up
    workers = min(loop.workers, gpu.count_cores())
    loader = picture_loader(Pictures(pack, augmented), BATCH, device, shuffle=True, workers=workers)
    # each worker may have two batches ready, made while ours ran: they are to be used up when a window begins
    lead = max(options.lead, 2 * workers + 1)
    with tempfile.TemporaryDirectory() as scratch, closing(endless(loader)) as stream:
        train = _open(name, folder, network, device, scratch)

        def reference(count: int) -> None:
            with _told(name, folder), foreign.adapted(device):
                train(Batches(stream, count))
            synchronise(device)

        yield Sides(
            engine(network, precision, pack, options),
            Side(
                _words(loop, folder, workers),
                lambda: reference(options.steps),
                options.steps * BATCH,
                before=lambda: reference(lead),
            ),
        )


def _open(name: str, folder: Path, network: str, device: torch.device, scratch: str) -> Train:
    """Import the loop and make its network ready."""
    loop = LOOPS[name]
    theirs = loop.networks[network]
    with _told(name, folder), foreign.adapted(device):
        module = foreign.load(folder / loop.script, loop.arguments(theirs, scratch), loop.renamed)
        return loop.ready(module, theirs, device)


def _words(loop: Published, folder: Path, workers: int) -> str:
    """What runs as the reference; the sum of the script says which version of it."""
    script = f"{loop.script} (SHA-256 {files.sha256(folder / loop.script)[:12]}…)"
    return (
        f"{loop.repository}, train of {script} with its network, optimizer and transforms, DataLoader with "
        f"{workers} workers over PIL images{loop.besides}"
    )


@contextmanager
def _told(name: str, folder: Path) -> Iterator[None]:
    """Whatever goes wrong in their code is told in one line."""
    try:
        yield
    # a script that does not like its command line exits
    except (Exception, SystemExit) as error:
        loop, what = LOOPS[name], str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"published loop {name!r} in {folder} fails: {type(error).__name__}: {what}. It is known to run at commit "
            f"{loop.commit[:10]} of {loop.address}: check that out, or leave out --published {name}=…."
        ) from error


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """On a GPU in DataParallel, as their `main()` has it; elsewhere that is no more than a wrapper."""
    if device.type == "cuda":
        return nn.DataParallel(model.cuda(), device_ids=[torch.cuda.current_device()])
    return model.cuda()


def _akamaster(module: Any, network: str, device: torch.device) -> Train:
    module.args = module.parser.parse_args(["--arch", network])
    model = _placed(vars(module.resnet)[network](), device)
    criterion = nn.CrossEntropyLoss().cuda()
    given = module.args
    optimizer = torch.optim.SGD(model.parameters(), given.lr, momentum=given.momentum, weight_decay=given.weight_decay)
    return lambda batches: module.train(batches, model, criterion, optimizer, 0)


def _fpgm(module: Any, network: str, device: torch.device) -> Train:
    given = module.args
    given.use_cuda = device.type != "cpu"
    model = _placed(vars(module.models)[network](CLASSES), device)
    criterion = nn.CrossEntropyLoss().cuda()
    optimizer = torch.optim.SGD(
        model.parameters(), given.learning_rate, momentum=given.momentum, weight_decay=given.decay, nesterov=True
    )
    mask = module.Mask(model)
    mask.init_length()
    mask.init_mask(given.rate_norm, given.rate_dist, given.dist_type)
    mask.do_mask()
    mask.do_similar_mask()
    return lambda batches: module.train(batches, model, criterion, optimizer, 0, io.StringIO(), mask)


def _fpgm_arguments(network: str, scratch: str) -> list[str]:
    """As its scripts have them: 40 % of the filters by distance, in every conv of the blocks."""
    last = {"resnet20": "54", "resnet56": "164"}[network]
    layers = ["--layer_begin", "0", "--layer_end", last, "--layer_inter", "3"]
    rates = ["--rate_norm", "1", "--rate_dist", "0.4"]
    return [scratch, "--dataset", "cifar10", "--arch", network, "--save_path", scratch, *rates, *layers]


def _hrankplus(module: Any, network: str, _: torch.device) -> Train:
    given = module.args
    # the logger is of the whole process, and its file goes when the benchmark is over
    for handler in list(module.logger.handlers):
        module.logger.removeHandler(handler)
        handler.close()
    model = vars(module)[network](compress_rate=[0.0] * 100).cuda()
    criterion = nn.CrossEntropyLoss().cuda()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=given.learning_rate, momentum=given.momentum, weight_decay=given.weight_decay
    )
    milestones = [int(step) for step in given.lr_decay_step.split(",")]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    return lambda batches: module.train(0, batches, model, criterion, optimizer, scheduler)


# top-k of a transposed tensor: `view` of it is refused since torch 1.7
TOP_K = {"correct[:k].view(-1)": "correct[:k].reshape(-1)"}

LOOPS = {
    "akamaster": Published(
        repository="akamaster/pytorch_resnet_cifar10",
        commit="d5489e8995e81e91ce6b1d69dcc98ad579b0b153",
        script="trainer.py",
        needs=("resnet.py",),
        networks={"resnet20": "resnet20", "resnet56": "resnet56"},
        arguments=lambda _, __: [],
        ready=_akamaster,
        augmentation=(FLIP, CROP),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        workers=4,
    ),
    "fpgm": Published(
        repository="he-y/filter-pruning-geometric-median",
        commit="44fbab47b246e8b11bc8008a7bebfe06c0e391b8",
        script="pruning_cifar10.py",
        needs=("utils.py", "models/__init__.py", "models/resnet.py"),
        networks={"resnet20": "resnet20", "resnet56": "resnet56"},
        arguments=_fpgm_arguments,
        ready=_fpgm,
        augmentation=(FLIP, CROP),
        mean=tuple(value / 255 for value in (125.3, 123.0, 113.9)),
        std=tuple(value / 255 for value in (63.0, 62.1, 66.7)),
        workers=2,
        besides=", gradients of pruned filters masked at every step",
        renamed={
            **TOP_K,
            "async=": "non_blocking=",
            # tensors of one element were indexed before torch 0.4
            "loss.data[0]": "loss.item()",
            "prec1[0]": "prec1.item()",
            "prec5[0]": "prec5.item()",
        },
    ),
    "hrankplus": Published(
        repository="lmbxmu/HRankPlus",
        commit="bcdb51dd7f039d8fa295eeafa7bc78bc7dab3d75",
        script="evaluate_cifar.py",
        needs=("utils/common.py", "data/cifar10.py", "models/cifar10/resnet.py"),
        networks={"resnet56": "resnet_56"},
        arguments=lambda network, scratch: ["--arch", network, "--job_dir", scratch, "--batch_size", str(BATCH)],
        ready=_hrankplus,
        augmentation=(CROP, FLIP),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        workers=2,
        renamed=TOP_K,
    ),
}
