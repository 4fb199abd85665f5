"""Carry kept records over to changed code, on evidence that it still gives the same results.

A record is carried over if the earlier code gives it the hash that it bears, and

- no code that trains, tunes or measures has changed, by hashes of both checkouts; or a sample of settings was tuned and
  measured by both and gave the same bytes; and
- both score the filters the same here, to the bit, and today's plan is the kept one. Where it is not, since another CPU
  made that one, the earlier code must make today's plan here.

A suite may fix the precision that `auto` took when its records were made: a record is carried over if it says that it
was tuned in that one, or was not tuned at all.

carried.json, next to the records, says what was compared. A record that bears today's hash is left alone, so that an
interrupted command goes on where it stopped; and what carried.json has of the same code is not compared again.
"""

import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.methods import discovery
from daar.run import code, reuse
from daar.run.both_codes import BothCodes, is_scratch
from daar.run.checkout import Checkout
from daar.storage import documents, files, provenance
from daar.storage.schemas import validate
from daar.suite import records
from daar.suite.definition import Setting, Suite

FILE = "carried.json"
# what no record is carried over without a sample for, where it has changed
_LONG = ("train", "finetune", "scratch", "record")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a suite's kept records.

    Attributes:
        carried: how many bear today's hash now.
        current: how many did before.
        refused: a setting's path → why its record stays as it was.
    """

    carried: int
    current: int
    refused: dict[str, str]


def carry(
    suite: Suite, file: Path, earlier: Checkout, *, results: Path, reference: Path, sample: int, say: Say
) -> Outcome:
    """Give the kept records of a suite the hash of today's code, where the evidence holds.

    Args:
        suite: the experiment.
        file: that it was read from; the earlier code reads it too.
        earlier: a checkout of the code that the records were made by.
        results: folder with the packed datasets and dense networks of the suite.
        reference: folder of kept results.
        sample: how many settings to tune by both, where code that trains, tunes or measures has changed.
        say: gets a line for every record.

    Raises:
        InputError: such code has changed and there is no sample, or both tune one to different bytes.
    """
    kept = {setting: reference / suite.name / setting.path / "record.json" for setting in suite.settings}
    kept = {setting: record for setting, record in kept.items() if record.exists()}
    waiting = {s: record for s, record in kept.items() if _bears(record) != reuse.made_from(suite, s)}
    if not waiting:
        return Outcome(0, len(kept), {})
    followed = _follow(suite, file, earlier)
    with tempfile.TemporaryDirectory() as scratch:
        both = BothCodes(suite, earlier, results, reference, Path(scratch))
        log = Log(reference / suite.name / FILE, earlier, compare_code(suite, earlier))
        if (changed := log.changed(_LONG)) and not log.sample:
            in_one_shot = [setting for setting in waiting if suite.origin(setting.variant).schedule is None]
            log.write_sample(_tune_sample(in_one_shot, changed, both, sample, say))
        refused: dict[str, str] = {}
        for setting, record in waiting.items():
            try:
                evidence = _compare(setting, record, followed, both, log)
            except InputError as error:
                refused[setting.path] = str(error)
                say(f"{setting.path} stays as it is: {error}")
                continue
            now = reuse.made_from(suite, setting)
            log.write_record(setting, {"before": _bears(record), "now": now, **evidence})
            files.write_json(record, {**_carried(setting, record, suite), "made_from": now})
            say(f"{setting.path}: scores {evidence['scores']}, plan {evidence['plan']}")
    return Outcome(len(waiting) - len(refused), len(kept) - len(waiting), refused)


def compare_code(suite: Suite, earlier: Checkout) -> dict[str, tuple[str, str]]:
    """What the stages of a suite do by both checkouts: stage, with network, method and policy → hash before and now."""
    there, methods = earlier.sources(), discovery.find(suite.methods_dirs)
    pairs: dict[str, tuple[str, str]] = {}
    for setting in suite.settings:
        method = methods[suite.origin(setting.variant).method]
        for stage in code.of_setting(suite, setting):
            if (name := _name(stage, setting, method.name)) not in pairs:
                given: dict[str, Any] = {"network": setting.network, "method": method, "policy": setting.policy}
                given["methods_dirs"] = suite.methods_dirs
                try:
                    before = code.of(stage, sources=there, **given)
                except ValueError:  # it has no such function, or none of that name
                    before = "none"
                pairs[name] = before, code.of(stage, **given)
    return pairs


def _name(stage: str, setting: Setting, method: str) -> str:
    """A stage's name in carried.json."""
    parts = code.STAGES[stage]
    words = [stage, setting.network]
    words += [method] if parts.method else []
    words += [setting.policy] if parts.policy else []
    return " ".join(words)


