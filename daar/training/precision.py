"""Which precision a training takes where its recipe says `auto`: on a CPU the one in which a step is faster.

Of CPUs with the same bfloat16 instructions some train twice as fast with them as in float32 and others more slowly
(docs/performance.md). So a step is timed in both, once for a CPU and a version of torch, and the result is kept in the
user's cache directory, where all jobs of a suite find it.
"""

import contextlib
import functools
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from daar.device import distributed, malloc
from daar.errors import InputError
from daar.storage import documents, files
from daar.training.recipe import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

RESULT_NEUTRAL = "chooses the precision, which records name"

# bf16 is taken from this ratio on: where both are as fast, noise should not decide
MARGIN = 1.05
_ROUNDS = 3
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Choice:
    """What a training computes in.

    Attributes:
        precision: bf16 or float32.
        why: a phrase for the log; empty where the recipe says it.
    """

    precision: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.precision} ({self.why})" if self.why else self.precision


def choose(recipe: Recipe, device: torch.device, saved: str | None = None) -> Choice:
    """The precision of a training; every process of it must call this with the same arguments.

    Args:
        recipe: that it follows.
        device: that it runs on.
        saved: what a training that goes on was begun in: it stays so, on whatever machine.
    """
    if recipe.precision != "auto":
        return Choice(recipe.precision)
    if saved is not None:
        return Choice(saved, "as it was begun")
    if recipe.epochs == 0:
        return Choice("float32", "nothing is trained")
    choice = _fastest(device) if distributed.is_first() else Choice("float32", "as the first process says")
    is_bf16 = distributed.all_reduce_max(int(choice.precision == "bf16")) > 0
    return choice if is_bf16 == (choice.precision == "bf16") else Choice("bf16", choice.why)


def _fastest(device: torch.device) -> Choice:
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported()
        return Choice("bf16" if has else "float32", f"this GPU has {'' if has else 'no '}bfloat16")
    if device.type != "cpu" or not _cpu_has_bf16():
        return Choice("float32", f"this {device.type.upper()} has no bfloat16 instructions that torch uses")
    speedup = bf16_speedup()
    return Choice("bf16" if speedup >= MARGIN else "float32", f"a step in bf16 is {speedup:.2f} times as fast here")


@functools.cache
def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16; without that, autocast on a CPU only adds conversions."""
    fields = _cpuinfo().get("flags", "").split()
    return "avx512_bf16" in fields or "amx_bf16" in fields


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor, by name; nothing elsewhere."""
    if platform.system() != "Linux":
        return {}
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@functools.cache
def bf16_speedup() -> float:
    """CPU seconds of a training step in float32, as a multiple of those in bf16; measured once, then read.

    Processes that need it at the same time wait for the first, so that all have the same number.
    """
    file = cache_folder() / "bf16_speedup.json"
    with _alone(file.with_suffix(".lock")):
        known = _read(file)
        if (measured := known.get(_this_cpu())) is None:
            measured = known[_this_cpu()] = measure(_step())
            with contextlib.suppress(InputError):  # a home that is read-only: each process measures for itself
                files.write_json(file, known)
    return measured


def cache_folder() -> Path:
    """Where daar keeps what it has measured of this machine: $XDG_CACHE_HOME/daar, else ~/.cache/daar."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "daar")


def _this_cpu() -> str:
    """The CPU and torch that a measurement holds for; names such as "AMD EPYC" alone stand for several CPUs."""
    info = _cpuinfo()
    names = [info.get("model name", platform.machine())]
    names += [f"{key} {info[key]}" for key in ("cpu family", "model", "stepping") if key in info]
    return ", ".join([*names, f"torch {torch.__version__}"])


def _read(file: Path) -> dict[str, float]:
    """CPU → speed-up; nothing where the file is absent or damaged."""
    try:
        content = documents.read_json(file, "what was measured of this machine")
    except InputError:
        return {}
    pairs = content.items() if isinstance(content, dict) else []
    return {name: float(value) for name, value in pairs if isinstance(value, int | float) and value > 0}


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for other processes that hold a lock; without file locks, or where nothing can be written, go on."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(lock, "w"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure(step: Callable[[bool], None]) -> float:
    """How many times as long a step takes in float32 as in bf16: the least of some rounds by turns, after one of each.

    CPU seconds of one thread are counted, since other programs, and threads that wait for each other behind them, make
    wall times of half a second worthless.

    Args:
        step: does one, in bf16 if its argument is true.
    """
    threads = torch.get_num_threads()
    taken: dict[bool, list[float]] = {False: [], True: []}
    torch.set_num_threads(1)
    try:
        with malloc.retain_freed_memory(_CPU):
            for _ in range(1 + _ROUNDS):
                for in_bf16, times in taken.items():
                    start = time.process_time()
                    step(in_bf16)
                    times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    float32, bf16 = (min(times[1:]) for times in taken.values())
    return float32 / bf16


def _step() -> Callable[[bool], None]:
    """Forward and backward of 128 images of CIFAR's size in a third of a ResNet-20."""
    with torch.random.fork_rng(devices=[]):
        widths = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
        model = nn.Sequential(*(_block(*width) for width in widths)).to(memory_format=torch.channels_last)
        images = torch.randn(128, 16, 32, 32).contiguous(memory_format=torch.channels_last)

    def step(in_bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            out: Tensor = model(images)
        out.float().square().mean().backward()  # type: ignore[no-untyped-call]  # torch's

    return step


def _block(read: int, made: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(read, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True))
