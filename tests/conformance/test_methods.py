"""What every method has to hold, found as the workflow finds them: a new folder is covered without an edit here."""

import ast
import copy
import random
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from daar.api import Batch, InputError, MethodInfo
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.models.resnet_cifar import ResNet
from daar.pruning import importance
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

METHODS = discovery.find()
PLANNERS = {name: method for name, method in METHODS.items() if method.plans is not None}
EXPLAINERS = {name: method for name, method in METHODS.items() if method.explains}
IMAGE = torch.zeros(1, 3, 32, 32)
COUNT = 12

# a method may bring a whole rule and a program in any language instead of score()
SCORERS = {name: m for name, m in METHODS.items() if "use rule score as" in m.rule.read_text(encoding="utf-8")}

each = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
each_scorer = pytest.mark.parametrize("method", SCORERS.values(), ids=list(SCORERS))


def network() -> nn.Module:
    """Three residual blocks with lively statistics, two of them with padded shortcuts."""
    torch.manual_seed(0)
    return enliven(ResNet(1, 10))


def batch(seed: int = 0) -> Batch:
    dice = torch.Generator().manual_seed(seed)
    smooth = torch.randn(COUNT, 3, 8, 8, generator=dice)
    images = nn.functional.interpolate(smooth, scale_factor=4.0, mode="bilinear")
    return Batch(images, torch.randint(10, (COUNT,), generator=dice))


def graph_of(model: nn.Module) -> ChannelGraph:
    return channel_graph(model, IMAGE)


def layers() -> list[str]:
    return graph_of(network()).scored_layers()


def options(function: Callable[..., Any]) -> dict[str, Any]:
    return {"seed": 3} if discovery.takes_seed(function) else {}


def score(method: Method, model: nn.Module | None = None, data: Batch | None = None, **more: Any) -> dict[str, Tensor]:
    module = discovery.load(method)
    model = (model or network()).eval()
    return module.score(model, data or batch(), layers(), **{**options(module.score), **more})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[layer], other[layer]) for layer in one)


def surroundings() -> tuple[Any, ...]:
    numpy_state = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
    )


# scores


@each_scorer
def test_scores_are_as_the_contract_says(method: Method) -> None:
    graph = graph_of(network())
    widths = {layer: len(graph.layers[layer].outputs) for layer in layers()}
    found = score(method)
    assert set(found) == set(widths), "a score for every layer asked for, and for no other"
    for layer, vector in found.items():
        assert isinstance(vector, Tensor)
        assert (tuple(vector.shape), vector.dtype, vector.device.type) == ((widths[layer],), torch.float32, "cpu")
        assert torch.isfinite(vector).all()
        assert not vector.requires_grad
    # not in every layer: the maps of a small random network may well all have full rank
    assert any(vector.unique().numel() > 1 for vector in found.values()), "all filters are worth the same"
    importance.check(found, widths, method.name)


@each_scorer
def test_only_the_layers_asked_for_are_scored(method: Method) -> None:
    module = discovery.load(method)
    chosen = [layers()[2], layers()[0]]
    found = module.score(network().eval(), batch(), chosen, **options(module.score))
    assert set(found) == set(chosen)


@each_scorer
def test_scores_are_deterministic_whatever_was_drawn_before(method: Method) -> None:
    torch.manual_seed(1)
    one = score(method)
    torch.manual_seed(2)
    torch.rand(10)
    np.random.seed(5)
    assert same(score(method), one)


@each_scorer
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_scores_do_not_depend_on_the_callers_mode_of_gradients(method: Method, mode: Callable[[], Any]) -> None:
    """Wrap what needs gradients in nothing: `daar.api` and whoever loads a method see to it.

    In inference mode the batch is such as autograd refuses to save; clone what you differentiate by yourself.
    """
    one = score(method)
    assert not any(scores.requires_grad for scores in one.values())
    model = network().requires_grad_(False)  # a frozen network has gradients too
    with mode():
        data = Batch(batch().images + 0, batch().labels + 0)
        found = score(method, model, data)
    assert same(found, one)
    assert not any(scores.requires_grad or scores.is_inference() for scores in found.values())


@each_scorer
@pytest.mark.parametrize(
    "labels", [torch.empty(0, dtype=torch.int64), torch.full((COUNT,), 10), torch.arange(COUNT) / COUNT]
)
def test_labels_that_are_not_there_are_said_in_one_line(method: Method, labels: Tensor) -> None:
    """As `InputError` of `daar.api` says it; a method that reads none does not mind."""
    if "labels" not in discovery.load(method).INFO.uses:
        assert same(score(method, data=Batch(batch().images, labels)), score(method))
        return
    with pytest.raises(InputError, match=r"^labels should be .* got ") as error:
        score(method, data=Batch(batch().images, labels))
    assert "\n" not in str(error.value)


