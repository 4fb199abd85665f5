"""The papers' own ratios: against the MACs that the papers print, each counted by that paper's rule."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from daar import models
from daar.code.sources import Sources
from daar.errors import InputError
from daar.methods import discovery
from daar.pruning import policies, published_ratios
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from daar.pruning.slim import slim
from daar.report import fairness
from daar.run import code
from daar.stages.plan import plan
from daar.stages.score import score
from daar.storage import bundled
from daar.suite import definition, reading
from tests.networks import one_thread  # noqa: F401  # it acts on this module

ROOT = Path(__file__).resolve().parents[2]
IMAGE = torch.zeros(1, 3, 32, 32)
ENTRIES = [(key, network) for key, ratios in published_ratios.find().items() for network in ratios.networks]
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_SIDES = (32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2)


def built(network: str) -> tuple[nn.Module, ChannelGraph]:
    model = models.get(network).build(10).eval()
    return model, channel_graph(model, IMAGE)


def planned(graph: ChannelGraph, key: str, network: str, scope: str, target: float | None = None) -> Plan:
    scores = {layer: torch.rand(len(graph.layers[layer].outputs)) for layer in graph.scored_layers()}
    policy = policies.get(key, network=network)
    usual: dict[str, Any] = {"options": {}, "method": "random", "policy_name": key}
    return make_plan(graph, scores, policy, loss=lambda _: 0.0, scope=scope, target=target, **usual)


# the papers' figures, from the data files


def ratios_of(key: str, network: str) -> list[Fraction]:
    """Read the file anew: run by run, then the layers to be skipped."""
    file = ROOT / "workflow" / "resources" / "published_ratios" / f"{key}.yaml"
    entry = yaml.safe_load(file.read_text())["networks"][network]
    ratios = [Fraction(str(ratio)) for pattern, times in entry["runs"] for _ in range(times) for ratio in pattern]
    return [Fraction(0) if layer in entry.get("skip", ()) else ratio for layer, ratio in enumerate(ratios, start=1)]


def blocks(ratios: list[Any]) -> Iterator[tuple[int, int, int, Any, Any]]:
    """For each block of a CIFAR ResNet: stage, width, side, and what belongs to its two convs; conv1 comes first."""
    per_stage = (len(ratios) - 1) // 6
    for block in range(3 * per_stage):
        stage = block // per_stage
        yield stage, 16 << stage, 32 >> stage, ratios[1 + 2 * block], ratios[2 + 2 * block]


@pytest.mark.parametrize(
    ("key", "network", "printed"),
    [
        ("published-pfec-a", "vgg16_bn", 206),
        ("published-pfec-a", "resnet56", 112),
        ("published-pfec-a", "resnet110", 213),
        ("published-pfec-b", "resnet56", 90.9),
        ("published-pfec-b", "resnet110", 155),
    ],
)
def test_pfec_really_slim_has_the_printed_macs(key: str, network: str, printed: float) -> None:
    model, graph = built(network)
    made = planned(graph, key, network, "inner")
    thin = slim(model, graph, made.removed(graph))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        thin(IMAGE)
    # "1.12 × 10⁸": the paper rounds to three digits
    assert round(counter.get_total_flops() / 2e6, 1 if printed == 90.9 else 0) == printed
    # only first convs of blocks were pruned, so the other scope changes nothing
    assert planned(graph, key, network, "all").macs == made.macs == counter.get_total_flops() // 2


def hrank(network: str, inputs: str) -> int:
    """MACs of HRank's masked ResNets, pruned = int(p·c): all inputs, or of the second convs only those kept."""
    ratios = ratios_of("hrank", network)
    total = 27 * 32 * 32 * (16 - math.floor(16 * ratios[0])) + 640
    read = 16
    for _, width, side, first, second in blocks(ratios):
        middle, out = (width - math.floor(width * ratio) for ratio in (first, second))
        total += 9 * side * side * (read * middle + (width if inputs == "all" else middle) * out)
        read = width
    return total


