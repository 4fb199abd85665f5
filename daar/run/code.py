"""What defines the result of each stage: its code, the setting's method, network and policy, and files of daar's own.

The rules take its hash as a param, so that an edit makes the result again; a kept record has it in `made_from`
(daar/run/reuse.py). Imported while the DAG is built: no torch.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from daar import models
from daar.methods.discovery import Method
from daar.pruning import policies
from daar.report import literature
from daar.storage import files, provenance
from daar.storage.bundled import PACKAGE
from daar.suite import figures


@dataclass(frozen=True)
class Stage:
    """What defines the result of a stage.

    Attributes:
        entries: functions that make it, as module:function; whatever they call counts.
        network: functions of the network's family that it calls.
        method: whether it runs the setting's method.
        policy: whether it runs the setting's policy.
        data: files that come with daar, or folders of them.
    """

    entries: tuple[str, ...]
    network: tuple[str, ...] = ()
    method: bool = False
    policy: bool = False
    data: tuple[Path, ...] = ()


_BUILD = ("build",)
_INITIALISE = ("build", "initialise")

STAGES = {
    "pack": Stage(("daar.data.packed:prepare", "daar.data.image_folder:prepare")),
    "train": Stage(("daar.stages.train:train",), _INITIALISE),
    "import_weights": Stage(("daar.stages.import_weights:import_weights",), _BUILD),
    "measure": Stage(("daar.stages.measure:measure",)),
    "score": Stage(("daar.stages.score:score",), _BUILD, method=True),
    "plan": Stage(("daar.stages.plan:plan",), _BUILD, method=True, policy=True),
    "random_at": Stage(("daar.pruning.random_at:random_at",), _BUILD),
    "finetune": Stage(("daar.stages.finetune:finetune",), _BUILD),
    "scratch": Stage(("daar.stages.scratch:scratch",), _INITIALISE),
    "record": Stage(("daar.stages.record:record",), _BUILD),
    "latency": Stage(("daar.stages.latency:latency",)),
    "stability": Stage(("daar.stages.stability:stability",), _BUILD, method=True),
    "explain": Stage(("daar.stages.explain:explain",), _BUILD, method=True),
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


def entries(stage: str, network: str | None = None) -> tuple[str, ...]:
    """The functions that define a stage's result, those of the network's family included, as module:function.

    Args:
        stage: a key of STAGES.
        network: by name; None where it is not known.
    """
    called = () if network is None else STAGES[stage].network
    return (*STAGES[stage].entries, *(f"{models.get(str(network)).module}:{function}" for function in called))


def of(
    stage: str, *, network: str | None = None, method: Method | None = None, policy: str | None = None,
    methods_dirs: tuple[Path, ...] = (),
) -> str:  # fmt: skip
    """A hash of all that defines the result of a stage but its inputs and options; 12 digits.

    Args:
        stage: a key of STAGES, which says which of the others count.
        network: the setting's, by name.
        method: the setting's.
        policy: the setting's, by name.
        methods_dirs: further folders of methods, which may bring the policy.
    """
    defined = STAGES[stage]
    sources = set(method.sources) if method is not None and defined.method else set()
    if policy is not None and defined.policy:
        sources |= set(_policy_sources(policy, methods_dirs))
    modules = dict.fromkeys(entry.partition(":")[0] for entry in entries(stage, network))
    hashes = [provenance.code_hash(module, files=sources) for module in modules]
    return files.digest([*hashes, *map(files.sha256, _each(defined.data))])[:12]


@functools.cache  # the DAG asks for every job
def _policy_sources(policy: str, methods_dirs: tuple[Path, ...]) -> list[Path]:
    return policies.sources(policy, methods_dirs)


def _each(paths: Iterable[Path]) -> list[Path]:
    """Files, with those of folders in the order of their names."""
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
