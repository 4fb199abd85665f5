"""Edits of the present tree: each changes the hash of the stages that it concerns, and of no other.

The expected stages were read off the code: who calls what is edited.
"""

from pathlib import Path

import pytest

from daar.code.sources import Sources
from daar.run import code
from daar.run.code import STAGES
from daar.storage.bundled import ROOT
from tests.code.real_tree import CASES, METHODS, edited, entries, hashes

Edit = tuple[str, str, str, str]  # file, text, what replaces it, the cases whose hash changes

TRAINING = "train train/vgg16_bn finetune scratch"
SCORING = "score score/bn_scale score/daar score/fpgm score/hrank score/random"
PLANNING = "plan plan/adaptive plan/published-fpgm"
# load images of a pack
LOADING = f"{TRAINING} {SCORING} {PLANNING} explain measure record stability"
# build slim networks, or read them
SLIMMING = "finetune latency measure random_at record scratch"
GRAPH = f"{SCORING} {PLANNING} {SLIMMING} explain stability"
FIGURES = "figure_accuracy_latency figure_accuracy_macs figure_pruning_ratios figure_rank_correlation"
FIGURES = f"{FIGURES} figure_tuning_curves figure_differences figure_accuracy_costs"
LITERATURE = "figure_accuracy_macs ledger published"
L1 = "score stability"
DAAR = "explain score/daar"