@pytest.mark.parametrize(
    ("network", "all_inputs", "kept_inputs", "really_slim"),
    [("resnet56", 62.72, 48.4, 65.07), ("resnet110", 156.90, 126.9, 156.91)],
)
def test_hrank_by_three_rules(network: str, all_inputs: float, kept_inputs: float, really_slim: float) -> None:
    """The table of docs/protocol.md. HRank's own rule gives what the paper prints."""
    assert hrank(network, "all") / 1e6 == pytest.approx(all_inputs, abs=0.02)
    assert hrank(network, "kept") / 1e6 == pytest.approx(kept_inputs, abs=0.06)
    _, graph = built(network)
    macs = {scope: planned(graph, "published-hrank", network, scope).macs for scope in ("inner", "all")}
    assert macs["inner"] / 1e6 == pytest.approx(really_slim, abs=0.006)
    row = next(line for line in (ROOT / "docs" / "protocol.md").read_text().splitlines() if f"`{network}`" in line)
    figures = [hrank(network, "all"), hrank(network, "kept"), macs["inner"], macs["all"]]
    assert re.findall(r"[\d.]+(?= M)", row) == [f"{figure / 1e6:.1f}" for figure in figures]


@pytest.mark.parametrize(("key", "printed"), [("hrank", 108.61), ("hrank-2019", 145.61)])
def test_hrank_s_vgg_has_the_printed_macs_only_with_conv13_pruned_and_fractional_filters(
    key: str, printed: float
) -> None:
    """The code prunes no conv13; the printed pair counts it at its neighbour's ratio, and no linear layers."""
    ratios = ratios_of(key, "vgg16_bn")
    assert ratios[12] == 0
    ratios[12] = ratios[11]
    reads = (3, *VGG_WIDTHS)
    total = sum(
        9 * side * side * read * width * (1 - ratio)
        for side, read, width, ratio in zip(VGG_SIDES, reads, VGG_WIDTHS, ratios, strict=False)
    )
    assert float(total) / 1e6 == pytest.approx(printed, abs=0.02)


@pytest.mark.parametrize(
    ("key", "network", "printed"),
    [
        *(("hrankplus-low", "resnet56", 90.35), ("hrankplus-low", "resnet110", 140.54)),
        *(("hrankplus-mid", "resnet56", 65.94), ("hrankplus-high", "resnet56", 34.78)),
        ("hrankplus-high", "resnet110", 71.69),
    ],
)
def test_hrankplus_s_resnets_have_the_printed_macs(key: str, network: str, printed: float) -> None:
    """Its models are really slim, the stem's channels apart from the stream's; thop adds two for each BN output."""
    ratios = ratios_of(key, network)
    read = math.floor(16 * (1 - ratios[0]))
    total = (27 + 2) * 32 * 32 * read + 640
    for _, width, side, first, second in blocks(ratios):
        middle, out = (math.floor(width * (1 - ratio)) for ratio in (first, second))
        total += side * side * (9 * (read * middle + middle * out) + 2 * (middle + out))
        read = out
    assert f"{total / 1e6:.2f}" == f"{printed:.2f}"


@pytest.mark.parametrize(
    ("key", "printed"), [("hrankplus-low", 131.17), ("hrankplus-mid", 104.78), ("hrankplus-high", 66.95)]
)
def test_hrankplus_s_vggs_have_the_printed_macs(key: str, printed: float) -> None:
    """Thop adds two for each BN output and one for each bias of a conv."""
    kept = [
        math.floor(width * (1 - ratio)) for width, ratio in zip(VGG_WIDTHS, ratios_of(key, "vgg16_bn"), strict=True)
    ]
    total = 512 * 512 + 512 * 10 + 2 * 512
    for side, read, made in zip(VGG_SIDES, (3, *kept), kept, strict=False):
        total += side * side * made * (9 * read + 2 + 1)
    assert f"{total / 1e6:.2f}" == f"{printed:.2f}"


