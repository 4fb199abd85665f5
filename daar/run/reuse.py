"""Records that were made before: all that a setting's numbers follow from, as one hash, and those kept with it.

A suite that says `reuse` takes such records, and the plans that they are of, from `results/reference/<suite>` instead
of planning and tuning again. Imported while the DAG is built: no torch.
"""

import functools
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.run import code
from daar.storage import documents, files
from daar.storage.files import digest
from daar.storage.schemas import validate
from daar.suite import paths, records
from daar.suite.definition import Setting, Suite

REFERENCE = Path(paths.REFERENCE)
_KEPT = ("suite.json", "results.csv", "report.html")
_KEPT_FOLDERS = ("tables", "figures")
_REMEDY = "Delete the file and run the suite again."


def made_from(suite: Suite, setting: Setting) -> str:
    """Hash of all that a setting's numbers follow from but machine and versions, which its record names; 12 digits.

    The dense network counts by what makes it, since its weights need not be there yet: `take` compares those.
    """
    return digest(parts(suite, setting))[:12]


def parts(suite: Suite, setting: Setting) -> dict[str, Any]:
    """What `made_from` hashes, by name."""
    origin, network = suite.origin(setting.variant), setting.network
    method = suite.methods[origin.method]
    code_of = partial(
        code.of, network=network, method=method, policy=setting.policy, dataset=setting.dataset,
        methods_dirs=suite.methods_dirs,
    )  # fmt: skip
    by = {} if origin.schedule is None else {"schedule": origin.schedule.to_json()}
    return {
        **by,
        "setting": [setting.dataset, network, setting.seed, setting.policy, setting.scope, *_widths(suite, setting)],
        "importance": [origin.method, dict(origin.options), suite.calibration_images],
        "control": None if setting.variant.of is None else [setting.variant.method, dict(setting.variant.options)],
        "dense": _dense(suite, network),
        "finetune": suite.finetune.to_json(),
        "processes": suite.processes,
        "code": [code_of(stage) for stage in code.of_setting(suite, setting)],
        # no key without any: records that are kept were made before there were such options
        **({"policy_options": dict(origin.policy_options)} if origin.policy_options else {}),
    }


def _widths(suite: Suite, setting: Setting) -> list[Any]:
    """What widths have to meet; of steps nothing where all widths are possible."""
    return [setting.target, *([] if suite.round_to == 1 else [suite.round_to])]


def _dense(suite: Suite, network: str) -> list[Any]:
    if network not in suite.base:
        return [suite.train.to_json()]
    base, file = suite.base[network], suite.weights(network)
    held = _sha256(file, Path(file).stat().st_mtime_ns) if Path(file).is_file() else file
    return [held, " ".join(base.options)]


@functools.cache  # asked for every setting
def _sha256(file: str, _modified: int) -> str:
    return files.sha256(Path(file))


def found(suite: Suite, reference: Path = REFERENCE) -> dict[str, Path]:
    """Setting's path → the record kept of it, of those with an equal hash; none unless the suite says `reuse`.

    A record without the plan that it is of stands for nothing.

    Raises:
        InputError: a kept record is damaged, or of another form than today's.
    """
    kept = {}
    for setting in suite.settings if suite.reuse else []:
        file = reference / suite.name / setting.path / "record.json"
        if not all(file.with_name(name).exists() for name in _files(setting)):
            continue
        record = _read(file)
        # of another suite or setting, where someone has moved it
        named = (record["suite"], records.place(record)) == (suite.name, setting.path)
        if named and record["made_from"] == made_from(suite, setting):
            kept[setting.path] = file
    return kept


def _files(setting: Setting) -> tuple[str, ...]:
    """What is kept of a setting; a network from scratch has its plan from another."""
    return ("record.json",) if setting.variant.method == "scratch_of" else ("record.json", "plan.json")


def _read(file: Path) -> Any:
    """A record, compared with the plan next to it, where there is one."""
    record = records.read(file, "a kept record")
    plan_file = file.with_name("plan.json")
    if plan_file.exists():
        plan = documents.read_json(plan_file, "a kept plan")
        validate(plan, "plan", str(plan_file), _REMEDY)
        macs = record["macs"]["slim_closed_form"]
        if plan["macs"] != macs:
            raise InputError(
                f"{plan_file} should be the plan of {file.name} next to it, which is of {macs:,} MACs, but leaves "
                f"{plan['macs']:,}. {_REMEDY}"
            )
    return record


def take(file: Path, base: Path, out: Path) -> None:
    """Copy a kept record, and its plan, into a run's results, if it is of the dense network that the run has.

    Args:
        file: the kept record.json.
        base: the run's dense network.
        out: record.json to be; plan.json is written next to it.

    Raises:
        InputError: it is of another network, or damaged, or the plan next to it is of something else.
    """
    record = _read(file)
    about = documents.read_json(base / "model.json", "the description of a checkpoint")
    validate(about, "model", str(base / "model.json"), "Make the checkpoint again.")
    here = about.get("weights_sha256") or files.sha256(base / "model.safetensors")
    if record["base"]["sha256"] != here:
        raise InputError(
            f"{file} should be of the dense network in {base} (SHA-256 {here[:12]}…), but is of another one "
            f"({record['base']['sha256'][:12]}…). Run all settings here: --config reuse=false"
        )
    if (plan := file.with_name("plan.json")).exists():
        files.write_json(out.with_name("plan.json"), documents.read_json(plan, "a kept plan"))
    files.write_json(out, record)


def keep(suite: Suite, results: Path, reference: Path = REFERENCE) -> Mapping[str, int]:
    """Copy what is finished of a suite to `<reference>/<suite>`: records with their plans, tables, figures and page.

    `environment.json` next to them says on which machines and with which packages and commits the records were made.

    Returns:
        How many records were there, and how many the suite has settings.

    Raises:
        InputError: no setting has a record, or one is damaged or without its plan.
    """
    source, target = results / suite.name, reference / suite.name
    finished = [setting for setting in suite.settings if (source / setting.path / "record.json").exists()]
    if not finished:
        raise InputError(f"{source} should hold records to keep, but no setting has one. Run the suite first.")
    settings = [Path(setting.path, name) for setting in finished for name in _files(setting)]
    if absent := [path for path in settings if not (source / path).exists()]:
        raise InputError(f"{source / absent[0]} should be next to its record, but is not. Run the suite again.")
    environments = _environments(_read(source / setting.path / "record.json") for setting in finished)
    there = [Path(name) for name in _KEPT if (source / name).exists()]
    shown = [path for name in _KEPT_FOLDERS for path in sorted((source / name).glob("*"))]
    # what is no file of ours, such as a pipe or a link to another's, is not kept
    there += [path.relative_to(source) for path in shown if path.is_file() and not path.is_symlink()]
    for path in [*settings, *there]:
        with files.atomic(target / path) as temporary:
            shutil.copyfile(source / path, temporary)
    files.write_json(target / "environment.json", {"environments": environments})
    return {"records": len(finished), "settings": len(suite.settings)}


def _environments(records: Iterable[Any]) -> list[dict[str, Any]]:
    """Each machine and set of packages once: hardware, threads, versions, commits, and how many records it made."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        alike = {key: record[key] for key in ("hardware", "threads", "versions")}
        one = found.setdefault(digest(alike), {**alike, "commits": [], "records": 0})
        one["commits"] = sorted({*one["commits"], record["commit"] or "outside a checkout"})
        one["records"] += 1
    return [found[key] for key in sorted(found)]