_PACK: list[Edit] = [
    ("daar/data/splits.py", "free & ~masks[name]", "free & masks[name]", "pack"),
    ("daar/data/own/images.py", "wide / 257", "wide / 256", "pack_own"),
    ("daar/data/decoding.py", "_RESIZE = 256 / 224", "_RESIZE = 1.0", LOADING),  # a pack holds the files as they are
]
_TRAINING: list[Edit] = [
    ("daar/training/engine.py", "100 * right_in_all /", "1000 * right_in_all /", TRAINING),
    # tables and page hold a Recipe in their Context
    ("daar/training/recipe.py", "self.lr * self.gamma **", "self.lr / self.gamma **", f"{TRAINING} page tables"),
    ("daar/training/steps.py", "_WARM_UP = 3", "_WARM_UP = 4", TRAINING),
    ("daar/training/losses.py", "recipe.temperature**2 * soft", "recipe.temperature * soft", TRAINING),
    ("daar/training/recalibrate.py", "batch_size: int = 128", "batch_size: int = 64", "finetune"),
    ("daar/training/budget.py", "train.epochs + tuning_epochs\n", "train.epochs - tuning_epochs\n", "scratch"),
    ("daar/data/augmentation.py", "2 * padding + 1", "2 * padding", TRAINING),
    (
        *("daar/device/distributed.py", "dist.all_reduce(values)", "dist.all_reduce(values + 0)"),
        f"{TRAINING} measure record",
    ),
    ("daar/models/vgg_cifar.py", "width, 3, padding=1", "width, 3, padding=2", "train/vgg16_bn"),
    (
        *("daar/models/resnet_cifar.py", "self.bn2(self.conv2(out))", "self.conv2(out)"),
        f"train import_weights {SCORING} {PLANNING} random_at finetune scratch record stability explain",
    ),
    ("daar/checkpoint/foreign.py", 'COUNTER = "num_batches_tracked"', 'COUNTER = "n"', "import_weights"),
]
_SCORING: list[Edit] = [
    ("baselines/l1/method.py", "sum(dim=(1, 2, 3))", "mean(dim=(1, 2, 3))", L1),
    ("baselines/fpgm/method.py", ".sum(dim=1)", ".mean(dim=1)", "score/fpgm"),
    ("baselines/hrank/method.py", "dtype=torch.float64", "dtype=torch.float32", "score/hrank"),
    ("baselines/random/method.py", "name[:7]", "name[:6]", "score/random"),
    ("baselines/bn_scale/method.py", "norm.weight.abs()", "norm.weight", "score/bn_scale"),
    ("daar/method/attention.py", "attention.norm(dim=2)", "attention.norm(dim=1)", DAAR),
    ("daar/method/boundary.py", "area * area >= sizes[0]", "area * area > sizes[0]", DAAR),
    # filters(): of the methods that read weights, and random, which counts them
    (
        "daar/api.py",
        "weights.filters(model, layer).detach()",
        "weights.filters(model, layer)",
        f"{L1} score/fpgm score/random",
    ),
    # outgoing(): DAAR's alone
    ("daar/api.py", "(weight).flatten(2).sum(dim=2)", "(weight).flatten(2).mean(dim=2)", DAAR),
    # of both
    ("daar/pruning/weights.py", "turned[: len(about.outputs)]", "turned", f"{L1} score/fpgm score/random {DAAR}"),
    ("daar/pruning/scoring.py", 'chosen["seed"] = seed', 'chosen["seed"] = 0', f"{SCORING} explain stability"),
    (
        *("daar/data/calibration.py", "torch.float32) / 255", "torch.float32) / 256"),
        f"{SCORING} {PLANNING} explain finetune scratch stability",
    ),
    (
        *("daar/device/randomness.py", "digest()[:7]", "digest()[:8]"),
        f"{TRAINING} {SCORING} {PLANNING} explain random_at stability",
    ),
    # written by explain, read by attention
    ("daar/storage/explanation.py", "FORMAT = 1", "FORMAT = 2", "attention explain"),
]
_PLANNING: list[Edit] = [
    # stability plans at uniform widths
    ("daar/pruning/policies.py", "for _ in range(60)", "for _ in range(50)", f"{PLANNING} stability"),
    ("daar/pruning/policies.py", "-threshold) for g in groups}", "threshold) for g in groups}", PLANNING),
    ("daar/method/rates.py", "STEPS = 8", "STEPS = 9", "plan/adaptive"),
    ("daar/pruning/published_ratios.py", "size - math.floor(size * ratio)", "math.ceil(size - ratio)", PLANNING),
    ("workflow/resources/published_ratios/fpgm.yaml", "[[0.4], 19]", "[[0.5], 19]", "plan/published-fpgm"),
    ("daar/pruning/importance.py", "-np.arange(len", "np.arange(len", f"{PLANNING} random_at stability"),
    ("daar/pruning/importance.py", "share / share.sum() if", "share * share.sum() if", f"{PLANNING} stability"),
    (
        "daar/pruning/rounding.py",
        "-(-group.min_kept //",
        "(group.min_kept //",
        f"{PLANNING} stability",
    ),
    ("daar/pruning/random_at.py", "dtype=torch.float64", "dtype=torch.float32", "random_at"),
    (
        *("daar/pruning/closed_form.py", "read.at(counts) // groups", "read.at(counts) / groups"),
        f"{PLANNING} finetune measure random_at record scratch stability",
    ),
    # plans mask channels for the calibration loss
    ("daar/pruning/masked_suffix.py", "min(masks)", "max(masks)", PLANNING),
    ("daar/pruning/masked.py", "value * left.to(value)", "value + left.to(value)", f"{PLANNING} finetune scratch"),
    ("daar/pruning/rules/images.py", "np.repeat(here, math.prod", "np.tile(here, math.prod", GRAPH),
    ("daar/program/recording.py", "tuple(value.shape), tuple", "tuple(value.size()), tuple", GRAPH),
    ("daar/pruning/rules/layers.py", "* math.prod(shape[2:])", "* sum(shape[2:])", GRAPH),
]
_MEASURING: list[Edit] = [
    ("daar/pruning/lockstep.py", "<= self._tolerance *", "<= 2 * self._tolerance *", "finetune scratch"),
    ("daar/pruning/proof.py", "torch.float64, 1e-10", "torch.float64, 1e-9", "finetune scratch"),
    ("daar/pruning/attributes.py", "== old != new", "== old", SLIMMING),
    ("daar/measure/accuracy.py", "CPU_BATCH, BATCH = 100", "CPU_BATCH, BATCH = 50", f"{TRAINING} measure record"),
    ("daar/measure/macs.py", "return flops // 2", "return flops", "latency measure record"),
    ("daar/measure/macs.py", "parameter.numel() for", "parameter.dim() for", "latency measure record"),
    ("daar/measure/latency.py", "WINDOW_SECONDS = 0.2", "WINDOW_SECONDS = 0.3", "latency"),
    ("daar/stages/record.py", '1 - slim_sizes["macs"] / dense', 'slim_sizes["macs"] / dense', "record"),
    ("daar/stages/scratch.py", 'return "from_scratch" in', 'return "scratch" in', "record"),
    ("daar/stages/stability.py", "/ len(set(one) | set(other))", "/ len(set(one))", "stability"),
]
_REPORTS: list[Edit] = [
    ("daar/report/collect.py", "_BATCHES = (1, 128)", "_BATCHES = (1, 64)", f"collect ledger page tables {FIGURES}"),
    ("daar/report/fairness.py", "<= allowed + 1e-9", "<= allowed + 1e-6", f"ledger page tables {FIGURES}"),
    (
        *("daar/report/statistics.py", "statistics.stdev(numbers)", "statistics.pstdev(numbers)"),
        "figure_accuracy_costs figure_accuracy_latency figure_accuracy_macs figure_differences ledger page tables",
    ),
    # intervals are only in what compares
    ("daar/report/statistics.py", "(1 + CONFIDENCE) / 2", "CONFIDENCE", "figure_differences ledger page tables"),
    ("daar/report/drawing.py", "PNG_DPI = 200", "PNG_DPI = 100", f"{FIGURES} attention stability_report"),
    ("daar/report/accuracy_macs.py", "height_ratios=(3, 2)", "height_ratios=(2, 2)", "figure_accuracy_macs"),
    ("daar/report/accuracy_rows.py", "_TWICE = 14", "_TWICE = 15", "figure_accuracy_macs"),
    ("daar/report/accuracy_costs.py", "_RANGE = 20", "_RANGE = 30", "figure_accuracy_costs"),
    ("daar/report/paired_differences.py", "_TITLE_INCHES = 0.32", "_TITLE_INCHES = 0.3", "figure_differences"),
    ("daar/report/accuracy_latency.py", "_PANEL_INCHES = 1.6", "_PANEL_INCHES = 1.7", "figure_accuracy_latency"),
    ("daar/report/pruning_ratios.py", '1 - len(group["kept"])', 'len(group["kept"])', "figure_pruning_ratios"),
    ("daar/report/rank_correlation.py", "norms == 0", "norms == 1", "figure_rank_correlation"),
    ("daar/report/tuning_curves.py", "_FEW = 20", "_FEW = 21", "figure_tuning_curves"),
    ("daar/report/latex.py", r"0.22\textwidth", r"0.23\textwidth", "tables"),
    ("daar/report/costs.py", "100 else 0}f}", "200 else 0}f}", "tables"),
    ("daar/report/ledger.py", "TOLERANCE = 0.5", "TOLERANCE = 0.6", "ledger"),
    ("daar/report/literature.py", "_ROUNDING = 0.015", "_ROUNDING = 0.02", LITERATURE),
    ("workflow/resources/published_results.csv", "pruned-A,93.25", "pruned-A,93.24", LITERATURE),
    ("daar/report/attention.py", "_COLUMNS = 8", "_COLUMNS = 9", "attention"),
    ("daar/report/templates/page.css", "max-width: 88rem", "max-width: 77rem", "page"),
]
_SCHEDULES: list[Edit] = [
    ("daar/stages/soft.py", "= 0\n            bias", "= 1\n            bias", "schedule"),
    ("daar/stages/rounds.py", 'derive("step",', 'derive("round",', "schedule"),
    ("daar/training/schedules.py", "total * part // number", "total * part / number", "schedule"),
    ("daar/stages/schedule.py", '"options", "epochs", "macs")', '"options", "epochs")', "record_scheduled"),
]
EDITS = [*_PACK, *_TRAINING, *_SCORING, *_PLANNING, *_MEASURING, *_SCHEDULES, *_REPORTS]


