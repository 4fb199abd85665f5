"""Train a small network in children that are killed at random, until one comes to the end; print what it ends with.

    python tests/training/killed_training.py PACKS FOLDER SEED KILLS

Prints as JSON the SHA-256 of the final weights after no kill and after KILLS kills, and how each child was killed. A
program of its own, so that the children can be forked from a process that has one thread and torch imported.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from daar import models
from daar.data import packed
from daar.data.packed import Pack
from daar.training import engine
from daar.training.batches import Data
from daar.training.recipe import Recipe

RECIPE = Recipe(epochs=3, lr=0.05, batch_size=64, precision="float32")
IMAGES = 256
WAYS = ("any moment", "any moment", "half of the file written", "before the rename", "after the rename")


def part(folder: Path, split: str) -> Pack:
    pack = packed.load(folder / f"{split}.safetensors")
    return Pack(**{**pack.__dict__, "images": pack.images[:IMAGES], "labels": pack.labels[:IMAGES]})


def train(packs: Path, folder: Path) -> None:
    """One run to the end; writes the digest of its weights."""
    train_pack, val_pack = part(packs, "train"), part(packs, "val")
    data = Data(train_pack, val_pack, train_pack.mean, train_pack.std, flip=False)
    torch.manual_seed(0)
    model = models.get("resnet20").build(10)
    file = folder / "resume.safetensors"
    progress = engine.fit(model, data, RECIPE, 0, torch.device("cpu"), resume_file=file, say=lambda _: None)
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values()))
    digest.update(json.dumps([(e.epoch, e.loss, e.train_top1, e.val_top1) for e in progress.curve]).encode())
    (folder / "digest").write_text(digest.hexdigest())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(way: str, dice: random.Random) -> None:
    """Have this child die while it saves for the n-th time."""
    if way == "any moment":
        return
    left = dice.randint(1, 4)
    from safetensors import torch as written

    save, replace = written.save_file, os.replace

    def saving(tensors: Any, path: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        save(tensors, path, **options)
        if not left and way == "half of the file written":
            os.truncate(path, os.path.getsize(path) // 2)  # noqa: PTH202
            die()

    def renaming(source: Any, target: Any, **options: Any) -> None:
        if not left and way == "before the rename":
            die()
        replace(source, target, **options)
        if not left and way == "after the rename":
            die()

    written.save_file, os.replace = saving, renaming  # type: ignore[assignment]


def child(packs: Path, folder: Path, way: str | None, dice: random.Random, within: float) -> bool:
    """Run in a child; whether it came to the end."""
    pid = os.fork()
    if pid == 0:
        engine.SAVE_SECONDS = 0  # after every step, so that kills meet saves
        if way is not None:
            arrange(way, dice)
        train(packs, folder)
        os._exit(0)
    deadline = time.monotonic() + dice.uniform(0, within) if way == "any moment" else float("inf")
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if status not in (0, signal.SIGKILL):
                raise SystemExit(f"a child ended with {status}")
            return status == 0
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(0.002)


def main() -> None:
    packs, folder, seed, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    dice = random.Random(seed)
    calm, wild = folder / "calm", folder / "wild"
    calm.mkdir()
    wild.mkdir()
    start = time.monotonic()
    child(packs, calm, None, dice, 0)
    within = (time.monotonic() - start) / 2
    killed: list[str] = []
    while len(killed) < kills:
        way = dice.choice(WAYS)
        if child(packs, wild, way, random.Random(dice.random()), within):
            for file in wild.iterdir():  # it came to the end unkilled: from the start again
                file.unlink()
        else:
            killed.append(way)
    while not child(packs, wild, None, dice, 0):
        pass
    outcome = {"calm": (calm / "digest").read_text(), "wild": (wild / "digest").read_text(), "killed": killed}
    print(json.dumps({**outcome, "left": sorted(file.name for file in wild.iterdir())}))


if __name__ == "__main__":
    main()
