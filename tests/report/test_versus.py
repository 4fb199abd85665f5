"""Two suites compared: rows of the same name and target, paired by seed where the dense networks are the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from daar.cli.main import main
from daar.errors import InputError
from daar.report.versus import Side, compare, write_versus
from tests.report.report_rows import DAAR, L1, RANDOM, change, csv, named
from tests.report.test_page import CONTENT, VERSIONS


def side(folder: Path, name: str, *groups: list[dict[str, object]]) -> Side:
    folder = folder / name
    folder.mkdir(parents=True)
    return Side(name, csv(folder, *(change(group, suite=name, versions=VERSIONS) for group in groups)), named())


def test_differences_are_those_of_a_paired_t_test(tmp_path: Path) -> None:
    better = [row | {"top1_tuned": row["top1_tuned"] + gain} for row, gain in zip(L1, (0.1, 0.2, 0.6), strict=True)]
    numbers, _ = compare(side(tmp_path, "a", better, DAAR), side(tmp_path, "b", L1, RANDOM, change(DAAR, target=0.7)))
    (line,) = numbers.to_dict("records")  # DAAR has another target, random is in one suite alone
    assert (line["title"], line["target"], line["n"], line["paired"]) == ("L1", 0.5, 3, True)
    low, high = scipy.stats.t.interval(0.95, 2, 0.3, scipy.stats.sem([0.1, 0.2, 0.6]))
    np.testing.assert_allclose((line["mean"], line["low"], line["high"]), (0.3, low, high))


def test_other_dense_networks_are_not_paired(tmp_path: Path) -> None:
    theirs = side(tmp_path, "b", change(L1, base_sha256="f" * 64, epochs=10))
    paths = write_versus(side(tmp_path, "a", L1), theirs, tmp_path / "tables")
    text = paths[0].read_text()
    assert "0.00 [–] " in text
    assert "No interval: the two suites pruned other dense networks" in text
    assert "Not the same epochs of tuning: 150 (a); 10 (b)." in text
    assert {path.name for path in paths} == {f"versus-b.{ending}" for ending in ("md", "csv", "tex", "html")}


def test_suites_without_common_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should have rows with the same name and target, but have none"):
        write_versus(side(tmp_path, "a", L1), side(tmp_path, "b", RANDOM), tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_the_page_has_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ours", "theirs"):
        side(tmp_path, name, L1, DAAR)
        (tmp_path / f"{name}.json").write_text(json.dumps(CONTENT | {"suite": name}))
    arguments = ["report", str(tmp_path / "ours.json"), "--results", str(tmp_path), "--only"]
    main([*arguments, "page", "--with", str(tmp_path / "theirs.json")])
    whole = (tmp_path / "ours" / "report.html").read_text()
    assert "versus theirs" in whole
    assert "ours &#8722; theirs" in whole
    for wrong, said in (
        (["page", "--with", str(tmp_path / "ours.json")], "--with should name another suite than 'ours'"),
        (["tables", "--with", str(tmp_path / "theirs.json")], "--with adds a table to the page, but --only is tables"),
        (["page", "--with", "paper"], "--with: no results of suite 'paper'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, *wrong])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
