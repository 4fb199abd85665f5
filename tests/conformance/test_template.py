"""The template, copied and renamed as docs/adding-a-method.md tells, is a method that holds the contract."""

import re
import shutil
from pathlib import Path

import pytest

from daar.cli.main import main
from daar.conformance import checks
from daar.conformance.checks import Check
from daar.methods import discovery
from daar.storage import bundled
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


CHECKS = checks.of(discovery.read_folder(bundled.BASELINES / "l1"))


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_copy_holds_the_contract(check: Check, folder: Path) -> None:
    check.run(discovery.get(NAME, [folder]))


def test_a_copy_has_the_checks_of_a_method(folder: Path) -> None:
    assert checks.of(discovery.get(NAME, [folder])) == CHECKS


def test_the_command_lists_a_copy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "methods", "--methods-dir", str(folder)])
    assert re.search(rf"^{NAME} +My method \(Author et al\. 2026\)$", capsys.readouterr().out, re.MULTILINE)


def test_the_document_tells_how_to_copy_and_rename() -> None:
    text = DOC.read_text(encoding="utf-8")
    for command in (
        "cp -r baselines/_template baselines/my_bn_scale",
        "grep -n my_method baselines/my_bn_scale/*",
        "pytest tests/conformance -k my_bn_scale",
    ):
        assert command in text
