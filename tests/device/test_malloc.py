"""Memory kept between steps, as the operating system counts it."""

import platform
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from daar.cli import main, measuring
from daar.device import malloc
from daar.errors import InputError

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")

CPU = torch.device("cpu")
MEBIBYTES = 200
PAGES = MEBIBYTES * 2**20 // resource.getpagesize()


def step() -> None:
    """Allocate, touch and free."""
    torch.ones(MEBIBYTES * 2**20, dtype=torch.uint8)


def resident() -> int:
    """MiB of the process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 2**20


@pytest.mark.slow  # counts page faults, which also the system's own thrift causes where memory is short
def test_steps_share_their_memory() -> None:
    with malloc.retain_freed_memory(CPU):
        step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            step()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    # the second block may not lie quite where the first did; without, each of the ten costs PAGES
    assert faults < 3 * PAGES


def test_memory_goes_back_afterwards() -> None:
    before = resident()
    with malloc.retain_freed_memory(CPU):
        step()
        assert resident() > before + MEBIBYTES / 2
    assert resident() < before + MEBIBYTES / 2


def test_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc, "_limit", lambda *_: pytest.fail("the C library was told something"))
    with malloc.retain_freed_memory(torch.device("cuda")):
        step()


@pytest.mark.parametrize("command", ["measure", "record"])
def test_commands_that_evaluate_keep_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    kept = []

    def stage(**_: Any) -> None:
        before = resident()
        step()
        kept.append(resident() > before + MEBIBYTES / 2)
        raise InputError("Seen enough.")

    monkeypatch.setattr("daar.stages.measure.measure", stage)
    monkeypatch.setattr(measuring, "_recording", lambda _: stage)
    given = ["--base", "x", "--base-measured", "x", "--suite", "x", "--variant", "l1", "--method", "l1"]
    given = [*given, "--out", str(tmp_path / "record.json")] if command == "record" else []
    before = resident()
    with pytest.raises(SystemExit):
        main.main([command, str(tmp_path), "--dataset", "digits", "--device", "cpu", *given])
    assert kept == [True]
    assert resident() < before + MEBIBYTES / 2
