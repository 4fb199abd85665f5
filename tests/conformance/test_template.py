"""The template, copied and renamed as docs/adding-a-method.md tells, is a method that holds the contract."""

import inspect
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daar.cli.main import main
from daar.methods import discovery
from daar.storage import bundled
from tests.conformance import test_methods as contract
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

DOC = bundled.ROOT / "docs" / "adding-a-method.md"
TEMPLATE = bundled.ROOT / "baselines" / "_template"
NAME = "fresh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of methods with the copy in it."""
    shutil.copytree(TEMPLATE, tmp_path / NAME)
    renamed = 0
    for file in sorted((tmp_path / NAME).iterdir()):
        text = file.read_text(encoding="utf-8")
        renamed += text.count("my_method")
        file.write_text(text.replace("my_method", NAME), encoding="utf-8")
    assert renamed == 3, "the document and the comments say three places"
    return tmp_path


def cases() -> Iterator[Any]:
    """Every conformance test of a method with its other parameters; the template has neither policy nor explain()."""
    for name, test in vars(contract).items():
        if "policy_of_its_own" in name or "explains" in name:
            continue
        if name.startswith("test_") and "method" in inspect.signature(test).parameters:
            marks = [mark.args for mark in getattr(test, "pytestmark", []) if mark.args[0] != "method"]
            for values in itertools.product(*(values for _, values in marks)):
                given = dict(zip([argument for argument, _ in marks], values, strict=True))
                yield pytest.param(test, given, id="-".join([name.removeprefix("test_"), *map(str, values)]))


@pytest.mark.parametrize(("test", "given"), list(cases()))
def test_a_copy_holds_the_contract(test: Any, given: dict[str, Any], folder: Path, monkeypatch: Any) -> None:
    method = discovery.get(NAME, [folder])
    monkeypatch.setattr(contract, "SCORERS", {**contract.SCORERS, NAME: method})
    test(method=method, **given)


def test_the_contract_was_found() -> None:
    names = {test.values[0].__name__ for test in cases()}
    assert {"test_scores_are_as_the_contract_says", "test_metadata_is_complete_and_as_written"} <= names
    assert len(names) > 10


def test_the_command_lists_a_copy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "methods", "--methods-dir", str(folder)])
    assert re.search(rf"^{NAME} +My method \(Author et al\. 2026\)$", capsys.readouterr().out, re.MULTILINE)


def test_the_document_tells_how_to_copy_and_rename() -> None:
    text = DOC.read_text(encoding="utf-8")
    for command in (
        "cp -r baselines/_template baselines/bn_scale",
        "grep -n my_method baselines/bn_scale/*",
        "pytest tests/conformance -k bn_scale",
    ):
        assert command in text
