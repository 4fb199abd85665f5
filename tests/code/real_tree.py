"""A copy of the present tree, and the hashes of all stages in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from daar import models
from daar.code.sources import Sources
from daar.methods import discovery
from daar.run import code
from daar.run.code import STAGES
from daar.storage.bundled import BASELINES, PACKAGE, RESOURCES, ROOT

METHODS = discovery.find()


class Case(NamedTuple):
    """A stage of one setting."""

    stage: str
    network: str = "resnet20"
    method: str = "l1"
    policy: str = "uniform"


# by the name of the stage alone: ResNet-20, l1 and uniform, and DAAR where only it has what the stage calls
CASES = {
    **{stage: Case(stage, method="daar" if stage == "explain" else "l1") for stage in STAGES},
    "train/vgg16_bn": Case("train", network="vgg16_bn"),
    **{f"score/{name}": Case("score", method=name) for name in ("bn_scale", "daar", "fpgm", "hrank", "random")},
    "plan/adaptive": Case("plan", method="daar", policy="adaptive"),
    "plan/published-fpgm": Case("plan", method="fpgm", policy="published-fpgm"),
}


def copied(to: Path) -> Path:
    """A copy of all that stages depend on; returns its folder."""
    for folder in (PACKAGE, BASELINES, RESOURCES):
        place = to / (folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name)
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "share"))
    return to


def hashes(sources: Sources) -> dict[str, str]:
    """Case → the hash of its stage in a tree."""
    return {
        name: code.of(
            case.stage, network=case.network, method=METHODS[case.method], policy=case.policy, sources=sources
        )
        for name, case in CASES.items()
    }


def entries(case: Case, root: Path) -> list[str]:
    """The entries of a case in a tree, as the table has them."""
    stage, method = STAGES[case.stage], METHODS[case.method]
    place = root / method.code.relative_to(ROOT)
    plans = [f"{place}:plan"] if stage.policy and method.plans is not None and method.policy == case.policy else []
    return [
        *stage.entries,
        *(f"{models.get(case.network).module}:{function}" for function in stage.network),
        *(f"{place}:{function}" for function in stage.method),
        *plans,
    ]


@contextmanager
def edited(file: Path, old: str, new: str) -> Iterator[None]:
    """The file with the only occurrence of a text replaced, until the block ends."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"expected {old!r} once in {file}, got it {text.count(old)} times: name another text"
    file.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")
