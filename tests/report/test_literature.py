"""workflow/resources/published_results.csv: every row, by its schema, by itself and by the dense network's size."""

import csv
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daar import models
from daar.data import datasets
from daar.errors import InputError
from daar.methods import discovery
from daar.report import literature
from daar.report.literature import PublishedResult
from daar.storage.schemas import schema

RESULTS = literature.load()
with open(literature.FILE, encoding="utf-8", newline="") as lines:
    RAW = list(csv.DictReader(lines))

# line → (printed, computed) pruned − dense, where a source prints another difference than that of its accuracies
CONTRADICTIONS = {
    **{17: ("-1.75", "-1.73"), 19: ("-0.61", "-0.59"), 20: ("-0.20", "-0.23"), 26: ("-0.06", "-1.06")},
    **{69: ("-0.69", "-0.71"), 139: ("-0.09", "-1.09"), 155: ("-1.21", "-1.15"), 174: ("0.16", "0.06")},
    **{378: ("0.38", "0.24"), 381: ("-5.44", "-5.90"), 388: ("-6.67", "-6.47"), 389: ("-6.47", "-6.27")},
}
# lines whose FLOPs and reduction do not go together
WRONG_REDUCTIONS = {147, 162, 204, 296, 304, 331, 443}
# multiply-accumulates of conv and linear layers: counted in the authors' model code (CIFAR) and in torchvision's
DENSE = {
    **{"resnet20": 40_551_040, "resnet32": 68_862_592, "resnet56": 125_485_696, "resnet56_b": 125_747_840},
    **{"resnet110": 252_887_680, "vgg16_bn": 313_463_808, "densenet40": 282_917_328, "googlenet": 1_521_756_160},
    **{"resnet18": 1_814_073_344, "resnet34": 3_663_761_408, "resnet50": 4_089_184_256, "mobilenet_v2": 300_774_272},
}


def result(**changes: Any) -> PublishedResult:
    """A row of nothing but what is required, and `changes`."""
    blank: dict[str, Any] = dict.fromkeys(schema("published_results")["properties"])
    usual = {"method": "M", "dataset": "CIFAR-10", "our_dataset": "cifar10", "network": "ResNet-56"}
    place = {"our_network": "resnet56", "source_url": "https://example.org/a", "source_kind": "paper"}
    return PublishedResult(**(blank | usual | place | changes))


def find(**cells: str) -> PublishedResult:
    """The one row with these cells."""
    (index,) = [i for i, row in enumerate(RAW) if all(row[name] == cell for name, cell in cells.items())]
    return RESULTS[index]


# the resource


def test_every_row_fits_the_schema() -> None:
    assert len(RESULTS) == 543
    described = schema("published_results")
    assert list(RAW[0]) == described["required"] == list(described["properties"])
    assert not [row for row in RAW if any(cell != cell.strip() for cell in row.values())]


def test_no_row_stands_twice() -> None:
    # a note does not make another result
    cells = [tuple(cell for name, cell in row.items() if name != "note") for row in RAW]
    assert len(set(cells)) == len(cells)


def test_printed_differences_are_those_of_the_accuracies() -> None:
    found = {}
    for line, row in enumerate(RAW, start=2):
        assert bool(row["top1_drop"]) == bool(row["drop_sign"]), line
        if row["baseline_top1"] and row["pruned_top1"] and row["top1_drop"]:
            sign = -1 if row["drop_sign"] == "loss_positive" else 1
            printed, computed = (
                sign * Decimal(row["top1_drop"]),
                Decimal(row["pruned_top1"]) - Decimal(row["baseline_top1"]),
            )
            if abs(printed - computed) > Decimal("0.015"):
                found[line] = (str(printed), str(computed))
                assert any(word in row["note"] for word in ("error in source", "DISAGREES", "printed")), line
    assert found == CONTRADICTIONS
    assert {line for line, one in enumerate(RESULTS, start=2) if one.contradicts_itself} == set(CONTRADICTIONS)


def test_flops_and_their_reduction_go_together() -> None:
    found, checked = set(), 0
    for line, row in enumerate(RAW, start=2):
        if row["our_network"] and row["flops_million"] and row["flops_reduction_pct"]:
            checked += 1
            removed = 100 * (1 - 1e6 * float(row["flops_million"]) / DENSE[row["our_network"]])
            # sources round, and some count BN in the dense network
            if abs(removed - float(row["flops_reduction_pct"])) > 1:
                found.add(line)
                assert f"{float(row['flops_reduction_pct']):g}" in row["note"], line
    assert found == WRONG_REDUCTIONS
    assert checked > 200


def test_our_names_are_ours() -> None:
    for one in RESULTS:
        assert one.our_dataset in datasets.DATASETS
        if one.our_network:
            assert models.get(one.our_network).input_shape == datasets.get(str(one.our_dataset)).shape
            assert models.get(one.our_network).macs == DENSE[one.our_network]
    contenders = {name for name, method in discovery.find().items() if not method.info.get("control", False)}
    # of these no number has been written down yet that was published for a network of ours
    without = {"activation", "apoz", "fisher", "l2", "lamp", "whc"}
    assert contenders - without <= {one.our_method for one in RESULTS}
    assert without <= contenders
    assert ("cifar10", "resnet56") in literature.pairs()
    assert ("digits", "resnet20") not in literature.pairs()