@pytest.mark.parametrize(("network", "printed"), [("resnet56", 59.4), ("resnet110", 120.6)])
def test_fpgm_has_the_printed_macs_only_with_fractional_filters(network: str, printed: float) -> None:
    """functions/cal_flop.py: a share 1 - p of every width; a block's input whole, but that of the first block."""
    kept = 1 - ratios_of("fpgm", network)[5]
    total, read = 27 * 32 * 32 * 16 * kept, 16 * kept
    for _, width, side, first, second in blocks(ratios_of("fpgm", network)):
        assert first == second == 1 - kept
        total += 9 * side * side * (read * width * kept + width * kept * width * kept)
        read = Fraction(width)
    assert float(total) / 1e6 == pytest.approx(printed, abs=0.5)


# counts


@pytest.mark.parametrize(("key", "network"), ENTRIES)
def test_every_entry_fits_its_network(key: str, network: str) -> None:
    """One ratio per conv in the order of execution; pruned groups keep at least their minimum."""
    _, graph = built(network)
    convs = [name for name, layer in graph.layers.items() if layer.kind == "conv"]
    assert published_ratios._convs(network) == convs
    assert published_ratios.find()[key].networks[network] == tuple(ratios_of(key.removeprefix("published-"), network))
    ratio_of = dict(zip(convs, published_ratios.find()[key].networks[network], strict=True))
    inner, everywhere = (planned(graph, key, network, scope) for scope in ("inner", "all"))
    assert {g.name for g in inner.groups} == {g.name for g in graph.groups if not g.joins}
    kept = {g.name: len(g.kept) for g in everywhere.groups}
    assert kept | {g.name: len(g.kept) for g in inner.groups} == kept  # the scopes differ in the streams alone
    for group in graph.in_scope("all"):
        # a stream's mean lies between its members' extremes
        ratios = [ratio_of[member] for member in group.members]
        assert group.min_kept <= kept[group.name] <= max(group.min_kept, math.ceil(group.size * (1 - min(ratios))))
        assert kept[group.name] >= math.floor(group.size * (1 - max(ratios)))


def test_a_stream_takes_its_members_mean_ratio() -> None:
    """HRank's ResNet-56 by hand.

    Stage 1: conv1 0.1 and nine times 0.6, mean 0.55, of 16 filters int(8.8) go. Stage 2: eight times 0.6 and 0, mean
    8/15, of 32 int(17.07). Stage 3: three times 0.6 and six times 0.4, mean 7/15, of 64 int(29.87).
    """
    _, graph = built("resnet56")
    kept = {g.name: len(g.kept) for g in planned(graph, "published-hrank", "resnet56", "all").groups}
    assert (kept["conv1"], kept["layer2.0.conv2"], kept["layer3.0.conv2"]) == (16 - 8, 32 - 17, 64 - 29)
    assert kept["layer1.0.conv1"] == 16 - 9


def test_the_skipped_layers_of_pfec() -> None:
    """Layer 16 is the first conv of the eighth block: conv1 is layer 1, each block has two."""
    _, graph = built("resnet56")
    kept = {g.name: len(g.kept) for g in planned(graph, "published-pfec-b", "resnet56", "inner").groups}
    whole = {name for name, count in kept.items() if count in (16, 32, 64)}
    assert whole == {f"layer{place}.conv1" for place in ("1.7", "1.8", "2.0", "2.7", "3.0", "3.8")}
    assert (kept["layer1.0.conv1"], kept["layer2.1.conv1"], kept["layer3.1.conv1"]) == (6, 22, 57)


@pytest.mark.parametrize(
    ("size", "ratio", "by_kept", "by_pruned"),
    [(16, "0.6", 6, 7), (64, "0.1", 57, 58), (512, "0.5", 256, 256), (100, "0.29", 71, 71), (10, "0.7", 3, 3)],
)
def test_rounding(size: int, ratio: str, by_kept: int, by_pruned: int) -> None:
    """0.29 × 100 is 28.999… in binary; a ratio means what is printed."""
    found = [
        published_ratios.Ratios(Path("x"), "x", "x", rule, {}).kept(size, Fraction(ratio))
        for rule in ("floor_kept", "floor_pruned")
    ]
    assert found == [by_kept, by_pruned]


