"""A record measures each network once, and none whose accuracy means nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from daar.data import packed
from daar.measure import accuracy
from daar.methods import discovery
from daar.stages.finetune import finetune
from daar.stages.measure import measure
from daar.stages.plan import plan
from daar.stages.record import record
from daar.stages.score import score
from daar.training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plan_file(dense: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plan")
    given: dict[str, Any] = {"base": dense, "packs": digits, "method": discovery.get("l1"), "options": {}, "seed": 0}
    given |= {"images": 64, "device": CPU}
    score(out=out / "importance.safetensors", **given)
    how: dict[str, Any] = {"policy": "uniform", "scope": "all", "target": 0.5}
    plan(scores=out / "importance.safetensors", out=out / "plan.json", **how, **given)
    return out / "plan.json"


def saw_val(dense: Path, to: Path) -> Path:
    """The dense network, as if val had trained it."""
    to.mkdir()
    (to / "model.safetensors").write_bytes((dense / "model.safetensors").read_bytes())
    about = json.loads((dense / "model.json").read_text())
    (to / "model.json").write_text(json.dumps({**about, "trained_on": ["train", "val"]}))
    return to


@pytest.mark.parametrize(
    ("epochs", "val_seen", "splits"),
    [
        # pruned and recalibrated; that is what is left without tuning
        (0, False, ["val", "test"] * 2),
        (0, True, ["test"] * 2),
        # also tuned, whose last epoch is its best
        (1, False, ["val", "test"] * 3),
        (1, True, ["test"] * 3),
    ],
)
def test_what_is_measured_and_what_a_record_has(
    dense: Path, digits: Path, plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    epochs: int, val_seen: bool, splits: list[str],
) -> None:  # fmt: skip
    base = saw_val(dense, tmp_path / "base") if val_seen else dense
    recipe = Recipe(epochs=epochs, lr=0.01, batch_size=64, precision="float32")
    run = tmp_path / "run"
    finetune(
        base=base, plan_file=plan_file, packs=digits, recipe=recipe, seed=0, images=64, out=run, device=CPU,
        say=lambda _: None,
    )  # fmt: skip
    (tmp_path / "measured.json").write_text(json.dumps(measure(folder=base, packs=digits, device=CPU)))
    told: list[str] = []
    evaluate = accuracy.evaluate

    def noted(model: Any, split: packed.Pack, *rest: Any) -> accuracy.Accuracy:
        told.append(split.split)
        return evaluate(model, split, *rest)

    monkeypatch.setattr(accuracy, "evaluate", noted)
    top1 = record(
        suite="s", variant="l1", method="l1", control=False, options={}, seed=0, images=64, base=base,
        base_measured=tmp_path / "measured.json", run=run, packs=digits, out=tmp_path / "record.json", device=CPU,
        benchmarks={},
    )["top1"]  # fmt: skip
    assert told == splits
    monkeypatch.undo()
    for name, folder in (("recalibrated", run / "recalibrated"), ("tuned", run)):
        alone = measure(folder=folder, packs=digits, device=CPU)
        assert (top1["test"][name], top1["val"][name]) == (alone["top1"], alone["val_top1"])
    has_best = epochs > 0 and not val_seen
    assert (top1["test"]["best_val"] is not None) == (top1["val"]["best_val"] is not None) == has_best
    assert all((top1["val"][name] is None) == val_seen for name in ("dense", "pruned", "recalibrated", "tuned"))
