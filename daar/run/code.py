"""What defines the result of each stage: its code, the setting's method, network and policy, and files of daar's own.

The rules take its hash as a param, so that an edit makes the result again; a kept record has it in `made_from`
(daar/run/reuse.py). Imported while the DAG is built: no torch.
"""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daar import models
from daar.code.sources import Sources
from daar.data import datasets
from daar.data.datasets import Dataset
from daar.methods import planners
from daar.methods.discovery import Method
from daar.pruning import published_ratios
from daar.report import literature
from daar.storage.bundled import PACKAGE, ROOT
from daar.storage.files import digest
from daar.suite import figures
from daar.suite.definition import Setting, Suite

# the code that runs here
HERE = Sources(PACKAGE.parent)


@dataclass(frozen=True)
class Stage:
    """What defines the result of a stage.

    Attributes:
        entries: functions that make it, as module:function; whatever they call counts.
        network: functions of the network's family that it calls.
        method: functions of the setting's method that it calls.
        policy: whether it runs the setting's policy.
        dataset: whether it reads facts of the dataset: its splits, classes, shape, or whether it may be mirrored.
        data: files that come with daar, or folders of them.
    """

    entries: tuple[str, ...]
    network: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    policy: bool = False
    dataset: bool = False
    data: tuple[Path, ...] = ()


# what reading a slim network's checkpoint runs, which is neutral, and what is called on what it gives
_LOADED = ("daar.pruning.groups:channel_graph", "daar.pruning.slim:slim", "daar.pruning.plan:load")
_BUILD = ("build",)
_INITIALISE = ("build", "initialise")

STAGES = {
    "pack": Stage(("daar.data.packed:prepare", "daar.data.image_folder:prepare"), dataset=True),
    "pack_own": Stage(("daar.data.own.pack:prepare",), dataset=True),
    "train": Stage(("daar.stages.train:train",), _INITIALISE, dataset=True),
    "import_weights": Stage(("daar.stages.import_weights:import_weights",), _BUILD, dataset=True),
    "measure": Stage(("daar.stages.measure:measure", *_LOADED)),
    "score": Stage(("daar.stages.score:score",), _BUILD, method=("score",)),
    "plan": Stage(("daar.stages.plan:plan",), _BUILD, policy=True),
    "random_at": Stage(("daar.pruning.random_at:random_at", *_LOADED), _BUILD),
    "finetune": Stage(("daar.stages.finetune:finetune",), _BUILD, dataset=True),
    "scratch": Stage(("daar.stages.scratch:scratch",), _INITIALISE, dataset=True),
    "schedule": Stage(
        ("daar.stages.schedule:schedule", *_LOADED), _BUILD, method=("score",), policy=True, dataset=True
    ),
    "record": Stage(("daar.stages.record:record", *_LOADED), _BUILD),
    "record_scheduled": Stage(("daar.stages.schedule:record_scheduled", *_LOADED), _BUILD),
    "latency": Stage(("daar.stages.latency:latency", *_LOADED)),
    "stability": Stage(("daar.stages.stability:stability",), _BUILD, method=("score",)),
    "explain": Stage(("daar.stages.explain:explain",), _BUILD, method=("score", "explain")),
    "collect": Stage(("daar.report.collect:write_results",)),
    "tables": Stage(("daar.report.tables:write_tables",)),
    "ledger": Stage(("daar.report.ledger:write_ledger",), data=(literature.FILE,)),
    "published": Stage(("daar.report.published:write_published",), data=(literature.FILE,)),
    "stability_report": Stage(("daar.report.stability:write_stability",)),
    "attention": Stage(("daar.report.attention:write_attention",)),
    "page": Stage(("daar.report.page:write_page",), data=(PACKAGE / "report" / "templates",)),
    **{
        figures.rule(kind): Stage(
            (f"daar.report.figures:{kind.replace('-', '_')}",),
            data=(literature.FILE,) if kind == "accuracy-macs" else (),
        )
        for kind in figures.KINDS
    },
}