# files


def entry(**changes: Any) -> dict[str, Any]:
    content = {
        "title": "Mine",
        "source": {"paper": "Me, 2026", "citation": "me2026", "where": "https://example.org"},
        "rounding": "floor_kept",
        "networks": {"resnet20": {"runs": [[[0.98], 19]]}},
    }
    return {**content, **changes}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(published_ratios, "FOLDER", tmp_path)
    published_ratios.load.cache_clear()
    yield lambda content: (tmp_path / "mine.yaml").write_text(
        content if isinstance(content, str) else yaml.safe_dump(content)
    )
    published_ratios.load.cache_clear()


def test_the_least_that_stays_holds(write: Any) -> None:
    write(entry())
    _, graph = built("resnet20")
    assert "Mine: resnet20; from https://example.org" in policies.names()["published-mine"]
    kept = [len(g.kept) for g in planned(graph, "published-mine", "resnet20", "all").groups]
    assert kept == [group.min_kept for group in graph.in_scope("all")]


def test_the_first_and_the_last_layer_may_be_skipped(write: Any) -> None:
    write(entry(networks={"resnet20": {"runs": [[[0.5, 0.25], 9], [[0.75], 1]], "skip": [1, 19]}}))
    found = published_ratios.find()["published-mine"].networks["resnet20"]
    assert found == (0, *[Fraction(1, 4), Fraction(1, 2)] * 8, Fraction(1, 4), 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("title: [", "is not YAML"),
        (b"\xff\xfe\x00".decode("latin-1"), "is not YAML"),
        ("", "is not of type 'object'"),
        (entry(rounding="nearest"), "rounding: 'nearest' is not one of .*how the source makes a count"),
        (entry(ratio=0.5), "'ratio' was unexpected.*known keys are networks, rounding"),
        (entry(networks={}), "networks: "),
        (entry(networks={"resnet20": {"runs": [[[1.0], 19]]}}), r"runs\[0\]\[0\]\[0\].*1.0.*fraction of the filters"),
        (entry(networks={"resnet20": {"runs": [[[0.5]]]}}), r"runs\[0\]"),
        (entry(networks={"resnet20": {"runs": [[[0.5], 0]]}}), "how many times in turn"),
        (entry(networks={"resnet20": {"runs": [[[0.5], 19]], "skip": [20]}}), "skip names layer 20; there are 19"),
        (entry(source={"paper": "x", "citation": "x", "where": "somewhere"}), "where"),
        (entry(networks={"resnet20": {"runs": [[[0.5], 18]]}}), "has 18 ratios; the network has 19 convs"),
    ],
)
def test_a_damaged_file_is_named(write: Any, content: Any, said: str) -> None:
    write(content)
    with pytest.raises(InputError, match=said) as error:
        policies.get("published-mine", network="resnet20")
    assert "mine.yaml" in str(error.value)
    assert str(error.value).endswith("Restore it from git.")
    assert "\n" not in str(error.value)


def test_files_name_networks_and_papers_that_there_are() -> None:
    files = [ratios.file for ratios in published_ratios.find().values()]
    assert files == sorted(files)
    keys = set(re.findall(r"@\w+\{(\w+),", "".join(f.read_text() for f in ROOT.glob("baselines/*/references.bib"))))
    for ratios in published_ratios.find().values():
        assert set(ratios.networks) <= set(models.NETWORKS)
        assert yaml.safe_load(ratios.file.read_text())["source"]["citation"] in keys, ratios.file


