"""What is wrong with a method is said in one line, wherever it is called: `daar.prune` and `daar suite check`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import daar
from daar.errors import InputError
from daar.methods import contract
from daar.models.resnet_cifar import ResNet
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

METHOD = '''"""A method with a fault."""

import torch
from torch import nn
import torch.nn.functional as F

from daar.api import MethodInfo, filter_gradients, filters, map_gradients, refill_by_importance_per_mac

INFO = MethodInfo(name="faulty", title="x (Y 2000)", citation="y", uses=("weights", "images"), policy="faulty")


def score(model, batch, layers, *, seed=0):
    """Scores."""
    good = {layer: filters(model, layer).abs().sum(dim=(1, 2, 3)) for layer in layers}
    SCORE
    return good


def plan(groups, importance, macs_target, *, macs, loss):
    """Counts."""
    counts = {group.name: group.min_kept for group in groups}
    worth = {group.name: sorted(importance[group.name].tolist(), reverse=True) for group in groups}
    counts = refill_by_importance_per_mac(counts, worth, macs, macs_target)
    PLAN
    return counts
'''

SCORES = {
    "nan": (
        "good[layers[1]][2] = float('nan')",
        r"scores filter 2 of 'layer1.0.conv[12]' as nan; scores must be finite\. Look for a division by zero or",
    ),
    "infinite": (
        "good[layers[0]][2] = 1 / torch.zeros(())",
        r"as inf; scores must be finite\. Look for a division by zero",
    ),
    "shape": (
        "good[layers[0]] = good[layers[0]][:-1]",
        r"scores 'conv1' by torch.float32 \(15,\) on cpu; it must be .*\. Return one score for each of its 16",
    ),
    "not reduced": (
        "good[layers[0]] = filters(model, 'conv1')",
        r"by torch.float32 \(16, 3, 3, 3\) on cpu; it must be .*\. Reduce over dim=\(1, 2, 3\), which leaves one score",
    ),
    "type": (
        "good = {k: v.double() for k, v in good.items()}",
        r"by torch.float64 \(16,\) on cpu; it must be .*\. Return scores\.float\(\)\.cpu\(\)\.$",
    ),
    "meta": (
        "good['conv1'] = good['conv1'].to('meta')",
        r"on meta; it must be .*\. A tensor on meta has no values: compute",
    ),
    "missing": (
        "del good['conv1']",
        r"scores no layer 'conv1'; it must score every layer it is given\. Loop over the argument `layers`\.$",
    ),
    "foreign": (
        "good['head'] = good['conv1']",
        r"scores 'head', which it was not asked for\. Loop over the argument `layers`",
    ),
    "weights": ("model.conv1.weight.data[3] = 0", "changes 'conv1.weight' of the network; score"),
    "buffers": ("model.train()(batch.images); model.eval()", "changes 'bn1.running_mean' of the network; score"),
    "modes": ("model.layer1.train()", "changes the training mode of 'layer1' of the network; score"),
    "mode of all": ("model.train()", "changes the training mode of the network; score.* Work on copy.deepcopy"),
    "requires_grad": ("model.requires_grad_(False)", "changes requires_grad of 'conv1.weight' of the network; score"),
    "none at all": ("return None", "returns a NoneType; it must be a mapping, layer → scores"),
    "a list": ("good['conv1'] = good['conv1'].tolist()", "scores 'conv1' by a list; it must be a tensor"),
    "with gradients": (
        "good['conv1'] = model.conv1.weight.sum(dim=(1, 2, 3))",
        "returns scores of 'conv1' with gradients",
    ),
    "raises": ("1 / 0", r"fails in score\(\): ZeroDivisionError: division by zero \(method.py, line \d+\)\. Mend it"),
    "labels": (
        "F.cross_entropy(model(batch.images), batch.labels + 10)",
        r"fails in score\(\): IndexError: Target \d+ is out of bounds \(method.py, line \d+\)",
    ),
    "no gradients": (
        "with torch.no_grad(): model(batch.images).sum().backward()",
        r"fails in score\(\): RuntimeError: element 0 .* It wants gradients of what records none: take filter_g",
    ),
    "added": ("model.register_buffer('mask', batch.images)", "changes 'mask' of the network; score"),
}
PLANS = {
    "target": (
        "counts = {group.name: group.size for group in groups}",
        r"policy 'faulty' misses the target: .* were asked for\. Correct the policy, which must meet the macs_target",
    ),
    "none": ("counts[groups[0].name] = 0", r"policy 'faulty' keeps 0 channels of 'conv1'; it must keep 2 to 16"),
    "more": ("counts[groups[0].name] = 17", r"policy 'faulty' keeps 17 channels of 'conv1'; it must keep 2 to 16"),
    "missing": (
        "del counts[groups[0].name]",
        "policy 'faulty' returns no count for group 'conv1'; it must return one for each of its 6 groups. Loop over",
    ),
    "asks for more": (
        "macs({**counts, 'conv1': 17})",
        "policy 'faulty' asks for the MACs of 17 channels of group 'conv1', which has 16. Keep each count within",
    ),
    "asks for half": (
        "macs({**counts, 'conv1': 7.5})",
        r"policy 'faulty' keeps 7.5 channels of 'conv1'; it must be an integer\. Return int\(…\) of it",
    ),
    "asks for a number": (
        "macs(16)",
        r"policy 'faulty' fails in plan\(\): TypeError: .* \(method.py, line \d+\)\. Mend it",
    ),
    "an index of its own": (
        "(1, 2)[3]",
        r"policy 'faulty' fails in plan\(\): IndexError: .* \(method.py, line \d+\)\. Mend it",
    ),
    "ignored": (
        "counts = {group.name: group.min_kept for group in groups}",
        r"policy 'faulty' misses the target: it keeps [\d,]+ of [\d,]+ MACs or parameters, but [\d,]+ may stay",
    ),
    "foreign": ("counts['fc'] = 3", "policy 'faulty' keeps channels of 'fc', which is none of its 6 groups"),
    "half": ("counts[groups[0].name] = 7.5", r"keeps 7.5 channels of 'conv1'; it must be an integer\. Return int\(…\)"),
    "NaN": ("counts[groups[0].name] = float('nan')", "policy 'faulty' keeps nan channels of 'conv1'"),
    "none at all": ("return None", "policy 'faulty' returns a NoneType; it must be a mapping, group → kept count"),
    "raises": ("1 / 0", r"policy 'faulty' fails in plan\(\): ZeroDivisionError: .* \(method.py, line \d+\)\. Mend it"),
}


def prune(folder: Path, score: str = "pass", plan: str = "pass", **more: Any) -> Any:
    (folder / "faulty").mkdir()
    code = METHOD.replace("SCORE", score).replace("PLAN", plan)
    (folder / "faulty" / "method.py").write_text(code, encoding="utf-8")
    (folder / "faulty" / "rule.smk").write_text("", encoding="utf-8")
    model, images = enliven(ResNet(1, 10)), torch.randn(4, 3, 32, 32)
    given = {"labels": torch.arange(4), **more}
    return daar.prune(model, images, macs_reduction=0.4, method="faulty", methods_dirs=[folder], **given)


def in_one_line(error: InputError, message: str) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 500, message


@pytest.mark.parametrize(("fault", "message"), SCORES.values(), ids=list(SCORES))
def test_a_fault_of_score_is_said(fault: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^method 'faulty' .*{message}") as error:
        prune(tmp_path, score=fault)
    in_one_line(error.value, message)


@pytest.mark.parametrize(("fault", "message"), PLANS.values(), ids=list(PLANS))
def test_a_fault_of_plan_is_said(fault: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        prune(tmp_path, plan=fault)
    in_one_line(error.value, message)


def test_a_method_without_fault_prunes(tmp_path: Path) -> None:
    assert prune(tmp_path) is not None


OWN_GRADIENTS = """F.cross_entropy(model(batch.images), batch.labels).backward()
    good = {k: (model.get_submodule(k).weight.grad ** 2).sum(dim=(1, 2, 3)) for k in layers}
    model.zero_grad()"""


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "score",
    [
        OWN_GRADIENTS,
        "good = {k: (w * g).square().sum(dim=(1, 2, 3)) for k, w, g in filter_gradients(model, batch, layers)}",
        "good = {k: (a * g).sum(dim=(0, 2, 3)).square() for k, a, g in map_gradients(model, batch, layers)}",
    ],
    ids=["its own", "of filters", "of maps"],
)
def test_gradients_are_there_in_any_mode(score: str, mode: Any, tmp_path: Path) -> None:
    with mode():
        assert prune(tmp_path, score=score) is not None


def test_a_function_that_changes_the_network_is_named() -> None:
    def zeroes(model: Any, batch: Any, layers: list[str]) -> dict[str, Any]:
        model.conv1.weight.data.zero_()
        return {layer: model.get_submodule(layer).weight.sum(dim=(1, 2, 3)) for layer in layers}

    with pytest.raises(InputError, match=r"method 'zeroes' changes 'conv1.weight' of the network"):
        daar.prune(enliven(ResNet(1, 10)), torch.randn(4, 3, 32, 32), macs_reduction=0.4, method=zeroes)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            lambda conv: conv.weight.sum(dim=(1, 2, 3)).to("meta"),
            r"'conv1' by torch\.\w+ \(16,\) on meta; it must be .*\. A tensor on meta has no values: compute",
        ),
        (lambda _: None, r"'conv1' by a NoneType that is no tensor; it must be one \(c_out,\)\. Return one score"),
        (lambda _: "high", "'conv1' by a str that is no tensor"),
        (lambda _: [[1], [2, 3]], "'conv1' by a list that is no tensor"),
        (lambda conv: conv.weight, r"\(16, 3, 3, 3\) on cpu; it must be .*\. Reduce over dim=\(1, 2, 3\)"),
    ],
    ids=["meta", "None", "text", "ragged", "not reduced"],
)
def test_a_function_s_scores_without_values_are_refused_in_one_line(scores: Any, message: str) -> None:
    def mine(model: Any, batch: Any, layers: list[str]) -> dict[str, Any]:
        return {layer: scores(model.get_submodule(layer)) for layer in layers}

    with pytest.raises(InputError, match=f"^method 'mine' scores {message}|^method 'mine' scores .*{message}") as error:
        daar.prune(enliven(ResNet(1, 10)), torch.randn(4, 3, 32, 32), macs_reduction=0.4, method=mine)
    in_one_line(error.value, message)


def test_nan_in_the_network_is_no_change() -> None:
    model = nn.BatchNorm1d(3)
    model.running_mean.fill_(float("nan"))  # type: ignore[union-attr]
    with contract.unchanged(model, "x"):
        pass
