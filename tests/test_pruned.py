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
import torch.nn.utils.prune
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import daar
from daar.errors import InputError
from daar.pruned import Pruned
from daar.pruning import plan as plans
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("macs_reduction", "params_reduction", "latency_reduction")


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


class Counting(nn.Identity):
    """Counts the images that it sees, whichever copy of it does."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.seen += len(x)
        return x


@pytest.mark.parametrize(("method", "policy", "all_are_run"), [
    ("l1", "uniform", False), ("fpgm", "global", False), ("l1", "adaptive", True), ("hrank", "uniform", True),
])  # fmt: skip
def test_images_that_neither_method_nor_policy_reads_are_not_run(method: str, policy: str, all_are_run: bool) -> None:
    Counting.seen = 0
    daar.prune(small(Counting()), images(300), method=method, policy=policy, macs_reduction=0.3)
    assert (Counting.seen >= 300) == all_are_run


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


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    model = small()
    vars(model)["lock"] = threading.Lock()
    with pytest.raises(InputError, match=r"^the model cannot be copied: [^\n]+ such as locks"):
        daar.prune(model, images(), method="l1", macs_reduction=0.3)


def test_what_is_computed_from_weights_is_copied_as_it_is() -> None:
    """As torch.nn.utils.prune keeps the masked weight, and as users keep a scale."""
    model = small()
    vars(model)["scale"] = torch.ones(1, requires_grad=True) * 2
    torch.nn.utils.prune.random_unstructured(model.get_submodule("second.0"), "weight", 0.3)
    pruned = daar.prune(model, images(), method="l1", macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-10
    assert pruned.model.get_submodule("second.0").get_buffer("weight_mask").shape[1] < 16


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
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(128, 2)),
            images(),
            pruned.plan,
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
        ({"macs_reduction": 0.999}, r"cannot be reached: the closest macs_reduction is 0\.9.* in scope .all."),
        ({"scope": "outer"}, "scope is 'outer'; it is one of: inner, all"),
        ({"method": "magnitude"}, "unknown method 'magnitude'; there are: activation, apoz, bn_scale"),
        ({"policy": "best"}, "unknown policy 'best'; there are:"),
        ({"policy": "published-hrank"}, "published-hrank"),
        ({"options": {"attention": "both"}}, "option 'attention' of method 'daar' is 'both'; it takes"),
        ({"params_reduction": 1.5}, r"macs_reduction|params_reduction is 1.5; it must lie in \[0, 1\)"),
        *(({name: value}, f"{name} is .*; it must be a number") for name in TARGETS for value in ("0.5", True, [0.5])),
        ({"min_channels": 0}, "min_channels is 0; it must be 1 or more"),
        ({"calibration_images": 0}, "calibration_images is 0; it must be 1 or more"),
        *(({"strict": value}, "strict is .*; it must be True or False") for value in (1, None, "yes")),
        (
            {"policy_options": {"tilt": 1}, "policy": "uniform"},
            "unknown option of policy 'uniform' 'tilt'; there are: none",
        ),
        ({"policy_options": {"adjust": 3}}, "option 'adjust' of policy 'adaptive' is 3; it takes"),
        ({"exclude": ["third"]}, "exclude names 'third', but the network has no such module; at its top are: first"),
        ({"round_to": 0}, "round_to is 0; it must be 1 or more"),
        *(
            ({"macs_reduction": value}, "macs_reduction is .*; it must be a number, or")
            for value in ("0.5", [0.5], True, 1j)
        ),
        *(({"round_to": value}, "round_to is .*; it must be an integer") for value in ("8", 8.0, None, True)),
        *(({"seed": value}, "seed is .*; it must be an integer") for value in ("0", 0.0, None)),
        *(
            ({"method": value}, "method is .*; it must be a method's name, or a f")
            for value in (None, 1, b"l1", ["l1"])
        ),
        *(({"policy": value}, "policy is .*; it must be a policy's name") for value in (1, ["uniform"])),
        *(({"options": value}, "options is .*; it must be a mapping") for value in ("x", ["attention"], {1: 2}, 0.5)),
        *(
            ({"exclude": value}, "exclude is .*; it must be a list of texts")
            for value in ("first", None, 3, [1], [None])
        ),
        *(({"methods_dirs": value}, "methods_dirs is .*; it must be a list") for value in ("methods", None, [1])),
        *(({"scope": value}, "scope is .*; it is one of") for value in (None, ["all"], 1)),
        ({"methods_dirs": ["no\0where"]}, "methods folder .* cannot be read|does not exist"),
        ({"labels": torch.zeros(3)}, r"labels are \(3,\); they must be a tensor \(12,\)"),
        (
            {"images": images()[:0]},
            r"images are torch.float32 \(0, 1, 12, 12\); each tensor must be \(N, …\), N at least 1",
        ),
        ({"images": images()[0, :, :, 0]}, r"the model fails on images of shape \(12,\): .*4D"),
        ({"images": images().to(torch.uint8)}, r"the model fails on images of shape \(1, 12, 12\): .*type"),
        ({"images": images() * torch.inf}, "images hold NaN or infinity"),
        ({"images": torch.randn(2, 3, 12, 12)}, r"the model fails on images of shape \(3, 12, 12\): .*expected input"),
        ({"images": None}, "images are a NoneType; they must be a tensor"),
        ({"model": "resnet18"}, r"model is a str; it must be a torch.nn.Module"),
        ({"model": nn.Sequential(nn.LazyConv2d(4, 3))}, "0.weight has no shape yet, .* Run the network once"),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Linear(144, 3))},
            "no group of this network may be pruned in scope .all.. What holds it back, .*: 100% 1: network output.",
        ),
        ({"model": nn.Flatten()}, "the model has no parameters"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"model": small(), "images": images(), "method": "daar", **arguments}
    with pytest.raises(InputError, match=said) as error:
        daar.prune(given.pop("model"), given.pop("images"), given.pop("labels", None), **given)
    assert "\n" not in str(error.value)


def test_wrappers_are_taken_off_and_said() -> None:
    model = small()
    plain = daar.prune(model, images(), method="l1")
    wrapped = daar.prune(torch.compile(nn.DataParallel(model)), images(), method="l1")  # type: ignore[arg-type]
    assert type(wrapped.model) is Small
    assert wrapped.plan == plain.plan
    assert [note.split(":")[0] for note in wrapped.report.notes] == [
        "taken out of OptimizedModule",
        "taken out of DataParallel",
    ]
    assert str(wrapped.report).splitlines()[-1] == wrapped.report.notes[-1]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_scripted_networks_are_refused_and_scripted_parts_are_pruned_around() -> None:
    with pytest.raises(InputError, match=r"whose layers cannot be replaced\. Prune the network that it was made of"):
        daar.prune(torch.jit.script(small()), images(), method="l1")
    model = small(torch.jit.script(nn.Sequential(nn.Hardswish())))
    pruned = daar.prune(model, images(), method="l1")
    check(pruned, model, images())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_pruned_comes_back_as_it_was(name: str, dtype: torch.dtype) -> None:
    """Memory format, type, mode and which parameters are trained; of the model that was given nothing changes."""
    torch.manual_seed(0)
    model = enliven(zoo(name)()).to(dtype, memory_format=torch.channels_last).train()
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.weight.requires_grad_(False)
    frozen_norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    before = copy.deepcopy(model.state_dict())
    pruned = daar.prune(model, torch.randn(2, 3, 64, 64), method="l1")
    assert pruned.report.slim_error <= 1e-10
    for network in (model, pruned.model):
        weights = {name: value for name, value in network.named_parameters() if value.dim() == 4}
        assert all(value.is_contiguous(memory_format=torch.channels_last) for value in weights.values())
        assert {value.dtype for value in network.parameters()} == {dtype}
        assert [name for name, value in network.named_parameters() if not value.requires_grad] == [
            name for name, value in model.named_parameters() if value is first.weight
        ]
    assert not frozen_norm.training
    assert [part.training for part in pruned.model.modules()] == [part.training for part in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Written(nn.Module):
    """Looks at its channels by a number of them that an attribute, or the code, holds."""

    def __init__(self, *, in_code: bool) -> None:
        super().__init__()
        self.width, self.in_code = 16, in_code
        self.one, self.two = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.three, self.head = nn.Conv2d(16, 16, 3), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu()).relu()
        width = 16 if self.in_code else self.width
        x = x * x.view(len(x), width, -1).mean(2)[:, :, None, None]
        return self.head(self.three(x).relu().mean((2, 3)))


@pytest.mark.parametrize("in_code", [False, True])
def test_numbers_of_channels_in_the_code_are_repaired_or_kept_said_and_remembered(
    in_code: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x = Written(in_code=in_code).eval(), torch.randn(8, 3, 12, 12)
    pruned = daar.prune(model, x, method="l1", macs_reduction=0.3)
    width = len(pruned.model.get_parameter("two.weight"))
    assert pruned.model.width == (16 if in_code else width)
    assert (width < 16) != in_code
    line = Path(__file__).read_text(encoding="utf-8").splitlines().index(
        "        x = x * x.view(len(x), width, -1).mean(2)[:, :, None, None]"
    ) + 1  # fmt: skip
    [said] = pruned.report.repairs
    assert f"view {__name__}:{line}" in said
    assert said.startswith(f"view {__name__}:" if in_code else f"width (Written) 16 → {width}, the number of channels")
    assert f"the code: {said}" in str(pruned.report)
    plans.save(tmp_path / "plan.json", pruned.plan)
    read = plans.load(tmp_path / "plan.json")
    assert read == pruned.plan
    again = daar.slim_by(Written(in_code=in_code).eval(), x[:1], read)
    again.load_state_dict(pruned.model.state_dict())
    assert torch.equal(again(x), pruned.model(x))
    with pytest.raises(InputError, match=rf"strict: the network's code holds .*view {__name__}:{line}"):
        daar.prune(model, x, method="l1", macs_reduction=0.3, strict=True)


def test_strict_refuses_channels_that_stay_because_of_a_number() -> None:
    class Sliced(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([self.second(self.first(x))[:, :12]] * 2, 1).mean((2, 3)))

    assert daar.prune(Sliced(), images(), method="l1", macs_reduction=0.2).report.frozen.keys() == {"second.0"}
    with pytest.raises(InputError, match=r"strict: .*: a number of channels is written in the code: slice .*\.py:\d+"):
        daar.prune(Sliced(), images(), method="l1", macs_reduction=0.2, strict=True)


def test_strict_takes_what_needs_no_repair() -> None:
    given: dict[str, Any] = {"method": "l1", "macs_reduction": 0.3}
    assert daar.prune(small(), images(), strict=True, **given).plan == daar.prune(small(), images(), **given).plan


def test_the_plan_knows_what_was_excluded_and_patterns_name_many() -> None:
    torch.manual_seed(0)
    model, x = enliven(zoo("resnet18")()), torch.randn(2, 3, 64, 64)
    pruned = daar.prune(model, x, method="l1", macs_reduction=0.3, exclude=["layer?.*.conv1"])
    widths = {layer.name: (layer.filters_dense, layer.filters) for layer in pruned.report.layers}
    assert all(
        (before == after) == name.endswith("conv1") for name, (before, after) in widths.items() if "layer" in name
    )
    assert pruned.plan.exclude == ("layer?.*.conv1",)
    again = daar.slim_by(zoo("resnet18")(), x[:1], pruned.plan)
    again.load_state_dict(pruned.model.state_dict())
    with pytest.raises(InputError, match=r"exclude names 'layer1\.\*\.conv3', but .*; close to it: layer1\..\.conv"):
        daar.prune(model, x, method="l1", exclude=["layer1.*.conv3"])


def test_every_layer_keeps_min_channels() -> None:
    pruned = daar.prune(small(), images(), method="l1", macs_reduction=0.4, min_channels=14)
    assert pruned.report.layers[0].filters >= 14
    with pytest.raises(InputError, match="cannot be reached"):
        daar.prune(small(), images(), method="l1", macs_reduction=0.5, min_channels=16)


def test_the_rows_of_the_report_add_up_to_its_totals() -> None:
    torch.manual_seed(0)
    pruned = daar.prune(enliven(zoo("mobilenet_v3_small")()), torch.randn(2, 3, 64, 64), method="l1")
    table = str(pruned.report).split("\n\n")[1].splitlines()[2:]
    starts = [table[0].index(part) for part in re.findall(r"\S+(?: → \S+)?", table[0])]
    for column, (before, after) in {
        2: (pruned.report.macs_dense, pruned.report.macs),
        3: (pruned.report.params_dense, pruned.report.params),
    }.items():
        end = starts[column + 1] if column + 1 < len(starts) else None
        cells = [row[starts[column] : end].strip() for row in table if not row.startswith(("total", " "))]
        rows = [row for row in cells if re.fullmatch(r"[\d,]+( → [\d,]+)?", row)]
        numbers = [[int(n.replace(",", "")) for n in row.split(" → ")] for row in rows]
        assert (sum(pair[0] for pair in numbers), sum(pair[-1] for pair in numbers)) == (before, after)


def l2(model: nn.Module, batch: Any, layers: list[str], *, power: float = 2.0) -> dict[str, Tensor]:
    assert len(batch.images) == len(batch.labels)
    return {layer: model.get_parameter(f"{layer}.weight").double().pow(power).sum((1, 2, 3)) for layer in layers}


def test_a_function_may_stand_for_a_method() -> None:
    model = small()
    pruned = daar.prune(model, images(), method=l2, options={"power": 4.0})
    assert (pruned.plan.method, pruned.plan.policy) == ("l2", "uniform")
    weight = model.get_parameter("first.0.weight").detach()
    kept = pruned.plan.groups[0].kept
    assert set(kept) == set(weight.pow(4).sum((1, 2, 3)).argsort(descending=True)[: len(kept)].tolist())
    assert daar.prune(model, images(), method=l2, policy="global", exclude=["second"], macs_reduction=0.2).plan
    for method, said in [
        (lambda model, batch: {}, "does not take these arguments: too many positional arguments"),  # noqa: ARG005
        (lambda *_: [], "returns a list; it must be a mapping"),
        (lambda *_: {"first.0": torch.ones(16)}, "scores no layer 'second.0'"),
        (lambda model, batch, layers: dict.fromkeys(layers, torch.ones(3)), r"it must be torch.float32 \(16,\)"),  # noqa: ARG005
        (lambda model, batch, layers: {x: torch.full((n,), torch.nan) for x, n in zip(layers, (16, 24), strict=True)}, "must be finite"),  # noqa: ARG005, E501
    ]:  # fmt: skip
        with pytest.raises(InputError, match=said):
            daar.prune(model, images(), method=method)  # type: ignore[arg-type]


def test_options_of_a_policy_reach_it_whosever_the_scores() -> None:
    given: dict[str, Any] = {"method": "l1", "policy": "adaptive", "macs_reduction": 0.4}
    plain = daar.prune(small(), images(), **given, policy_options={"adjust": False})
    assert plain.report.slim_error <= 1e-10
    assert daar.prune(small(), images(), **given).report.slim_error <= 1e-10


@pytest.mark.parametrize("target", ["macs_reduction", "params_reduction"])
def test_a_policy_without_a_method_plans_with_any_scores(target: str) -> None:
    widths = set()
    for power in (0.0, 1.0):
        given: dict[str, Any] = {target: 0.5, "policy": "erk", "policy_options": {"power": power}}
        pruned = daar.prune(small(), images(), method="l1", **given)
        assert pruned.report.slim_error <= 1e-10
        widths.add(tuple(len(group.kept) for group in pruned.plan.groups))
    assert len(widths) == 2


def test_own_ratios_have_no_options() -> None:
    with pytest.raises(InputError, match=r"own ratios take no options, got 'adjust'. Take policy_options out"):
        daar.prune(small(), images(), method="l1", ratios={"first": 0.5}, policy_options={"adjust": False})


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
    # SqueezeNet's last conv makes the logits, MobileNetV3 has hidden units
    assert pruned.report.frozen.keys() <= {"classifier.1", "classifier.0"}
    assert reduction <= pruned.report.macs_reduction < reduction + 0.03


def test_a_network_of_layer_norms_has_nothing_to_remove_exactly() -> None:
    with pytest.raises(
        InputError,
        match=r"MACs: .* hidden units .*; .*native_layer_norm in features.* Take scope .units. of daar.prune, which",
    ):
        daar.prune(torchvision.models.convnext_tiny(), torch.randn(2, 3, 32, 32), method="l1")


def test_importing_daar_imports_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        getattr(daar, "prun")  # noqa: B009
    assert daar.prune.__module__ == "daar.pruned.once"


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
    name="own_taylor", title="Taylor", citation="x", uses=("images", "labels"), policy="uniform", deviations=()
)


def score(model, batch, layers):
    model.zero_grad()
    F.cross_entropy(model(batch.images.requires_grad_()), batch.labels).backward()
    weights = {layer: model.get_submodule(layer).weight for layer in layers}
    return {layer: (w * w.grad).sum((1, 2, 3)).abs().detach() for layer, w in weights.items()}
"""


def test_a_method_may_use_gradients_in_any_mode_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "own_taylor").mkdir()
    (tmp_path / "own_taylor" / "method.py").write_text(GRADIENTS)
    (tmp_path / "own_taylor" / "rule.smk").touch()
    model, plans = small(), []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            pruned = daar.prune(model, images(), method="own_taylor", methods_dirs=[tmp_path])
        pruned.model(images()).sum().backward()  # and what comes out can be tuned
        plans.append(pruned.plan)
    assert plans[0] == plans[1] == plans[2]
    assert all(parameter.grad is None for parameter in model.parameters())
