"""Run one record's setting again, from the pixels on, and compare every number.

Nothing of the record's folder is executed unless it is trusted: records, suites, packed data and weights are data.
"""

import contextlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from daar.data.pack_files import SOURCE, SPLITS, split_file
from daar.errors import InputError
from daar.run import start
from daar.storage import documents, files
from daar.storage.bundled import BASELINES, PACKAGE, ROOT
from daar.storage.schemas import validate
from daar.suite import paths, reading, records

# what a record says of the run and not of the networks; seconds and memory never repeat
_AROUND = (
    "seconds", "peak_memory_mib", "curve", "threads", "hardware", "versions", "commit", "format", "slim_error",
    "made_from", "precision",
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
    record_file: Path,
    out: Path,
    *,
    keep_base: bool = False,
    trust: bool = False,
    cores: int,
    say: Callable[[str], None] = print,
) -> list[Compared]:
    """Run the setting of a record again in another folder.

    Args:
        record_file: results/<suite>/…/record.json or results/reference/<suite>/…/record.json, with the suite's
            suite.json in its place; by any path, from any working directory.
        out: an empty or absent folder for the rerun, in which results/ is made.
        keep_base: take the dense network that is there, if it is the record's, instead of training it again.
        trust: run also methods that are not daar's own, which the suite may name; a stranger's are code.
        cores: for Snakemake; with another number the threads of a job, and so last bits, may change.
        say: gets what differs around the run, and the command.

    Returns:
        Every number compared, then the plan's kept channels and the tuned weights.

    Raises:
        InputError: a file is absent or damaged, `out` is not empty, the dense network is not the record's, the suite
            has methods of its own that are not trusted, or the rerun failed.
    """
    record = records.read(record_file)
    root, place = records.require_in_place(record_file, record), records.place(record)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} should be an empty folder for the rerun, but holds something. Choose another --out.")
    config = _config(root / record["suite"] / "suite.json", record, root)
    _require_own(config, trust, say)
    dense = _base(record, record_file, root) if keep_base else None
    out = out.resolve()
    with _emptied_on_error(out):
        _copy_data(record, root, dense, out / paths.RESULTS)
        # a kept record would be compared with itself
        files.write_json(out / "suite.json", {**config, "reuse": False})
    target = f"{paths.RESULTS}/{record['suite']}/{place}/record.json"
    command = [*start.command(out / "suite.json", cores, ["--directory", str(out)]), "--", target]
    say(f"running: {shlex.join(command)}")
    # there, so that Snakemake finds no profile of a stranger's in the working directory
    if code := start.run(command, folder=out):
        raise InputError(f"the rerun ended with exit code {code}; its last lines above say why. It is in {out}.")
    return list(compare(record_file.parent, (out / target).parent))


@contextlib.contextmanager
def _emptied_on_error(folder: Path) -> Iterator[None]:
    """Leave nothing in a folder that was empty or absent, where what is done within fails."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the error that came first is the one to tell
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not there:
                folder.rmdir()
        raise


def _config(file: Path, record: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The suite of a record, with absolute paths.

    Raises:
        InputError: it is absent, no suite, or not the record's.
    """
    # relative paths were so to where the suite was run: results/ lies there, or results/reference/
    places = (*root.parents[:2], Path.cwd(), ROOT)
    config: dict[str, Any] = _absolute(reading.normal_form(documents.read_json(file, "the suite of a record")), places)
    # kept results have no packed data of their own
    packed = [place / Path(paths.PACKS).name for place in (root, root.parent)]
    suite = reading.from_config(config, str(file), next((place for place in packed if place.is_dir()), packed[0]))
    if suite.name != record["suite"] or records.place(record) not in {setting.path for setting in suite.settings}:
        raise InputError(f"{file} should have the setting of the record, but has not. Give the record's own suite.")
    return config


