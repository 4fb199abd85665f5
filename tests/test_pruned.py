"""daar.prune on networks that are not of the registry."""

import copy
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import daar
from daar.errors import InputError
from daar.pruned import Pruned
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

ROOT = Path(__file__).resolve().parents[1]


class Small(nn.Module):
    """Two convs, a part of its own between them, and a head."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.between = between or nn.Identity()
        self.second = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.between(self.first(x))).mean((2, 3)))


def small(between: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return enliven(Small(between))


def images(count: int = 12) -> Tensor:
    return torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def counted(model: nn.Module, image: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def check(pruned: Pruned, model: nn.Module, x: Tensor) -> None:
    """What is reported, against the slim network itself."""
    report = pruned.report
    assert report.macs_dense == counted(model.eval(), x[:1])
    assert report.macs == counted(pruned.model.eval(), x[:1])
    assert report.params_dense == sum(p.numel() for p in model.parameters())
    assert report.params == sum(p.numel() for p in pruned.model.parameters())
    assert report.slim_error <= 1e-10
    for layer in report.layers:
        module = pruned.model.get_submodule(layer.name)
        assert layer.filters == module.get_parameter("weight").shape[0]
        assert layer.params == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("method", ["l1", "fpgm", "hrank", "bn_scale", "random", "daar"])
def test_every_method_prunes_a_foreign_network(method: str) -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    pruned = daar.prune(model, images(), method=method, macs_reduction=0.5)
    check(pruned, model, images())
    assert 0.5 <= pruned.report.macs_reduction < 0.55  # two narrow layers: a channel is some points
    assert type(pruned.model) is Small
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = daar.prune(model, images(), method=method, macs_reduction=0.5)
    assert again.plan == pruned.plan


def test_l1_keeps_the_filters_of_largest_norm() -> None:
    model = small()
    pruned = daar.prune(model, images(), method="l1", macs_reduction=0.5)
    weight = model.get_parameter("first.0.weight").detach().numpy()
    norms = np.abs(weight).reshape(16, -1).sum(1)
    [group, _] = pruned.plan.groups
    assert list(group.kept) == sorted(np.argsort(-norms)[: len(group.kept)].tolist())
    assert torch.equal(pruned.model.get_parameter("first.0.weight"), torch.from_numpy(weight[list(group.kept)]))


def test_mode_dtype_and_device_are_kept() -> None:
    model = small().double().train()
    model.get_submodule("second").eval()
    pruned = daar.prune(model, images(), method="l1")
    assert [m.training for m in pruned.model.modules()] == [m.training for m in model.modules()]
    assert {p.dtype for p in pruned.model.parameters()} == {torch.float64}
    pruned.model.train()(images().double()).sum().backward()


def test_labels_are_the_predictions_where_there_are_none() -> None:
    model = small()
    with torch.no_grad():
        predictions = model(images(70)).argmax(1)
    options = {"boundary": "auto"}
    keep = predictions.bincount(minlength=7) >= 10  # `auto` wants ten images of each class
    chosen = images(70)[keep[predictions]]
    given = daar.prune(model, chosen, predictions[keep[predictions]], options=options)
    assert daar.prune(model, chosen, options=options).plan == given.plan


def test_an_excluded_part_keeps_its_filters() -> None:
    pruned = daar.prune(small(), images(), method="l1", macs_reduction=0.3, exclude=["second"])
    assert [(layer.filters_dense, layer.filters) for layer in pruned.report.layers][1] == (24, 24)
    assert pruned.report.frozen == {"second.0": "excluded by 'second'"}
    assert "second.0 stays whole: excluded by 'second'" in str(pruned.report)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.mean() > 0 else x


def test_a_part_that_cannot_be_traced_is_named_and_taken_as_opaque() -> None:
    model = small(Branching())
    with pytest.raises(
        InputError, match=r"'between' \(Branching\) fails at test_pruned.py:\d+: .*opaque=\['between'\]"
    ):
        daar.prune(model, images())
    pruned = daar.prune(model, images(), method="l1", macs_reduction=0.2, opaque=["between"])
    check(pruned, model, images())
    assert "read by an unknown operation: between" in pruned.report.frozen["first.0"]
    assert pruned.report.macs_dense > sum(layer.macs_dense for layer in pruned.report.layers)  # that of the part inside
    again = daar.slim_by(model, images(), pruned.plan, opaque=["between"])
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), pruned.model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("attribute", [threading.Lock(), torch.ones(1, requires_grad=True) * 2])
def test_a_network_that_cannot_be_copied_is_refused(attribute: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    setattr(model[0], "attribute", attribute)  # noqa: B010  # mypy knows only modules and tensors
    with pytest.raises(InputError, match=r"^the model cannot be copied: [^\n]+torch.nn.utils.prune.remove"):
        daar.prune(model, torch.zeros(2, 3, 8, 8), method="l1", macs_reduction=0.3)


def test_tuned_weights_find_their_network_again(tmp_path: Path) -> None:
    model = small()
    pruned = daar.prune(model, images(), macs_reduction=0.6)
    with torch.no_grad():
        for parameter in pruned.model.parameters():
            parameter.add_(0.01)
    torch.save(pruned.model.state_dict(), tmp_path / "tuned.pt")
    torch.manual_seed(1)
    again = daar.slim_by(Small(), images()[:1], pruned.plan)
    again.load_state_dict(torch.load(tmp_path / "tuned.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(again.eval()(images()), pruned.model.eval()(images()))
    with pytest.raises(InputError, match="in this network it is"):
        daar.slim_by(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.LazyLinear(2)), images(), pruned.plan
        )


def test_what_no_width_can_change_is_said_in_the_report() -> None:
    model = torchvision.models.shufflenet_v2_x0_5()
    x = torch.randn(2, 3, 64, 64)
    pruned = daar.prune(model, x, method="random", macs_reduction=0.2)
    check(pruned, model, x)
    assert "filters go only together, and the least stay" in str(pruned.report)


def test_several_heads() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.two = small(), nn.Linear(7, 3), nn.Linear(7, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.body(x)
            return {"one": self.one(x), "two": self.two(x)}

    assert daar.prune(Heads(), images()).report.slim_error <= 1e-10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"macs_reduction": 1.0}, r"macs_reduction is 1.0; it must lie in \[0, 1\)"),
        ({"macs_reduction": 0.999}, r"cannot be reached: .* The closest macs_reduction is 0\.9"),
        ({"scope": "outer"}, "scope is 'outer'; it is one of: inner, all"),
        ({"method": "magnitude"}, "unknown method 'magnitude'; there are: bn_scale, daar"),
        ({"policy": "best"}, "unknown policy 'best'; there are:"),
        ({"policy": "published-hrank"}, "published-hrank"),
        ({"options": {"attention": "both"}}, "option 'attention' of method 'daar' is 'both'; it takes"),
        ({"exclude": ["third"]}, "exclude names 'third', but the network has no such module; at its top are: first"),
        ({"opaque": ["third"]}, "opaque names 'third', but the model has no such module; at its top are: first"),
        ({"round_to": 0}, "round_to is 0; it must be at least 1"),
        *(
            ({"macs_reduction": value}, "macs_reduction is .*; it must be a number, or")
            for value in ("0.5", [0.5], True, 1j)
        ),
        *(({"round_to": value}, "round_to is .*; it must be an integer") for value in ("8", 8.0, None, True)),
        *(({"seed": value}, "seed is .*; it must be an integer") for value in ("0", 0.0, None)),
        *(({"method": value}, "method is .*; it must be a method's name") for value in (None, 1, b"l1", ["l1"])),
        *(({"policy": value}, "policy is .*; it must be a policy's name") for value in (1, ["uniform"])),
        *(({"options": value}, "options is .*; it must be a mapping") for value in ("x", ["attention"], {1: 2}, 0.5)),
        *(
            ({"exclude": value}, "exclude is .*; it must be a list of texts")
            for value in ("first", None, 3, [1], [None])
        ),
        *(({"opaque": value}, "opaque is .*; it must be a list of texts") for value in ("first", None, 3, [1])),
        *(({"methods_dirs": value}, "methods_dirs is .*; it must be a list") for value in ("methods", None, [1])),
        *(({"scope": value}, "scope is .*; it is one of") for value in (None, ["all"], 1)),
        ({"methods_dirs": ["no\0where"]}, "methods folder .* cannot be read|does not exist"),
        ({"labels": torch.zeros(3)}, r"labels are \(3,\); they must be a tensor \(12,\)"),
        (
            {"images": images()[0]},
            r"images are torch.float32 \(1, 12, 12\); they must be a float tensor \(N, C, H, W\)",
        ),
        ({"images": images().to(torch.uint8)}, r"images are torch.uint8 .*; they must be a float tensor"),
        ({"images": images() * torch.inf}, "images hold NaN or infinity"),
        ({"images": torch.randn(2, 3, 12, 12)}, r"the model fails on images of shape \(3, 12, 12\): .*expected input"),
        ({"images": None}, "images are NoneType"),
        ({"model": nn.DataParallel(Small())}, "model is wrapped in DataParallel. Give the network inside"),
        ({"model": "resnet18"}, r"model is a str; it must be a plain torch.nn.Module"),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Linear(144, 3))},
            "no group of this network may be pruned: it has no convs",
        ),
        ({"model": nn.Flatten()}, "the model has no parameters"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"model": small(), "images": images(), "method": "daar", **arguments}
    with pytest.raises(InputError, match=said) as error:
        daar.prune(given.pop("model"), given.pop("images"), given.pop("labels", None), **given)
    assert "\n" not in str(error.value)


def zoo(name: str) -> Callable[..., nn.Module]:
    return getattr(torchvision.models, name)


# projections, dense blocks, inverted residuals with excitation and stochastic depth, grouped convs, shuffles, fires
@pytest.mark.parametrize(
    ("name", "size", "reduction"),
    [
        *(
            ("resnet18", 32, 0.5),
            ("densenet121", 32, 0.5),
            ("efficientnet_b0", 32, 0.5),
            ("mobilenet_v3_small", 32, 0.5),
        ),
        *(
            ("regnet_y_400mf", 32, 0.5),
            ("shufflenet_v2_x1_0", 32, 0.3),
            ("squeezenet1_1", 32, 0.5),
            ("mnasnet0_5", 32, 0.5),
        ),
    ],
)
def test_networks_of_torchvision(name: str, size: int, reduction: float) -> None:
    torch.manual_seed(0)
    model = enliven(zoo(name)())
    x = torch.randn(2, 3, size, size)
    pruned = daar.prune(model, x, method="l1", macs_reduction=reduction)
    check(pruned, model, x)
    assert pruned.report.frozen.keys() <= {"classifier.1"}  # SqueezeNet's last conv makes the logits
    assert reduction <= pruned.report.macs_reduction < reduction + 0.03


def test_a_network_of_layer_norms_has_nothing_to_remove_exactly() -> None:
    with pytest.raises(
        InputError, match=r"no group of this network may be pruned: read by an unknown operation: .*File"
    ):
        daar.prune(torchvision.models.convnext_tiny(), torch.randn(2, 3, 32, 32), method="l1")


def test_importing_daar_imports_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        getattr(daar, "prun")  # noqa: B009
    assert daar.prune.__module__ == "daar.pruned"


def test_the_lines_of_the_readme(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    exec(block, {})
    assert re.search(r"MACs [\d,]+ → [\d,]+ \(-5\d\.\d %\)", capsys.readouterr().out)


def test_numbers_of_numpy_count_as_python_s() -> None:
    plain = daar.prune(small(), images(), method="random", macs_reduction=0.5, round_to=2, seed=3)
    given: dict[str, Any] = {"macs_reduction": np.float32(0.5), "round_to": np.int64(2), "seed": np.int32(3)}
    other = daar.prune(small(), images(), method="random", exclude=iter(()), **given)
    assert (other.plan, str(other.report)) == (plain.plan, str(plain.report))


GRADIENTS = """
from torch.nn import functional as F
from daar.api import MethodInfo

INFO = MethodInfo(
    name="taylor", title="Taylor", citation="x", uses=("images", "labels"), policy="uniform", deviations=()
)


def score(model, batch, layers):
    model.zero_grad()
    F.cross_entropy(model(batch.images.requires_grad_()), batch.labels).backward()
    weights = {layer: model.get_submodule(layer).weight for layer in layers}
    return {layer: (w * w.grad).sum((1, 2, 3)).abs().detach() for layer, w in weights.items()}
"""


def test_a_method_may_use_gradients_in_any_mode_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "taylor").mkdir()
    (tmp_path / "taylor" / "method.py").write_text(GRADIENTS)
    (tmp_path / "taylor" / "rule.smk").touch()
    model, plans = small(), []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            pruned = daar.prune(model, images(), method="taylor", methods_dirs=[tmp_path])
        pruned.model(images()).sum().backward()  # and what comes out can be tuned
        plans.append(pruned.plan)
    assert plans[0] == plans[1] == plans[2]
    assert all(parameter.grad is None for parameter in model.parameters())