def _bears(record: Path) -> str:
    return str(records.read(record, "a kept record")["made_from"])


def _compare(
    setting: Setting, record: Path, follows: list[Mapping[str, Any]], both: BothCodes, log: "Log"
) -> dict[str, str]:
    """What was compared for one record, in words; InputError says what differs."""
    bears, sha256 = _bears(record), records.read(record, "a kept record")["base"]["sha256"]
    given = {path[setting.path]["made_from"]: path[setting.path] for path in follows if setting.path in path}
    if bears not in given:
        raise InputError(
            f"it bears {bears}, but the code of {both.earlier.root} gives {' or '.join(given) or None}: give the "
            "checkout that made it"
        )
    if other := _differing(given[bears], both.suite, setting, record):
        raise InputError(f"it follows from another {other} than today: run the setting again")
    if sha256 != (here := both.dense_sha256(setting)):
        raise InputError(f"it is of the dense network {sha256[:12]}…, but here that is {here[:12]}…")
    if both.suite.origin(setting.variant).schedule is not None:
        raise InputError("a schedule scores what it has tuned, which only a whole run can compare: run it again")
    if is_scratch(setting):
        return {"scores": "none of its own", "plan": "none of its own", "plan_sha256": ""}
    plan, method = record.with_name("plan.json"), both.suite.origin(setting.variant).method
    stages = [_name(stage, setting, method) for stage in ("score", "plan", "random_at")]
    if known := log.known(setting, stages, files.sha256(plan)):
        return known
    compared = {"scores": both.compare_scores(setting), "plan": both.compare_plans(setting, plan)}
    return {**compared, "plan_sha256": files.sha256(plan)}


def _follow(suite: Suite, file: Path, earlier: Checkout) -> list[Mapping[str, Any]]:
    """What the records follow from by the earlier code, also had the suite said `auto` for the precision."""
    follows = [earlier.follow(file)]
    if suite.finetune.precision != "auto":
        content = documents.read_yaml(file, "a suite")
        content["finetune"] = {**content["finetune"], "precision": "auto"}
        with tempfile.TemporaryDirectory() as folder:
            before = Path(folder, file.name)
            files.write_json(before, content)
            follows.append(earlier.follow(before))
    return follows


def _was_in(precision: str, setting: Setting, record: Path) -> bool:
    """Whether a record that follows from `auto` is of a tuning in this precision, as it says, or of none."""
    content = records.read(record, "a kept record")
    return not is_scratch(setting) and (not content["curve"] or content.get("precision") == precision)


def _carried(setting: Setting, record: Path, suite: Suite) -> dict[str, Any]:
    """A record with the hash of today's recipe, in which the precision may be fixed."""
    content = dict(records.read(record, "a kept record"))
    if is_scratch(setting) or suite.finetune.precision == "auto":
        return content
    return {**content, "recipe": suite.finetune.hash}


def _differing(followed: Mapping[str, Any], suite: Suite, setting: Setting, record: Path) -> str:
    """What a record follows from, other than code, and is not the same today; empty where all is."""
    now = json.loads(json.dumps({**reuse.parts(suite, setting), "dataset": code.facts(setting.dataset)}))
    before = {**followed["parts"], "dataset": followed["dataset"]}
    # at first the hash of the code that makes the dense network stood behind what it is made of
    before["dense"] = before["dense"][: len(now["dense"])]
    fixed = now["finetune"]["precision"]
    if before["finetune"]["precision"] == "auto" and _was_in(fixed, setting, record):
        before["finetune"] = {**before["finetune"], "precision": fixed}
    return ", ".join(name for name in now if name != "code" and now[name] != before.get(name))


