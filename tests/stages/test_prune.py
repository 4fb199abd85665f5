import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from daar.errors import InputError
from daar.methods import discovery
from daar.stages.plan import plan
from daar.stages.prune import prune
from daar.stages.score import score


@pytest.fixture
def plan_file(tmp_path: Path, dense: Path, digits: Path) -> Path:
    method, device = discovery.get("l1"), torch.device("cpu")
    scores, out = tmp_path / "importance.safetensors", tmp_path / "plan.json"
    score(base=dense, method=method, options={}, packs=digits, seed=0, images=16, out=scores, device=device)
    plan(
        base=dense,
        scores=scores,
        method=method,
        options={},
        policy="uniform",
        scope="all",
        target=0.5,
        packs=digits,
        seed=0,
        images=16,
        out=out,
        device=device,
    )
    return out


def run(plan_file: Path, dense: Path, digits: Path) -> float:
    return prune(base=dense, plan_file=plan_file, packs=digits, seed=0, images=16, out=plan_file.parent / "net")


def test_the_slim_network_is_proved_equal_before_it_is_written(plan_file: Path, dense: Path, digits: Path) -> None:
    assert run(plan_file, dense, digits) <= 1e-10
    assert json.loads((plan_file.parent / "net" / "model.json").read_text())["provenance"]["slim_error"] <= 1e-10


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda p: p.update(macs=p["macs"] + 1), "the plan says 40,551,040 MACs before and 20,2"),
        (lambda p: p.update(macs_dense=125_485_696), "the plan says 125,485,696 MACs before"),
        (lambda p: p["groups"].pop(), "lists group 'layer3.2.conv1' 0 times"),
        (
            lambda p: p["groups"][0].update(name="conv9"),
            "a group 'conv9' of 16 channels; in this network it is no group",
        ),
        (lambda p: p["groups"][0]["kept"].reverse(), "must be sorted"),
    ],
)
def test_a_plan_that_any_program_may_have_written_is_held_against_the_network(
    plan_file: Path, dense: Path, digits: Path, edit: Callable[[dict], object], said: str
) -> None:
    content = json.loads(plan_file.read_text())
    edit(content)
    plan_file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        run(plan_file, dense, digits)
    assert not (plan_file.parent / "net").exists()