def _require_own(config: Mapping[str, Any], trust: bool, say: Callable[[str], None]) -> None:
    """InputError where the suite would run code that is not daar's own, unless it is trusted."""
    foreign = [
        folder
        for folder in [*config.get("methods_dirs", ()), *config.get("networks_dirs", ())]
        if not _is_own(Path(folder))
    ]
    if not foreign:
        return
    folders = ", ".join(map(documents.shown, foreign))
    if not trust:
        raise InputError(
            f"the suite of this record runs code from {folders}, which is not part of daar; nothing was run. Read it, "
            "then give --trust to run it."
        )
    say(f"trusted: code from {folders}")


def _is_own(folder: Path) -> bool:
    return any(folder.resolve().is_relative_to(own.resolve()) for own in (PACKAGE, BASELINES, ROOT / "workflow"))


def _copy_data(record: Mapping[str, Any], root: Path, dense: Path | None, results: Path) -> None:
    """Copy what need not be made again: packed data, and the dense network where it is to be kept."""
    packs = Path(paths.PACKS).relative_to(paths.RESULTS) / record["dataset"]
    names = [*(split_file("", split).name for split in SPLITS), SOURCE]
    # kept results have no packed data of their own
    for folder in (root / packs, root.parent / packs):
        if all((folder / name).is_file() for name in names):
            _copy(folder, names, results / packs)
            break
    if dense is not None:
        _copy(dense, ["model.safetensors", "model.json", "measured.json"], results / dense.relative_to(root))


def _copy(folder: Path, names: Iterable[str], to: Path) -> None:
    """Copy those of these files that exist, and nothing else of a stranger's folder."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (folder / name).is_file():
            shutil.copy2(folder / name, to / name)


def around(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was when a record was made: commit, versions, hardware, threads; a line each."""
    before, after = ({key: side[key] for key in ("commit", "versions", "hardware")} for side in (record, now))
    return [
        f"{name}: {_short(was)} in the record, {_short(here.get(name))} now"
        for was_all, here in ((dict(_flat(before)), dict(_flat(after))),)
        for name, was in was_all.items()
        if was != here.get(name)
    ]


def _absolute(content: Any, places: Iterable[Path], key: str = "") -> Any:
    """A suite whose paths hold from any folder: relative ones from the first of some places where they are."""
    if isinstance(content, dict):
        return {name: _absolute(value, places, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_absolute(value, places, key) for value in content]
    if (
        key not in ("file", "data_root", "methods_dirs", "networks_dirs", "folder", "parquet")
        or not isinstance(content, str)
        or "\0" in content
    ):
        return content
    # published weights may have a name instead of a path, torchvision:NAME, or lie below the data root
    there = [str(place / content) for place in places if os.path.exists(place / content)]  # noqa: PTH110
    return there[0] if there else content


def _base(record: Mapping[str, Any], record_file: Path, root: Path) -> Path:
    """The dense network that the record's was made from, where it still is."""
    asked = record["base"]["sha256"]
    dense = root / Path(paths.DENSE).relative_to(paths.RESULTS)
    pattern = paths.DENSE_NETWORK.format(dataset=record["dataset"], network=record["network"], recipe="*", seed="*")
    for about in sorted(dense.glob(f"{pattern}/model.json")):
        weights = about.with_name("model.safetensors")
        if weights.is_file() and files.sha256(weights) == asked:
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
    record = records.read(folder / "record.json")
    numbers = {key: value for key, value in record.items() if key not in _AROUND}
    plan, model = folder / "plan.json", folder / "model.safetensors"
    if plan.is_file():
        content = documents.read_json(plan, "a plan")
        validate(content, "plan", str(plan), "Run the suite again.")
        numbers["kept"] = {group["name"]: tuple(group["kept"]) for group in content["groups"]}
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
    # a record may be a stranger's, and a terminal obeys some characters
    text = f"{len(value)} channels" if isinstance(value, tuple) else documents.shown(str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"