def _tune_sample(settings: list[Setting], changed: list[str], both: BothCodes, sample: int, say: Say) -> dict[str, Any]:
    """Tune some settings by both, drawn at random; InputError where none are to be, or their bytes differ."""
    if not sample:
        raise InputError(
            f"code that trains, tunes or measures has changed: {', '.join(changed)}. Say by --retune N how many "
            "settings to tune by both, or run the suite again: --config reuse=false"
        )
    # a network from scratch runs code of its own, on which a tuned one is no evidence
    kinds = ([s for s in settings if is_scratch(s) == kind] for kind in (False, True))
    draw = random.Random(0)
    chosen = [setting for kind in kinds for setting in draw.sample(kind, min(sample, len(kind)))]
    for setting in chosen:
        if not both.tunes_alike(setting):
            raise InputError(f"today's code tunes {setting.path} to other bytes. Run the suite again.")
        say(f"{setting.path}: tuned and measured to the same bytes by both")
    return {"changed": changed, "out_of": len(settings), "tuned_by_both": [setting.path for setting in chosen]}


class Log:
    """carried.json: one entry for each pair of codes that records were carried over between.

    Args:
        path: of the file.
        earlier: the checkout that the records were made by.
        code: stage → hash before and now.
    """

    def __init__(self, path: Path, earlier: Checkout, code: Mapping[str, tuple[str, str]]) -> None:
        self._path, self._code = path, code
        entry: dict[str, Any] = {
            "from_commit": earlier.commit,
            "code": {name: {"before": before, "now": now} for name, (before, now) in sorted(code.items())},
            "made_on": {key: provenance.environment()[key] for key in ("hardware", "threads", "versions")},
        }
        content: dict[str, Any] = {"format": 1, "entries": []}
        if path.exists():
            content = documents.read_json(path, "what was carried over")
            validate(content, "carried", str(path), "Restore it from git, or delete it to compare all again.")
        self._content = content
        found = [one for one in content["entries"] if {key: one[key] for key in entry} == entry]
        self._entry: dict[str, Any] = found[0] if found else {**entry, "sample": None, "records": {}}
        if not found:
            content["entries"].append(self._entry)

    def changed(self, stages: tuple[str, ...]) -> list[str]:
        """Which of these stages do something else than before."""
        return [name for name, (before, now) in self._code.items() if before != now and name.split()[0] in stages]

    @property
    def sample(self) -> Any:
        """Which settings were tuned by both, or None."""
        return self._entry["sample"]

    def write_sample(self, sample: Mapping[str, Any]) -> None:
        """Note which settings were tuned by both."""
        self._entry["sample"] = dict(sample)
        files.write_json(self._path, self._content)

    def known(self, setting: Setting, stages: list[str], plan: str) -> dict[str, str] | None:
        """What was compared for a record before, if stages and plan (SHA-256) were the same, before and after."""
        for entry in self._content["entries"]:
            same = all(entry[key] == self._entry[key] for key in ("from_commit", "made_on"))
            same &= all(entry["code"].get(name) == self._entry["code"].get(name) for name in stages)
            compared = entry["records"].get(setting.path)
            if same and compared is not None and compared["plan_sha256"] == plan:
                return {key: compared[key] for key in ("scores", "plan", "plan_sha256")}
        return None

    def write_record(self, setting: Setting, evidence: Mapping[str, str]) -> None:
        """Note what was compared for a record, in place of what was before."""
        for entry in self._content["entries"]:
            entry["records"].pop(setting.path, None)
        self._entry["records"][setting.path] = dict(evidence)
        entries = self._content["entries"]
        self._content["entries"] = [one for one in entries if one["records"] or one is self._entry]
        files.write_json(self._path, self._content)
