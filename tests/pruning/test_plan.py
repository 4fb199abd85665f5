"""plan.json: there and back, and refused where it is not for this network."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from daar import models
from daar.errors import InputError
from daar.pruning import plan as plans
from daar.pruning import policies
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from daar.storage import schemas
from tests.networks import one_thread  # noqa: F401  # it acts on this module


def graph_of(name: str) -> ChannelGraph:
    return channel_graph(models.get(name).build(10), torch.zeros(1, 3, 32, 32))


def make(graph: ChannelGraph, **changes: Any) -> Plan:
    settings = {"method": "l1", "policy_name": "uniform", "scope": "all", "target": 0.5, **changes}
    scores = {name: torch.rand(len(graph.layers[name].outputs)) for name in graph.scored_layers()}
    return make_plan(graph, scores, policies.uniform, loss=lambda _: 0.0, options={}, **settings)


@pytest.fixture(scope="module")
def resnet20() -> ChannelGraph:
    return graph_of("resnet20")


@pytest.fixture(scope="module")
def good(resnet20: ChannelGraph) -> dict[str, Any]:
    return json.loads(json.dumps(plans.to_json(make(resnet20))))


def test_round_trip(tmp_path: Path, resnet20: ChannelGraph) -> None:
    for number, settings in enumerate([{}, {"scope": "inner", "target": 0.3}]):
        made = make(resnet20, **settings)
        plans.save(tmp_path / f"{number}.json", made)
        read = plans.load(tmp_path / f"{number}.json")
        assert read == made
        assert read.removed(resnet20) == made.removed(resnet20)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.json", "1.json"]


def test_removed_is_what_is_not_kept(resnet20: ChannelGraph) -> None:
    made = make(resnet20)
    removed = made.removed(resnet20)
    assert list(removed) == [group.name for group in resnet20.groups]
    for group in made.groups:
        assert sorted([*group.kept, *removed[group.name]]) == list(range(group.size))


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = content
        for key in parents:
            place = place[int(key) if key.isdigit() else key]
        place[last] = value

    return change


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (put("sparsity", 0.5), "known keys are .*scope"),
    "unknown key of a group": (put("groups.0.ratio", 0.5), "known keys are kept, name, size"),
    "missing key": (lambda content: content.pop("scope"), "'scope' is a required property"),
    "not a number": (put("target", "half"), r"target: .*expected: fraction of the dense MACs"),
    "not a finite number": (put("target", float("nan")), "is not JSON: it has NaN"),
    "target of one": (put("target", 1.0), "target: "),
    "unknown scope": (put("scope", "some"), r"scope: 'some' is not one of \['inner', 'all', 'units'\]"),
    "other format": (put("format", 2), "format: "),
    "kept is a number": (put("groups.1.kept", 3), r"groups\[1\]\.kept: "),
    "kept is empty": (put("groups.1.kept", []), r"groups\[1\]\.kept: "),
    "negative index": (put("groups.1.kept", [-1, 3]), r"groups\[1\]\.kept\[0\]: "),
    "index that is true": (put("groups.1.kept", [True, 3]), r"groups\[1\]\.kept\[0\]: "),
    "broken index": (put("groups.1.kept", [0.5, 3]), r"groups\[1\]\.kept\[0\]: "),
    "twice the same index": (put("groups.1.kept", [3, 3]), r"groups\[1\]\.kept: "),
    "unsorted": (put("groups.1.kept", [5, 3]), "kept indices of 'layer1.0.conv1' must be sorted, distinct"),
    "out of range": (put("groups.1.kept", [3, 16]), "'layer1.0.conv1' must be .* below 16"),
    "other size": (put("groups.1.size", 17), "'layer1.0.conv1' of 17 channels; in this network it is of 16 channels"),
    "other name": (put("groups.1.name", "stem"), "a group 'stem' of 16 channels; in this network it is no group"),
    "group listed twice": (lambda c: c["groups"].append(c["groups"][0]), "lists group 'conv1' 2 times"),
    "group left out": (lambda c: c["groups"].pop(0), "lists group 'conv1' 0 times; for scope 'all'"),
    "group out of scope": (put("scope", "inner"), "lists group 'conv1' 1 times; for scope 'inner' .* must be 0"),
    "no object": (lambda content: [content], "plan"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_plan_is_refused_in_one_line(
    tmp_path: Path, resnet20: ChannelGraph, good: dict[str, Any], change: Callable[..., Any], message: str
) -> None:
    content = copy.deepcopy(good)
    changed = change(content)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(changed if isinstance(changed, list) else content))
    with pytest.raises(InputError, match=message) as caught:
        plans.load(path).removed(resnet20)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "daar plan"))


@pytest.mark.parametrize("other", ["resnet56", "vgg16_bn"])
def test_a_plan_for_another_network_is_refused(other: str, resnet20: ChannelGraph) -> None:
    graph = graph_of(other)
    for plan, network in ((make(resnet20), graph), (make(graph), resnet20)):
        with pytest.raises(InputError, match="Make a plan for this network: daar plan"):
            plan.removed(network)


def test_a_plan_that_leaves_a_conv_without_filters_is_refused() -> None:
    class Sides(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Conv2d(3, width, 1) for width in (3, 3, 6))
            self.head = torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((torch.cat([self.a(x), self.b(x)], 1) + self.c(x)).mean((2, 3)))

    graph = channel_graph(Sides(), torch.zeros(1, 3, 4, 4))
    plan = Plan("x", "own", "all", None, 100, 50, (plans.PlannedGroup("a", 6, (3, 4, 5)),), {})
    with pytest.raises(InputError, match="the plan leaves no filter of 'a'"):
        plan.removed(graph)


def test_an_absent_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should be a plan, but there is no such file"):
        plans.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"format": 1, "met')
    with pytest.raises(InputError, match="should be a plan, but is not JSON: Unterminated string"):
        plans.load(tmp_path / "half.json")


@pytest.mark.parametrize("target", [-0.1, 1.0, 1.5, float("nan")])
def test_a_target_out_of_range_is_refused(target: float, resnet20: ChannelGraph) -> None:
    with pytest.raises(InputError, match=r"macs_reduction is .*; it must lie in \[0, 1\)"):
        make(resnet20, target=target)


def described(schema: Any, path: str = "plan") -> list[str]:
    """Every key of a schema that says nothing of what it means, and objects open to any key."""
    wrong = [] if path == "plan" or "description" in schema else [path]
    for key, value in schema.get("properties", {}).items():
        wrong += described(value, f"{path}.{key}")
    items = schema.get("items", {})
    if items.get("type") == "object":
        wrong += [place for place in described(items, f"{path}[]") if place != f"{path}[]"]
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        wrong.append(f"{path} is open")
    return wrong


def test_every_key_of_the_schema_is_described() -> None:
    schema = schemas.schema("plan")
    assert described(schema) == []
    # plans written before there was rounding have no round_to, and the others are left out where they say nothing
    optional = ["round_to", "target_of", "exclude", "repairs", "folded"]
    assert sorted([*schema["required"], *optional]) == sorted(schema["properties"])


def test_what_stays_whole_is_named_in_the_plan() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 8, 1)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.b(self.a(x).cumsum(1)).mean((2, 3)))

    graph = channel_graph(Odd(), torch.zeros(1, 3, 4, 4))
    plan = make(graph)
    assert [group.name for group in plan.groups] == ["b"]
    assert list(plan.frozen) == ["a"]
    line = Odd.forward.__code__.co_firstlineno + 1
    assert plan.frozen["a"] == f"channels are taken together: cumsum ({__file__}:{line})"
