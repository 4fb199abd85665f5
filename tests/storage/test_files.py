"""A final name never holds half a file: on disks that fill, under limits, after a kill."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from daar.errors import InputError
from daar.storage import files

# Saves a ResNet-20 (1.1 MB) twice in a folder with room for one; says what came of it
SAVE_TWICE = """
import json, sys
from pathlib import Path
import torch
from daar.checkpoint import checkpoint
from daar.storage import files
from daar.checkpoint.checkpoint import Description
from daar.errors import InputError
about = Description("resnet20", "digits", 10, (3, 32, 32), (0.5,) * 3, (0.2,) * 3, ("train",), None, {})
folder, said = Path(sys.argv[1]) / "net", []
for seed in (0, 1):
    torch.manual_seed(seed)
    try:
        checkpoint.save(folder, checkpoint.build_dense(about), about)
    except InputError as error:
        said.append(str(error))
if (folder / "model.json").exists():
    checkpoint.load(folder)  # compares the weights with the hash in model.json
print(json.dumps({"said": said, "files": sorted(path.name for path in folder.iterdir())}))
"""


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def on_small_disk(folder: Path, size: str, commands: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run shell commands ($0: Python, $1: the folder) on a file system of that size, which is there for them alone."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} tmpfs "$1"'
    probe = ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder)]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here to mount a small file system in")
    command = ["unshare", "-rm", "sh", "-c", f"{mount} && {commands}", sys.executable, str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    result = outcome(on_small_disk(tmp_path / "disk", "2m", 'exec "$0" -c "$2" "$1"', SAVE_TWICE))
    assert result["files"] == ["model.json", "model.safetensors"]
    (said,) = result["said"]
    path = tmp_path / "disk" / "net" / "model.safetensors"
    assert said.startswith(f"cannot write {path}: No space left on device, ")
    free = float(said.split(", ")[1].split(" MB are free there")[0])
    assert 0.5 < free < 1.1  # 2 MiB less one network and a page or two


@pytest.mark.slow
def test_training_goes_on_from_the_old_resume_file_when_the_disk_has_room_again(tmp_path: Path, digits: Path) -> None:
    """Five MB hold one resume file (weights, best weights, momenta: 3.3 MB) but not a second one next to it."""
    train = '"$0" -m daar train --network resnet20 --dataset digits --packs "$2" --out "$1/net" --threads 1'
    train += " --epochs 2 --lr 0.05 --batch-size 128"
    commands = f'{train}; echo "code $?"; ls -A "$1/net"; mount -o remount,size=20m "$1"; {train}; echo "code $?"'
    done = on_small_disk(tmp_path / "disk", "5m", commands, str(digits.parent))
    first, then = done.stdout.split("code 2\n")
    assert "epoch 1/2" in first
    said = done.stderr.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        f"daar: error: cannot write {tmp_path}/disk/net/resume.safetensors: No space left on device"
    )
    assert then.startswith("resume.safetensors\n")  # and nothing half-written
    assert "continues after epoch 1" in then
    assert then.endswith("code 0\n")


def test_a_limit_on_file_size_leaves_the_old_file(tmp_path: Path) -> None:
    """`ulimit -f`, as some clusters set it."""
    files.write_text(tmp_path / "old.json", "old")
    script = (
        "import sys; from pathlib import Path; from daar.storage import files; from daar.errors import InputError\n"
        "try: files.write_text(Path(sys.argv[1]), '0' * 20_000)\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "old.json")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"cannot write {tmp_path}/old.json: File too large, ")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_weights_too_large_are_no_traceback_but_a_line(tmp_path: Path) -> None:
    """safetensors is written in Rust and raises no OSError."""
    done = subprocess.run(
        [sys.executable, "-c", SAVE_TWICE, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    result = outcome(done)
    assert len(result["said"]) == 2
    assert all("net/model.safetensors: File too large" in said for said in result["said"])
    assert not result["files"]


def test_other_errors_pass_unchanged_and_leave_nothing(tmp_path: Path) -> None:
    for error in (ValueError("of the writer"), InputError("no space (os error 28)")):
        with pytest.raises(type(error), match=r"of the writer|no space"), files.atomic(tmp_path / "new"):
            raise error
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_goes_an_hour_later(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    script = (
        "import sys, time; from pathlib import Path; from daar.storage import files\n"
        "with files.atomic(Path(sys.argv[1])) as temporary: print(temporary, flush=True); time.sleep(600)"
    )
    left = []
    for _ in range(2):
        victim = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        left.append(Path(victim.stdout.readline().strip()))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert sorted(tmp_path.iterdir()) == sorted(left)
    os.utime(left[0], (time.time() - 7200,) * 2)
    files.write_text(path, "new")
    # the younger may be another process's that writes now
    assert sorted(tmp_path.iterdir()) == sorted([left[1], path])
    files.write_text(tmp_path / "netter.safetensors", "another")
    assert left[1].exists()


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/new.json: .*Choose another output folder"):
        files.write_json(tmp_path / "file" / "new.json", {})


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("folder", False, "should be a file, but is a folder"),
        (".", False, "should be a file, but is a folder"),
        ("folder/..", False, "should be a file, but is a folder"),
        ("pipe", False, "should be a file, but is a pipe"),
        ("null", False, "should be a file, but is a device"),
        ("file/x", False, "file should be a folder, but is none"),
        ("file/x/y/z", True, "file should be a folder, but is none"),
        ("file", True, "file should be a folder, but is none"),
        ("nowhere", True, "nowhere should be a folder, but is none"),
        ("nowhere/x", False, "nowhere should be a folder, but is none"),
        ("pipe/x", True, "pipe should be a folder, but is none"),
    ],
)
def test_what_can_never_be_written_is_refused_before_the_work(
    tmp_path: Path, name: str, folder: bool, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "null").symlink_to(os.devnull)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=said):
        files.require_place(tmp_path / name, folder=folder)
    if not folder:
        with pytest.raises(InputError):
            files.write_text(tmp_path / name, "x")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "folder"),
    [("new", True), ("new/er", True), ("new", False), ("new/er", False), ("file", False), ("link", False), ("", True)],
)
def test_what_can_be_written_is_taken(tmp_path: Path, name: str, folder: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    files.require_place(tmp_path / name, folder=folder)
    if not folder:
        files.write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
    files.require_place(Path("new"), folder=folder)  # relative
