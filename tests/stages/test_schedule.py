"""Schedules on a few digits: what they keep, that a killed run goes on to the same bytes, and what is refused."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from daar.checkpoint import checkpoint
from daar.data import loading, packed
from daar.data.packed import Pack
from daar.errors import InputError
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from daar.pruning import plan as plans
from daar.pruning.groups import graph_of
from daar.pruning.slim import slim
from daar.stages.finetune import finetune
from daar.stages.plan import plan
from daar.stages.schedule import schedule
from daar.stages.score import score
from daar.stages.soft import zero
from daar.training import schedules
from daar.training.recipe import Recipe
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

IMAGES = 32
RECIPE = Recipe(epochs=2, lr=0.02, batch_size=32, padding=2, precision="float32")
# a tuning that leaves every weight as it is, but for BN's statistics
STILL = Recipe(epochs=2, lr=1e-30, weight_decay=0, batch_size=32, precision="float32")
METHOD = discovery.get("l1")
CPU = torch.device("cpu")
SHOWN: dict[str, Any] = {"packs": Path("packs"), "seed": 0, "images": IMAGES, "device": CPU}
CHOICE: dict[str, Any] = {"method": METHOD, "options": {}, "policy": "uniform", "scope": "all", "target": 0.5}


class KilledError(Exception):
    """Stands for a kill: nothing of the run is left but its files."""


@pytest.fixture(scope="module", autouse=True)
def _few(digits: Path) -> Iterator[None]:
    """Of the digits 96 to train on and 32 to watch."""

    @functools.cache
    def load(path: Path) -> Pack:
        pack = packed.load(digits / Path(path).name)
        count = {"train": 96, "val": 32}[pack.split]
        return Pack(**{**pack.__dict__, "images": pack.images[:count], "labels": pack.labels[:count]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", load)
        yield


def quiet(_: str) -> None:
    pass


def run(
    dense: Path, out: Path, name: str, recipe: Recipe = RECIPE, say: Callable[[str], None] = quiet, **more: Any
) -> Path:
    options: dict[str, Any] = {key: more.pop(key) for key in ("rounds", "steps", "interval") if key in more}
    by = schedules.from_entry(name, options, "here")
    assert by is not None
    schedule(base=dense, by=by, recipe=recipe, out=out, say=say, **{**SHOWN, **CHOICE, **more})
    return out


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def kept(folder: Path) -> plans.Plan:
    return plans.load(folder / "plan.json")


class Whole(NamedTuple):
    """A run to its end: its folder, the lines that it said, and its plans as they were at each line."""

    out: Path
    lines: list[str]
    plans: list[dict[str, bytes]]


_OPTIONS: dict[str, dict[str, Any]] = {"iterative": {"rounds": 2}, "layerwise": {"steps": 2}, "soft": {}}


@pytest.fixture(scope="module")
def whole(dense: Path, tmp_path_factory: pytest.TempPathFactory, _few: None) -> Callable[[str], Whole]:
    """One run of two epochs by each schedule, made when it is asked for."""

    @functools.cache
    def make(name: str) -> Whole:
        made = Whole(tmp_path_factory.mktemp(name), [], [])

        def say(line: str) -> None:
            made.lines.append(line)
            steps = made.out / "steps"
            made.plans.append({str(file.relative_to(steps)): file.read_bytes() for file in steps.glob("**/plan.json")})

        run(dense, made.out, name, say=say, **_OPTIONS[name])
        return made

    return make


@pytest.fixture
def one_shot(dense: Path, tmp_path: Path) -> Path:
    """What score, plan and finetune make."""
    scores, out = tmp_path / "importance.safetensors", tmp_path / "one-shot"
    score(base=dense, method=METHOD, options={}, out=scores, **SHOWN)
    plan(base=dense, scores=scores, out=out / "plan.json", **SHOWN, **CHOICE)
    finetune(base=dense, plan_file=out / "plan.json", recipe=RECIPE, out=out, say=quiet, **SHOWN)
    return out


def test_a_schedule_of_one_part_is_one_shot_to_the_bit(dense: Path, one_shot: Path, tmp_path: Path) -> None:
    for name in ("iterative", "layerwise"):
        out = (
            run(dense, tmp_path / name, name, rounds=1)
            if name == "iterative"
            else run(dense, tmp_path / name, name, steps=1)
        )
        assert kept(out) == kept(one_shot)
        for folder in ("", "recalibrated", "best"):
            assert weights(out / folder) == weights(one_shot / folder)
        assert not (out / "steps").exists()


@pytest.mark.parametrize("name", schedules.KINDS)
def test_without_learning_it_cuts_the_dense_network_by_the_whole_plan(dense: Path, tmp_path: Path, name: str) -> None:
    """The plan of the end is in numbers of the dense network: the weights kept are the dense ones at those numbers."""
    out = run(dense, tmp_path / name, name, STILL, **_OPTIONS[name])
    model, about = checkpoint.load(dense)
    graph = graph_of(model, about.input_shape)
    expected = slim(model, graph, kept(out).removed(graph)).state_dict()
    tuned, described = checkpoint.load(out)
    assert described.plan == kept(out)
    assert described.provenance["slim_error"] <= 1e-10
    for key, value in tuned.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-12, msg=key)
    made = kept(out)
    assert 0 <= made.macs_dense // 2 - made.macs < 0.002 * made.macs_dense
    assert made.target == 0.5


def test_rounds_remove_equal_parts_of_the_macs(whole: Callable[[str], Whole]) -> None:
    out = whole("iterative").out
    how = checkpoint.describe(out).provenance["tuned"]
    macs, dense_macs = how["schedule"]["macs"], kept(out).macs_dense
    assert [1 - one / dense_macs for one in macs] == pytest.approx([0.25, 0.5], abs=0.003)
    assert how["schedule"]["epochs"] == [1, 1]
    assert [row["epoch"] for row in how["curve"]] == [1, 2]
    assert how["recipe_hash"] == RECIPE.hash
    assert macs[-1] == kept(out).macs


def test_layers_go_from_the_input_on(whole: Callable[[str], Whole]) -> None:
    """After the first of two steps the first half of the groups is as the whole plan has it, the other half whole."""
    made = whole("layerwise")
    first = plans.from_json(json.loads(made.plans[0]["1/plan.json"]), "the first step").groups
    last = kept(made.out).groups
    losing = [index for index, group in enumerate(last) if len(group.kept) < group.size]
    half = losing[len(losing) // 2]
    assert first[:half] == last[:half]
    assert all(len(group.kept) == group.size for group in first[half:])


def test_soft_zeroes_the_filters_that_would_go_and_nothing_else() -> None:
    torch.manual_seed(0)
    model = ResNet(1, 10)
    graph = graph_of(model, (3, 32, 32))
    groups = tuple(plans.PlannedGroup(g.name, g.size, tuple(range(1, g.size))) for g in graph.in_scope("all"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    zero(model, graph, plans.Plan("l1", "uniform", "all", None, 2, 1, groups, {}))
    convs = {f"{m}.weight": g.positions[m] for g in graph.in_scope("all") for m in g.members}
    for key, value in model.state_dict().items():
        expected: Tensor = before[key]
        if key in convs:
            expected[torch.as_tensor(convs[key]) == 0] = 0
        assert torch.equal(value, expected), key
    assert sum((value == 0).sum() for value in model.state_dict().values()) > 0


def test_soft_chooses_again_after_every_epoch(whole: Callable[[str], Whole]) -> None:
    made = whole("soft")
    first, last = (
        plans.from_json(json.loads(files["plan.json"]), line)
        for line, files in zip(made.lines, made.plans, strict=True)
        if line.startswith("epoch")
    )
    assert [len(group.kept) for group in first.groups] == [len(group.kept) for group in last.groups]
    assert first != last == kept(made.out)
    assert not (made.out / "best").exists()


def kill_at(dense: Path, out: Path, name: str, number: int) -> None:
    """Run until the line of this number is said, which then is the last thing that the run has done."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == number:
            raise KilledError

    with pytest.raises(KilledError):
        run(dense, out, name, say=say, **_OPTIONS[name])


