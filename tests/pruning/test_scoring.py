"""Scores and plans as daar.prune and the stages ask for them: what a method and a policy are given."""

import platform
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import importance
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.planning import plan_by_policy, uniform_plan
from daar.pruning.scoring import Batch, arguments, score
from tests.networks import one_thread  # noqa: F401  # it acts on this module

METHOD = '''"""Scores that say what score() was given, and a policy that says what plan() was given."""
import torch
from daar.api import MethodInfo

INFO = MethodInfo(name="telling", title="Telling", citation="x", uses=(), policy="telling")


def score(model, batch, layers, *, seed: int = 0, power: float = 2.0):
    assert not model.training
    told = [float(seed), power, float(batch.labels.sum())]
    return {layer: torch.tensor([*told, *[1.0] * (model.get_submodule(layer).out_channels - 3)]) for layer in layers}


def plan(groups, importance, macs_target, *, macs, loss, asks: int = 0):
    for _ in range(asks):
        loss({})
    return {group.name: 4 + asks for group in groups}


def explain(model, batch, layers, **options):
    yield from ()
'''


def folder(root: Path, code: str = METHOD, name: str = "telling") -> Path:
    (root / "methods" / name).mkdir(parents=True)
    (root / "methods" / name / "method.py").write_text(code)
    (root / "methods" / name / "rule.smk").write_text("")
    return root / "methods"


@pytest.fixture
def telling(tmp_path: Path) -> Method:
    return discovery.get("telling", [folder(tmp_path)])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    )


def batch() -> Batch:
    return Batch(torch.zeros(4, 3, 8, 8), torch.tensor([1, 2, 3, 4]))


def graph() -> ChannelGraph:
    return graph_of(network(), (3, 8, 8))


def test_a_method_is_given_its_options_and_the_seed_but_not_those_of_its_plan(telling: Method) -> None:
    def told(options: dict[str, Any], seed: int) -> list[float]:
        return score(network().train(), batch(), graph(), telling, options, seed)["0"][:3].tolist()

    assert told({}, 7) == [7, 2, 10]
    assert told({"power": 3.0, "asks": 2}, 0) == [0, 3, 10]
    assert arguments(telling, discovery.load(telling), {"asks": 2}, 7) == {"seed": 7, "power": 2.0}
    l1 = discovery.get("l1")
    assert arguments(l1, discovery.load(l1), {}, 7) == {}


def test_a_score_is_asked_for_every_conv_that_may_be_pruned() -> None:
    scores = score(network(), batch(), graph(), discovery.get("l1"), {}, 0)
    assert importance.widths(graph()) == {"0": 8, "2": 6}
    weights = {name: network().get_parameter(f"{name}.weight").detach() for name in ("0", "2")}
    expected = {name: weight.abs().sum((1, 2, 3)) for name, weight in weights.items()}
    assert set(scores) == set(expected)
    assert all(torch.equal(scores[name], vector) for name, vector in expected.items())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (METHOD.replace("def score", "def scores"), "is a program of its own that only a suite can run"),
        (METHOD.replace("for layer in layers}", "for layer in layers[1:]}"), "method 'telling' scores no layer '0'"),
    ],
)
def test_a_method_that_cannot_be_used_is_refused(code: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        score(network(), batch(), graph(), discovery.get("telling", [folder(tmp_path, code)]), {}, 0)


def test_a_scope_without_groups_is_refused_and_the_other_named() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Any:
            x = self.first(x)
            return self.head((x + self.second(x)).mean((2, 3)))

    residual = graph_of(Residual(), (3, 8, 8))
    ones = {name: torch.ones(width) for name, width in importance.widths(residual).items()}
    with pytest.raises(InputError, match=r"^no group .* in scope 'inner'\. .* Take scope 'all', which"):
        uniform_plan(residual, ones, "inner", 0.3)
    assert [group.size for group in uniform_plan(residual, ones, "all", 0.3).groups] == [8]


def test_options_of_a_plan_go_to_the_method_s_own_policy_and_the_loss_is_made_once_if_at_all(tmp_path: Path) -> None:
    extra = [folder(tmp_path)]
    telling, made = discovery.get("telling", extra), []
    ones: dict[str, Tensor] = {name: torch.ones(width) for name, width in importance.widths(graph()).items()}

    def kept(method: Method, policy: str, asks: int | None, target: float | None = None) -> list[int]:
        def make_loss() -> Any:
            made.append(policy)
            return lambda _: 0.0

        plan = plan_by_policy(
            graph(), ones, method, policy, options={} if asks is None else {"asks": asks}, make_loss=make_loss,
            scope="all", target=target, methods_dirs=extra,
        )  # fmt: skip
        assert (plan.method, plan.policy, plan.scope, plan.target) == (method.name, policy, "all", target)
        return [len(group.kept) for group in plan.groups]

    assert kept(telling, "telling", None) == [4, 4]
    assert kept(discovery.get("l1"), "telling", None) == [4, 4]  # whose options it does not take
    assert made == []
    assert kept(telling, "telling", 2) == [6, 6]
    assert made == ["telling"]
    # a policy that is not the method's own is not given its options
    uniform = uniform_plan(graph(), ones, "all", 0.5)
    assert kept(telling, "uniform", 2, 0.5) == [len(group.kept) for group in uniform.groups]
    assert (uniform.policy, uniform.target, uniform.macs <= 0.5 * uniform.macs_dense) == ("uniform", 0.5, True)


@pytest.mark.slow  # counts page faults, which also the system's own thrift causes where memory is short
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_what_a_loss_frees_is_there_for_the_next_until_the_plan_is_made(tmp_path: Path) -> None:
    extra, mebibytes, faults = [folder(tmp_path)], 200, list[int]()
    pages = mebibytes * 2**20 // resource.getpagesize()

    def loss(removed: Any) -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(mebibytes * 2**20, dtype=torch.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return 0.0

    ones = {name: torch.ones(width) for name, width in importance.widths(graph()).items()}
    plan_by_policy(
        graph(), ones, discovery.get("telling", extra), "telling", options={"asks": 2}, make_loss=lambda: loss,
        scope="all", target=None, methods_dirs=extra,
    )  # fmt: skip
    assert len(faults) == 2
    # the second block may not lie quite where the first did
    assert sum(faults) < 3 * pages
