"""The functions of the kinds of figures: each draws its own kind, from its own files, by its own code."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
import yaml

from daar.cli.main import main
from daar.report import attention, collect, figures, ledger, page, published, stability, tables
from daar.suite.figures import KINDS
from tests.report.report_files import folder, write_curve, write_importance, write_plan
from tests.report.report_rows import DAAR, L1, RANDOM, csv, frame, named

# kind → what it reads of a setting
READS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("accuracy-macs", "differences", "accuracy-costs"), lambda _: None),
    "pruning-ratios": lambda place: write_plan(place, {"conv1": 8}),
    "tuning-curves": lambda place: write_curve(place, [90.0, 91.0]),
    "rank-correlation": lambda place: write_importance(place.parent, len(str(place))),
    "accuracy-latency": lambda _: None,
}
KIND_FUNCTIONS = {kind: getattr(figures, kind.replace("-", "_")) for kind in KINDS}


def test_all_kinds_have_one_signature() -> None:
    assert set(READS) == set(KINDS)
    assert len({str(inspect.signature(function)) for function in KIND_FUNCTIONS.values()}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_needs_no_other_kind_s_files(tmp_path: Path, kind: str) -> None:
    results = csv(tmp_path, L1, DAAR)  # every row has a latency
    for row in frame(L1, DAAR).to_dict("records"):
        READS[kind](folder(results, row))  # type: ignore[arg-type]
    written = KIND_FUNCTIONS[kind](results, tmp_path / "figures", named(), ("l1", "daar"))
    assert [path.name for path in written] == [f"cifar10-resnet56-{kind}.{ending}" for ending in ("png", "svg")]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in written}


@pytest.mark.parametrize("kind", ["pruning-ratios", "tuning-curves", "rank-correlation", "accuracy-latency"])
def test_what_there_is_nothing_of_is_not_drawn(tmp_path: Path, kind: str) -> None:
    scratch = [row | {"method": "scratch_of"} for row in L1]  # without a plan and a tuning of its own
    untimed = {f"latency_ms_{which}_b{size}": None for which in ("dense", "slim") for size in (1, 128)}
    results = csv(tmp_path, [row | untimed for row in scratch])
    assert KIND_FUNCTIONS[kind](results, tmp_path / "figures", named(), ()) == []
    assert not (tmp_path / "figures").exists()


def names(code: CodeType) -> Iterator[str]:
    """Every name that code refers to, in functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)


def reached(function: FunctionType) -> set[FunctionType]:
    """All functions of the report that one refers to, directly or not; by a module's attribute too."""
    seen, waiting = {function}, [function]
    while waiting:
        one = waiting.pop()
        named = list(names(one.__code__))
        values: list[Any] = [one.__globals__.get(name) for name in named]
        modules = [value for value in values if isinstance(value, ModuleType) and value.__name__.startswith("daar")]
        values += [vars(module).get(name) for module in modules for name in named]
        for value in values:
            is_ours = isinstance(value, FunctionType) and value.__module__.startswith("daar.report")
            if is_ours and value not in seen:
                seen.add(value)
                waiting.append(value)
    return seen


WRITERS = {
    **KIND_FUNCTIONS,
    **{"results": collect.write_results, "tables": tables.write_tables, "ledger": ledger.write_ledger},
    **{"published": published.write_published, "stability": stability.write_stability},
    **{"attention": attention.write_attention, "page": page.write_page},
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_edit_of_one_output_remakes_no_other(name: str) -> None:
    modules = {function.__module__.removeprefix("daar.report.") for function in reached(WRITERS[name])}
    # modules of which only one output may know
    own = {
        **{"pruning-ratios": {"pruning_ratios"}, "tuning-curves": {"tuning_curves"}},
        **{"rank-correlation": {"rank_correlation"}, "accuracy-latency": {"accuracy_latency"}},
        **{"accuracy-macs": {"accuracy_macs", "accuracy_rows"}, "accuracy-costs": {"accuracy_costs"}},
        "differences": {"paired_differences"},
        **{"tables": {"tables", "ablations", "costs", "latex"}, "ledger": {"ledger"}, "stability": {"stability"}},
        **{"attention": {"attention"}, "page": {"page", "page_files", "page_plots", "page_words"}, "results": set()},
        "published": set(),
    }
    others = set().union(*(own[other] for other in own if other != name))
    assert own[name] <= modules
    assert not modules & others


def test_no_kind_refers_to_another() -> None:
    for kind, function in KIND_FUNCTIONS.items():
        others = {other for name, other in KIND_FUNCTIONS.items() if name != kind}
        assert not reached(function) & others


SUITE = {
    **{
        "suite": "paper",
        "datasets": ["digits"],
        "networks": ["resnet20"],
        "macs_reductions": [0.5],
        "seeds": [0, 1, 2],
    },
    **{"finetune": {"epochs": 1}, "methods": ["l1", "random"]},
}


def report(tmp_path: Path, only: str) -> None:
    main(["report", str(tmp_path / "suite.yaml"), "--results", str(tmp_path), "--only", only])


def test_the_command_draws_one_kind_or_those_of_the_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    (tmp_path / "paper").mkdir()
    results = csv(tmp_path / "paper", L1, RANDOM)
    for row in frame(L1, RANDOM).to_dict("records"):
        for write in READS.values():
            write(folder(results, row))  # type: ignore[arg-type]
    report(tmp_path, "tuning-curves")
    drawn = tmp_path / "paper" / "figures"
    assert {path.stem for path in drawn.iterdir()} == {"cifar10-resnet56-tuning-curves"}
    with pytest.raises(SystemExit, match="2"):
        report(tmp_path, "accuracy-latency")
    said = capsys.readouterr().err
    kinds = "accuracy-macs, differences, accuracy-costs, pruning-ratios, tuning-curves, rank-correlation"
    assert f"'paper' has the figures {kinds}" in said
    assert "--only is accuracy-latency" in said
    report(tmp_path, "figures")
    # the rows have latencies, but the suite asks for none
    assert {path.stem.removeprefix("cifar10-resnet56-") for path in drawn.iterdir()} == set(KINDS) - {
        "accuracy-latency"
    }