def of_setting(suite: Suite, setting: Setting) -> tuple[str, ...]:
    """The stages that a setting's record follows from."""
    dense = "import_weights" if setting.network in suite.base else "train"
    tuning = {"scratch_of": ("scratch",), "random_at": ("finetune", "random_at")}
    own = tuning.get(setting.variant.method, ("finetune",))
    if suite.origin(setting.variant).schedule is None:
        return (dense, "score", "plan", *own, "record")
    if setting.variant.of is not None:  # a control, at the widths that a schedule has left
        return (dense, "schedule", *own, "record")
    return (dense, "schedule", "record_scheduled")


def of(
    stage: str, *, network: str | None = None, method: Method | None = None, policy: str | None = None,
    dataset: str | None = None, methods_dirs: tuple[Path, ...] = (), sources: Sources | None = None,
) -> str:  # fmt: skip
    """A hash of all that defines the result of a stage but its inputs and options; 12 digits.

    Args:
        stage: a key of STAGES, which says which of the others count.
        network: the setting's, by name.
        method: the setting's.
        policy: the setting's, by name.
        dataset: the setting's, by name.
        methods_dirs: further folders of methods, which may bring the policy.
        sources: of another checkout, whose code counts instead of this one's.

    Raises:
        ValueError: the other checkout has no such function.
    """
    entries, files = defined_by(stage, network=network, method=method, policy=policy, methods_dirs=methods_dirs)
    if sources is None:
        hashed = HERE.code_hash(entries, files)
    else:
        there = [Path(_there(str(file), sources.root)) for file in files]
        hashed = sources.code_hash([_there(entry, sources.root) for entry in entries], there)
    return hashed if dataset is None or not STAGES[stage].dataset else digest([hashed, facts(dataset)])


def defined_by(
    stage: str, *, network: str | None = None, method: Method | None = None, policy: str | None = None,
    methods_dirs: tuple[Path, ...] = (),
) -> tuple[tuple[str, ...], tuple[Path, ...]]:  # fmt: skip
    """The functions that make a stage's result, as `Sources` takes them, and the files of daar's own that it reads.

    Arguments as of `of`.
    """
    defined = STAGES[stage]
    entries, files = [*defined.entries], [file for path in defined.data for file in _files(path)]
    if network is not None:
        entries += models.get(network).code(defined.network)
    if method is not None:
        entries += _of_method(method, defined.method)
    if policy is not None and defined.policy:
        ratios, plans = _of_policy(policy, methods_dirs)
        entries, files = [*entries, *plans], [*files, *ratios]
    return tuple(entries), tuple(files)


@functools.cache  # the DAG asks for every job
def _of_policy(policy: str, methods_dirs: tuple[Path, ...]) -> tuple[list[Path], list[str]]:
    """The file of a paper's ratios, and the entry of what brings the policy."""
    ratios = published_ratios.find().get(policy)
    brought = planners.find(methods_dirs).get(policy)
    return [] if ratios is None else [ratios.file], [] if brought is None else [f"{brought.code}:plan"]


def facts(dataset: str) -> dict[str, Any]:
    """What stages read of a dataset's entry in the registry; its title is for tables."""
    return _facts(datasets.get(dataset))


@functools.cache
def _facts(dataset: Dataset) -> dict[str, Any]:
    return {key: value for key, value in asdict(dataset).items() if key not in ("title", "place")}


def _of_method(method: Method, functions: tuple[str, ...]) -> list[str]:
    """Entries of a method; of one that is a program of its own everything in its folder's Python files."""
    if method.scores is not None:
        has = {"score": True, "explain": method.explains}
        return [f"{method.code}:{function}" for function in functions if has[function]]
    return [f"{file}:*" for file in method.sources] if functions else []


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder."""
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]


def _there(entry: str, root: Path) -> str:
    """An entry or a file of daar's own, in another checkout."""
    return str(root / Path(entry).relative_to(ROOT)) if Path(entry).is_relative_to(ROOT) else entry