def test_figures_that_the_papers_print() -> None:
    # Li et al. 2017, Table 1: errors 6.96 and 6.94 %, 9.09e7 FLOPs, 27.6 % pruned
    pfec = find(our_method="l1", network="ResNet-56", variant="pruned-B")
    assert (pfec.baseline_top1, pfec.pruned_top1, pfec.flops_million) == (93.04, 93.06, 90.9)
    assert pfec.macs_reduction == pytest.approx(0.276)
    assert pfec.delta == pytest.approx(0.02)
    assert (pfec.tuning_epochs, pfec.selection, pfec.counting) == (40, "best_test", "slim")
    # README of lmbxmu/HRank: 93.17 %, 62.72M, 50.0 %, 0.49M
    hrank = find(method="HRank", network="ResNet-56", source_kind="official_readme")
    assert (hrank.pruned_top1, hrank.flops_million, hrank.params_million) == (93.17, 62.72, 0.49)
    assert (hrank.counting, hrank.delta) == ("masked", None)
    # He et al. 2019, Table 1: 93.59 → 93.49, pre-trained
    fpgm = find(our_method="fpgm", network="ResNet-56", source_kind="paper", finetuned="yes")
    assert (fpgm.baseline_top1, fpgm.pruned_top1, fpgm.printed_delta) == (93.59, 93.49, -0.10)
    # DAAR's abstract names no network
    daar = find(our_method="daar")
    assert (daar.baseline_top1, daar.pruned_top1, daar.network) == (93.5, 93.75, None)
    assert daar.macs_reduction == pytest.approx(0.841)


def test_mixed_and_foreign_rows_have_no_counterpart() -> None:
    mixed = [one for one in RESULTS if one.method == "FPGM" and "mix" in f"{one.variant} {one.note}"]
    assert {one.our_method for one in mixed} == {None}
    assert len(mixed) == 13
    # CIFAR-100's ResNet-18 and -50 are networks of their own
    bench = [one for one in RESULTS if "PruningBench" in (one.variant or "") and one.our_dataset == "cifar100"]
    assert {one.our_network for one in bench} == {None}


# what is computed


def test_delta_by_hand() -> None:
    assert result(baseline_top1=93.0, pruned_top1=92.5).delta == -0.5
    drop = result(top1_drop=0.5, drop_sign="loss_positive")
    change = result(top1_drop=-0.5, drop_sign="loss_negative")
    assert (drop.delta, change.delta, drop.computed_delta, result().delta) == (-0.5, -0.5, None, None)
    both = {"baseline_top1": 93.0, "pruned_top1": 92.5, "drop_sign": "loss_positive"}
    assert not result(**both, top1_drop=0.51).contradicts_itself  # rounding
    assert result(**both, top1_drop=0.52).contradicts_itself
    assert result(**both, top1_drop=0.52).delta == -0.5


def test_macs_reduction_by_hand() -> None:
    assert result(flops_reduction_pct=40.0, speed_up=2.0, flops_million=1.0).macs_reduction == 0.4
    assert result(speed_up=4.0, flops_million=1.0).macs_reduction == 0.75
    # half of 125,485,696
    assert result(flops_million=62.742848).macs_reduction == pytest.approx(0.5)
    for unknown in ({"counting": "masked"}, {"counting": "double"}, {"our_network": None}):
        assert result(flops_million=62.742848, **unknown).macs_reduction is None
    assert result().macs_reduction is None


def test_a_pair_has_its_rows_and_those_without_network() -> None:
    found = literature.of_pair("cifar10", "resnet110")
    assert {one.network for one in found} == {"ResNet-110", None}
    assert [one.our_method for one in found if one.network is None] == ["daar"]
    assert all(one.our_dataset == "cifar10" for one in found)


# damage


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("pruned_top1", "93,4", "pruned_top1: '93,4'"),
        ("pruned_top1", "934", "pruned_top1: 934.0"),
        ("pruned_top1", "nan", "pruned_top1"),
        ("speed_up", "0.5", "speed_up: 0.5"),
        ("year", "2017.5", "year"),
        ("source_kind", "blog", "source_kind: 'blog'"),
        ("source_url", "javascript:alert(1)", "source_url"),
        ("our_method", "L1 (PFEC)", "our_method"),
        ("dataset", "", "dataset"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, column: str, cell: str, said: str) -> None:
    file = tmp_path / "published.csv"
    with open(file, "w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(RAW[0]))
        writer.writeheader()
        writer.writerows([RAW[0], RAW[1] | {column: cell}])
    with pytest.raises(InputError) as caught:
        literature.load(file)
    assert said in str(caught.value)
    assert "line 3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    text = literature.FILE.read_text(encoding="utf-8").splitlines()
    for name, content, said in (
        ("short", "\n".join([text[0], "L1,l1"]), "expected 29 cells"),
        ("long", "\n".join([text[0], text[1] + ",more"]), "expected 29 cells"),
        ("column", "\n".join([text[0].replace("note", "notes"), text[1]]), "notes"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            literature.load(tmp_path / name)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for gone in ("bytes", "nowhere"):
        with pytest.raises(InputError, match=r"in UTF-8|no such file"):
            literature.load(tmp_path / gone)


def test_importing_is_light() -> None:
    code = (
        "import sys; from daar.report import literature; literature.pairs();"
        "heavy = {'torch', 'numpy', 'pandas'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