@pytest.mark.parametrize("name", schedules.KINDS)
def test_a_run_that_is_killed_in_its_last_epoch_goes_on_to_the_same_bytes(
    dense: Path, tmp_path: Path, whole: Callable[[str], Whole], name: str
) -> None:
    made = whole(name)
    kill_at(dense, tmp_path, name, max(index for index, line in enumerate(made.lines, 1) if line.startswith("epoch")))
    require_same(dense, tmp_path, name, made.out)


@pytest.mark.slow
@pytest.mark.parametrize("name", schedules.KINDS)
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_bytes(
    dense: Path, tmp_path: Path, whole: Callable[[str], Whole], name: str
) -> None:
    made = whole(name)
    for number in range(1, len(made.lines) + 1):
        kill_at(dense, tmp_path / str(number), name, number)
        require_same(dense, tmp_path / str(number), name, made.out)


def require_same(dense: Path, out: Path, name: str, whole: Path) -> None:
    run(dense, out, name, **_OPTIONS[name])
    assert (out / "plan.json").read_bytes() == (whole / "plan.json").read_bytes()
    for folder in ("", "recalibrated", *(["best"] if name != "soft" else [])):
        assert weights(out / folder) == weights(whole / folder)
    assert not (out / "steps").exists()
    curves = [checkpoint.describe(folder).provenance["tuned"]["curve"] for folder in (whole, out)]
    one, other = ([{**row, "seconds": 0} for row in curve] for curve in curves)
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("name", schedules.KINDS)
@pytest.mark.parametrize("method", [m for m in discovery.find().values() if m.scores is not None], ids=lambda m: m.name)
def test_every_method_goes_with_every_schedule(
    dense: Path, tmp_path: Path, method: discovery.Method, name: str
) -> None:
    out = run(dense, tmp_path / "out", name, method=method, policy=method.policy, **_OPTIONS[name])
    assert checkpoint.describe(out).provenance["slim_error"] <= 1e-10
    assert kept(out).macs <= kept(out).macs_dense // 2
    assert kept(out).method == method.name


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("iterative", {"rounds": 3}, "needs 3 rounds of one epoch or more, but the tuning has 2 in all. Give"),
        (
            "layerwise",
            {"steps": 3},
            "but the tuning has 2 in all. Give schedule_options steps 2, or raise the epochs of finetune to 3.",
        ),
        (
            "soft",
            {"interval": 3},
            "needs 3 epochs or more, but the tuning has 2 in all. Give schedule_options interval 2",
        ),
        ("soft", {"recipe": Recipe(epochs=0)}, "the tuning has 0 in all"),
        ("iterative", {"target": None, "rounds": 2}, "divides the fraction of MACs"),
        ("iterative", {"target": 0.999, "rounds": 2}, "a target of 40,551 MACs cannot be reached"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_trained(
    dense: Path, tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    lines: list[str] = []
    with pytest.raises(InputError, match=said):
        run(dense, tmp_path / "out", name, say=lines.append, **changes)
    assert lines == []
    assert not (tmp_path / "out" / "model.json").exists()


def test_another_run_s_steps_are_refused(dense: Path, tmp_path: Path) -> None:
    kill_at(dense, tmp_path / "out", "iterative", 3)
    with pytest.raises(InputError, match=r"steps is another run's: target was 0\.5, is now 0\.4\. Delete it"):
        run(dense, tmp_path / "out", "iterative", target=0.4, rounds=2)
    (tmp_path / "out" / "steps" / "run.json").write_text(json.dumps([]))
    with pytest.raises(InputError, match="is another run's"):
        run(dense, tmp_path / "out", "iterative", rounds=2)