@pytest.fixture(scope="module")
def read(tree: Path) -> Sources:
    """Sources that have read the whole copy."""
    sources = Sources(tree)
    hashes(sources)
    return sources


def all_but(read: Sources, file: Path) -> Sources:
    """Sources that need to read only one file again: an edit there changes no other file's canonical forms."""
    sources = Sources(read.root)
    sources._modules = {path: module for path, module in read._modules.items() if path != file}
    sources._canonical = {one: form for one, form in read._canonical.items() if one.file != file}
    return sources


def concerned(cases: str) -> set[str]:
    """The cases of an edit: a schedule scores, plans and tunes by the same code, and its record is one like others."""
    named = set(cases.split())
    also = {"schedule": {"score", "plan", "finetune"}, "record_scheduled": {"record"}}
    return named | {stage for stage, does in also.items() if named & does}


@pytest.mark.parametrize(("name", "old", "new", "cases"), EDITS, ids=[f"{edit[0]}: {edit[1]}" for edit in EDITS])
def test_an_edit_changes_the_hashes_of_the_stages_that_it_concerns(
    tree: Path, read: Sources, before: dict[str, str], name: str, old: str, new: str, cases: str
) -> None:
    file = tree.resolve() / name
    with edited(file, old, new):
        after = hashes(all_but(read, file))
    assert {case for case in CASES if after[case] != before[case]} == concerned(cases)


def test_every_stage_is_edited() -> None:
    assert set(STAGES) <= {case for edit in EDITS for case in concerned(edit[3])}


def test_no_two_stages_have_one_hash(before: dict[str, str]) -> None:
    assert len(set(before.values())) == len(before)


def test_the_copy_has_the_hashes_of_the_tree_that_runs(before: dict[str, str]) -> None:
    for name, case in CASES.items():
        given = code.of(case.stage, network=case.network, method=METHODS[case.method], policy=case.policy)
        assert given == before[name], name


def test_a_setting_counts_by_its_network_method_and_policy_s_code(read: Sources, before: dict[str, str]) -> None:
    """The table against the entries written out."""
    for name, case in CASES.items():
        files = [read.root / file.relative_to(ROOT) for path in STAGES[case.stage].data for file in _files(path)]
        if case.policy == "published-fpgm":
            files.append(read.root / "workflow" / "resources" / "published_ratios" / "fpgm.yaml")
        assert read.code_hash(entries(case, read.root), files) == before[name], name


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.iterdir())