def test_a_plan_is_made_again_when_its_ratios_change_and_not_for_a_comment(write: Any) -> None:
    def plan_code() -> str:
        published_ratios.load.cache_clear()
        code._of_policy.cache_clear()
        return code.of("plan", policy="published-mine", sources=Sources(bundled.ROOT))

    write(entry())
    before = plan_code()
    write("# a comment\n" + yaml.safe_dump(entry(), indent=4))
    assert plan_code() == before
    write(entry(networks={"resnet20": {"runs": [[[0.9], 19]]}}))
    assert plan_code() != before


def test_the_stage_takes_the_network_s_name_from_its_checkpoint(tmp_path: Path, dense: Path, digits: Path) -> None:
    method, device, scores = discovery.get("l1"), torch.device("cpu"), tmp_path / "importance.safetensors"
    given: dict[str, Any] = {"base": dense, "method": method, "options": {}, "packs": digits, "seed": 0, "images": 16}
    score(**given, out=scores, device=device)
    out = tmp_path / "plan.json"
    plan(**given, scores=scores, policy="published-fpgm", scope="inner", target=None, out=out, device=device)
    written = json.loads(out.read_text())
    assert (written["policy"], written["target"]) == ("published-fpgm", None)
    # of 16, 32 and 64 filters int(0.4 c) go
    assert {len(group["kept"]) for group in written["groups"]} == {10, 20, 39}


# bad input


def test_a_target_is_refused() -> None:
    _, graph = built("resnet56")
    with pytest.raises(InputError, match=r"policy 'published-hrank' has its own ratios. Leave the target out"):
        planned(graph, "published-hrank", "resnet56", "all", target=0.5)


@pytest.mark.parametrize("network", ["resnet20", "resnet56_b", "resnet57"])
def test_a_network_without_ratios_is_refused_and_those_there_are_named(network: str) -> None:
    with pytest.raises(InputError, match=f"no ratios for network '{network}'; it has them for: resnet56, resnet110"):
        policies.get("published-pfec-b", network=network)


def test_a_network_without_a_name_is_told_to_give_the_ratios() -> None:
    """As a model in Python is: it cannot choose one of those names."""
    with pytest.raises(
        InputError, match=r"by name \(resnet56, resnet110\), .* Give the ratios themselves: ratios='\[0"
    ):
        policies.get("published-pfec-b", network=None)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown policy 'published-pfec-c'; there are: .*published-pfec-b"):
        policies.get("published-pfec-c", network="resnet56")


def make_suite(**changes: Any) -> definition.Suite:
    content = {
        **{"suite": "small", "datasets": ["cifar10"], "networks": ["resnet56"], "methods": ["l1"], "seeds": [0]},
        **{"policies": ["published-pfec-b"], "macs_reductions": [None], "finetune": {"epochs": 1}},
    }
    return reading.from_config({**content, **changes}, "here")


def test_suites_are_refused_before_anything_runs() -> None:
    assert make_suite().settings[0].path == "cifar10/resnet56/seed0/l1/published-pfec-b-all-own"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"macs_reductions": [0.5]}, r"here: policy 'published-pfec-b' has its own ratios.*macs_reductions: \[null\]"),
        (
            {"networks": ["resnet56", "vgg16_bn"]},
            r"here: policy 'published-pfec-b' has no ratios for network 'vgg16_bn'",
        ),
        ({"policies": ["global"]}, "here: policy 'global' has no rate of its own. Give a target"),
        ({"policies": ["published"]}, "unknown policy in here 'published'; there are: .*published-hrank"),
    ]
    for changes, said in cases:
        with pytest.raises(InputError, match=said):
            make_suite(**changes)


def test_tables_take_them_for_own_ratios() -> None:
    rows = pd.DataFrame({"policy": ["published-pfec-b", "uniform", "adaptive"], "target": [0.5, 0.5, float("nan")]})
    assert fairness.own_ratios(rows).tolist() == [True, False, True]


def test_importing_is_light() -> None:
    code = (
        "import sys; from daar.pruning import published_ratios; published_ratios.find();"
        "heavy = {'torch', 'numpy'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
