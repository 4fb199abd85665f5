"""Run one record's setting again, from the pixels on, and compare every number."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from daar.errors import InputError
from daar.storage import documents, files
from daar.storage.bundled import ROOT
from daar.storage.schemas import validate
from daar.suite import paths
from daar.suite.definition import setting_path

# what a record says of the run and not of the networks; seconds and memory never repeat
_AROUND = (
    "seconds", "peak_memory_mib", "curve", "threads", "hardware", "versions", "commit", "format", "slim_error",
    "made_from",
)  # fmt: skip


class Compared(NamedTuple):
    """One number, or other fact, of the record and of the rerun."""

    name: str
    before: Any
    now: Any

    @property
    def same(self) -> bool:
        """Whether both are equal, to the last bit."""
        return bool(self.before == self.now)

    def __str__(self) -> str:
        if self.same:
            return f"same     {self.name}: {_short(self.before)}"
        both = (self.before, self.now)
        by = f", by {self.now - self.before:+.6g}" if all(_is_number(value) for value in both) else ""
        return f"differs  {self.name}: {_short(self.before)} in the record, {_short(self.now)} now{by}"


def reproduce(
    record_file: Path, out: Path, *, keep_base: bool = False, cores: int, say: Callable[[str], None] = print
) -> list[Compared]:
    """Run the setting of a record again in another folder.

    Args:
        record_file: results/<suite>/…/record.json, with the suite's suite.json in its place.
        out: an empty or absent folder for the rerun, in which results/ is made.
        keep_base: take the dense network that is there, if it is the record's, instead of training it again.
        cores: for Snakemake; with another number the threads of a job, and so last bits, may change.
        say: gets what differs around the run, and the command.

    Returns:
        Every number compared, then the plan's kept channels and the tuned weights.

    Raises:
        InputError: a file is absent or damaged, `out` is not empty, the dense network is not the record's, or the
            rerun failed.
    """
    record = documents.read_json(record_file, "a record of one setting")
    validate(record, "record", str(record_file), "Run the suite again.")
    root, place = _home(record_file, record)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} should be an empty folder for the rerun, but holds something. Choose another --out.")
    config = _absolute(
        documents.read_json(root / record["suite"] / "suite.json", "the suite of the record"), root.parent
    )
    base = _base(record, record_file, root) if keep_base else None
    packs = Path(paths.PACKS, record["dataset"]).relative_to(paths.RESULTS)
    for folder in filter(None, (root / packs, base)):
        if folder.is_dir():
            shutil.copytree(folder, out / paths.RESULTS / folder.relative_to(root))
    # a kept record would be compared with itself
    files.write_json(out / "suite.json", {**config, "reuse": False})
    target = f"{paths.RESULTS}/{record['suite']}/{place}/record.json"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", str(cores)]
    command += ["--directory", str(out), "--configfile", str(out / "suite.json"), "--", target]
    say(f"running: {' '.join(command)}")
    if code := subprocess.run(command, check=False).returncode:
        raise InputError(f"the rerun ended with exit code {code}; its last lines above say why. It is in {out}.")
    return list(compare(record_file.parent, (out / target).parent))


def around(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was when a record was made: commit, versions, hardware, threads; a line each."""
    before, after = ({key: side[key] for key in ("commit", "versions", "hardware")} for side in (record, now))
    return [
        f"{name}: {_short(was)} in the record, {_short(here.get(name))} now"
        for was_all, here in ((dict(_flat(before)), dict(_flat(after))),)
        for name, was in was_all.items()
        if was != here.get(name)
    ]


def _home(record_file: Path, record: Mapping[str, Any]) -> tuple[Path, str]:
    """The results folder that a record lies in, and the setting's place below the suite's."""
    keys = ("dataset", "network", "seed", "variant", "policy", "scope", "target")
    place = setting_path(*(record[key] for key in keys))
    tail = Path(record["suite"], place)
    folder = record_file.resolve().parent
    if not folder.as_posix().endswith(f"/{tail.as_posix()}"):
        raise InputError(
            f"{record_file} should lie in results/{tail}, where its suite put it, but is in {folder}. Give the "
            "record in its results folder."
        )
    return folder.parents[len(tail.parts) - 1], place


def _absolute(content: Any, old: Path, key: str = "") -> Any:
    """A suite whose paths hold from any folder; relative ones were so to where it was run."""
    if isinstance(content, dict):
        return {name: _absolute(value, old, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_absolute(value, old, key) for value in content]
    is_path = key in ("file", "data_root", "methods_dirs") and isinstance(content, str)
    # published weights may have a name instead of a path, torchvision:NAME, or lie below the data root
    elsewhere = is_path and (":" in content or (key == "file" and not (old / content).exists()))
    return str(old / content) if is_path and not elsewhere else content


def _base(record: Mapping[str, Any], record_file: Path, root: Path) -> Path:
    """The dense network that the record's was made from, where it still is."""
    asked = record["base"]["sha256"]
    dense = root / Path(paths.DENSE).relative_to(paths.RESULTS)
    pattern = paths.DENSE_NETWORK.format(dataset=record["dataset"], network=record["network"], recipe="*", seed="*")
    for about in sorted(dense.glob(f"{pattern}/model.json")):
        if files.sha256(about.with_name("model.safetensors")) == asked:
            return about.parent
    raise InputError(
        f"the dense network of {record_file} (SHA-256 {asked[:12]}…) is not in {dense}. Leave --keep-base "
        "out to train it again."
    )


def compare(before: Path, now: Path) -> Iterator[Compared]:
    """Every number of two settings' folders, but for what never repeats."""
    old, new = (dict(_flat(_numbers(folder))) for folder in (before, now))
    for name in old | new:
        yield Compared(name, old.get(name), new.get(name))


def _numbers(folder: Path) -> dict[str, Any]:
    """What must repeat: the record without what is around it, the kept channels, the weights."""
    record = documents.read_json(folder / "record.json", "a record of one setting")
    numbers = {key: value for key, value in record.items() if key not in _AROUND}
    plan, model = folder / "plan.json", folder / "model.safetensors"
    if plan.is_file():
        groups = documents.read_json(plan, "a plan")["groups"]
        numbers["kept"] = {group["name"]: tuple(group["kept"]) for group in groups}
    if model.is_file():
        numbers["tuned weights' sha256"] = files.sha256(model)
    return numbers


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = f"{len(value)} channels" if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