@each_scorer
@pytest.mark.parametrize("training", [False, True])
def test_model_batch_and_surroundings_are_left_as_found(method: Method, training: bool) -> None:
    model, data, module = network(), batch(), discovery.load(method)
    model.train(training)
    model.get_submodule("layer2").eval()
    before = copy.deepcopy(model)
    around = surroundings()
    module.score(model, data, layers(), **options(module.score))
    assert surroundings() == around
    assert torch.equal(data.images, batch().images)
    assert torch.equal(data.labels, batch().labels)
    assert list(model.state_dict()) == list(before.state_dict())
    for (name, one), other in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    for parameter, other in zip(model.parameters(), before.parameters(), strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad == other.requires_grad
    for part in model.modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        assert not any(hooks)


def disturbed(what: str) -> tuple[nn.Module, Batch]:
    """The usual network and batch with one kind of input replaced."""
    model, data = network(), batch()
    if what == "weights":
        torch.manual_seed(9)
        model = enliven(ResNet(1, 10), seed=9)
    if what == "images":
        data = Batch(batch(9).images, data.labels)
    if what == "labels":
        data = Batch(data.images, (data.labels + 1 + torch.arange(COUNT) % 8) % 10)
    return model, data


@each_scorer
@pytest.mark.parametrize("what", ["weights", "images", "labels"])
def test_scores_depend_on_what_info_names_and_on_nothing_else(method: Method, what: str) -> None:
    used = what in discovery.load(method).INFO.uses
    assert same(score(method, *disturbed(what)), score(method)) is not used


@each_scorer
def test_a_seed_changes_the_draw(method: Method) -> None:
    if not discovery.takes_seed(discovery.load(method).score):
        pytest.skip("draws nothing")
    assert not same(score(method, seed=4), score(method))


@each_scorer
@pytest.mark.parametrize("block", ["layer1.0", "layer2.0", "layer3.0"])
def test_permuting_filters_permutes_their_scores(method: Method, block: str) -> None:
    if not discovery.load(method).INFO.uses:
        pytest.skip("uses nothing of the network: a control that scores positions, not filters")
    model = network()
    before = score(method, model)[f"{block}.conv1"]
    order = torch.randperm(len(before), generator=torch.Generator().manual_seed(2))
    state = model.state_dict()
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        state[f"{block}.{name}"] = state[f"{block}.{name}"][order]
    state[f"{block}.conv2.weight"] = state[f"{block}.conv2.weight"][:, order]
    model.load_state_dict(state)
    after = score(method, model)[f"{block}.conv1"]
    assert torch.allclose(after, before[order], rtol=1e-4, atol=1e-6 * float(before.abs().max()))


@pytest.mark.parametrize("method", EXPLAINERS.values(), ids=list(EXPLAINERS))
def test_what_it_explains_is_what_it_scores_by(method: Method) -> None:
    module, model, data = discovery.load(method), network(), batch()
    given = discovery.score_options(module.score, options(module.score))
    before, around = copy.deepcopy(model.state_dict()), surroundings()
    shares: dict[str, list[Tensor]] = {}
    for layer, part, attention in module.explain(model, data, layers(), **given):
        shares.setdefault(layer, []).append(part)
        assert (part.device.type, part.dim()) == ("cpu", 2)
        if attention is not None:
            assert (attention.device.type, attention.dim(), len(attention)) == ("cpu", 3, len(part))
            assert (attention >= 0).all()
            assert torch.allclose(attention.sum(dim=(1, 2)), torch.ones(len(part)))
    assert surroundings() == around
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    scores = score(method)
    assert set(shares) == set(scores)
    for layer, parts in shares.items():
        assert sum(map(len, parts)) == COUNT
        assert torch.allclose(torch.cat(parts).double().mean(dim=0).float(), scores[layer], rtol=1e-5, atol=1e-8)


# policies that methods bring


def has_no_rate(plan: Callable[[], Any]) -> bool:
    """Whether a policy wants a target, and says so in one line."""
    try:
        plan()
    except InputError as error:
        return "has no rate of its own. Give a target" in str(error)
    return False


@pytest.mark.parametrize("method", PLANNERS.values(), ids=list(PLANNERS))
@pytest.mark.parametrize("reduction", [None, 0.3, 0.6])
def test_a_policy_of_its_own_is_as_the_contract_says(method: Method, reduction: float | None) -> None:
    model, images = network(), batch().images
    graph = graph_of(model)
    groups = graph.in_scope("all")
    shares = importance.group_importance(groups, score(method))
    macs = ClosedForm(graph, {group.name: importance.ranking(group, shares[group.name]) for group in groups})
    budget = None if reduction is None else int((1 - reduction) * macs({}))
    before, around = copy.deepcopy(shares), surroundings()
    loss = CalibrationLoss(model, graph, images)

    def plan() -> dict[str, int]:
        return discovery.load(method).plan(groups, shares, budget, macs=macs, loss=loss)

    if budget is None and has_no_rate(plan):
        return
    counts = plan()
    assert surroundings() == around
    assert all(np.array_equal(shares[name], before[name]) for name in before)
    assert set(counts) == {group.name for group in groups}
    assert all(isinstance(counts[group.name], int) for group in groups)
    assert all(group.min_kept <= counts[group.name] <= group.size for group in groups)
    assert macs(counts) < macs({})
    if budget is not None:
        assert macs(counts) <= budget
    assert plan() == counts
    with torch.no_grad():
        assert plan() == counts


# metadata and files


@each
def test_metadata_is_complete_and_as_written(method: Method) -> None:
    info = MethodInfo(**method.info)
    assert info.name == method.name
    assert info.policy == method.policy
    if method.name in SCORERS:
        assert info == discovery.load(method).INFO, "INFO is read from the source, so it must be what the module has"
    for text in (info.name, info.title, info.citation, info.policy, *info.uses, *info.deviations):
        assert isinstance(text, str)
        assert text.strip()
    assert isinstance(info.uses, tuple)
    assert isinstance(info.deviations, tuple)
    assert info.control or info.uses, "only a control may depend on nothing"


@each_scorer
def test_module_and_functions_say_what_they_do(method: Method) -> None:
    module = discovery.load(method)
    assert (module.__doc__ or "").strip()
    for name in ("score", *(["plan"] if method.plans is not None else [])):
        assert (getattr(module, name).__doc__ or "").strip(), name


@each
def test_the_citation_is_in_the_bibliography(method: Method) -> None:
    text = (method.code.parent / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{([^,\s]+),", text, re.MULTILINE)
    assert method.info["citation"] in entries
    assert len(entries) == len(set(entries))
    for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]:
        for field in ("title", "author", "year"):
            assert re.search(rf"^\s*{field}\s*=\s*\{{.+\}}", entry, re.MULTILINE), f"{field} missing in {entry[:40]}"


@each
def test_the_rule_makes_importance_for_the_method_s_variants(method: Method) -> None:
    rule = method.rule.read_text(encoding="utf-8")
    if method.name in SCORERS:
        assert re.search(rf"^use rule score as score_{method.name} with:$", rule, re.MULTILINE)
        assert f'variants_of("{method.name}")' in rule
    else:
        assert re.search(r"^rule \w+:$", rule, re.MULTILINE)
        assert re.search(r"importance\.safetensors|plan\.json", rule)


ALLOWED = {"torch", "numpy", *(sys.stdlib_module_names - {"importlib", "runpy"})}


def foreign_imports(tree: ast.AST, own: str) -> list[str]:
    """Modules that a method must not import."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [] if node.level == 1 else [f"{'.' * node.level}{node.module}"]
        elif isinstance(node, ast.ImportFrom):
            whole = str(node.module)
            names = [f"{whole}.{alias.name}" if whole == "daar" else whole for alias in node.names]
        elif isinstance(node, ast.Name) and node.id in {"__import__", "exec", "eval"}:
            names = [node.id]
        else:
            continue
        found += [
            name
            for name in names
            if name.split(".")[0] not in ALLOWED and name != "daar.api" and not f"{name}.".startswith(own)
        ]
    return found


@each
def test_only_the_api_torch_numpy_and_the_standard_library_are_imported(method: Method) -> None:
    own = "daar.method." if method.name == "daar" else f"daar_method_{method.name}."
    for path in method.sources:
        assert not foreign_imports(ast.parse(path.read_text(encoding="utf-8")), own), path


@pytest.mark.parametrize(
    "line",
    [
        *("import daar.pruning.groups", "from daar.models import NETWORKS", "from daar import models", "import scipy"),
        *("import importlib", "from ..l1.method import score", "import daar", "__import__('daar.models')"),
    ],
)
def test_the_wall_has_no_hole(line: str) -> None:
    assert foreign_imports(ast.parse(f"def f():\n    {line}"), "daar_method_x.")


@pytest.mark.parametrize(
    "line",
    [
        *("from daar.api import Batch", "from daar import api", "import torch.nn.functional as F", "import math"),
        *("from .attention import share", "from collections.abc import Sequence", "from numpy.linalg import norm"),
    ],
)
def test_the_wall_has_its_door(line: str) -> None:
    assert not foreign_imports(ast.parse(line), "daar_method_x.")


def test_this_suite_covers_the_methods_there_are() -> None:
    assert {"daar", "l1", "fpgm", "hrank", "random", "taylor", "chip", "thinet"} <= set(SCORERS)
    assert len(METHODS) >= 14
