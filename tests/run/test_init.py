"""The folder that `daar init` writes can be run at once, and nothing is overwritten or half written."""

import os
import re
import stat
from collections import Counter
from pathlib import Path

import pytest

from daar.cli.main import main
from daar.errors import InputError
from daar.run import init
from daar.storage.bundled import BASELINES
from daar.suite import reading
from tests.workflow.test_dag import dry_run, expected

TEMPLATES = {
    "methods/my_method": ("_template", {"method.py", "rule.smk", "references.bib"}),
    "methods/my_policy": ("_policy", {"policy.py", "references.bib"}),
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_a_valid_suite_with_the_template_as_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a" / "b"
    main(["init", str(folder)])
    listed = capsys.readouterr().out.splitlines()
    copied = {f"{place}/{name}" for place, (_, names) in TEMPLATES.items() for name in names}
    assert files(folder) == {"suite.yaml", "README.md", *copied}
    assert {str(folder / name) for name in files(folder)} == set(listed[:-1])
    assert listed[-1] == f"Next: cd {folder} && daar run suite.yaml"
    for place, (template, names) in TEMPLATES.items():
        for name in names:
            assert (folder / place / name).read_bytes() == (BASELINES / template / name).read_bytes()

    monkeypatch.chdir(folder)
    suite = reading.load(Path("suite.yaml"))
    assert [variant.method for variant in suite.variants] == ["my_method", "l1", "random"]
    jobs = {rule: count for rule, count in expected(suite).items() if rule not in ("explain", "attention", "total")}
    assert dry_run("--configfile", "suite.yaml", cwd=folder) == {**jobs, "total": sum(jobs.values())}


def test_no_file_is_named_that_only_a_checkout_has(tmp_path: Path) -> None:
    init.write(tmp_path)
    for name in files(tmp_path):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert re.findall(r"\b(?:daar|baselines|docs|workflow)/\S+|\b[\w.]+\.schema\.yaml", text) == [], name


def test_the_policy_that_is_written_can_be_added_to_the_suite_and_passes_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = Path("suite.yaml").read_text()
    assert text.count("# policies:") == 1
    Path("suite.yaml").write_text(text.replace("# policies:", "policies:"))
    settings = reading.load(Path("suite.yaml")).settings
    assert Counter(setting.policy for setting in settings) == {"uniform": 9, "my_policy": 9}
    main(["method", "check", "methods/my_policy"])
    assert "my_policy" in capsys.readouterr().out


def test_an_empty_folder_is_filled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    init.write(Path())
    assert "suite.yaml" in files(tmp_path)
    assert tmp_path.stat().st_ino == before


def test_what_is_written_can_be_edited(tmp_path: Path) -> None:
    init.write(tmp_path / "mine")
    for path in (tmp_path / "mine").rglob("*"):
        assert path.stat().st_mode & stat.S_IWUSR


@pytest.mark.parametrize("is_file", [True, False])
def test_nothing_is_overwritten(tmp_path: Path, is_file: bool, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "taken" if is_file else tmp_path / "taken" / "notes"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["init", str(tmp_path / "taken")])
    err = capsys.readouterr().err
    assert err.startswith("daar: error: ")
    assert err.count("\n") == 1
    assert files(tmp_path) == {str(kept.relative_to(tmp_path))}


@pytest.mark.parametrize("was_there", [True, False])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_there: bool) -> None:
    folder = tmp_path / "mine"
    if was_there:
        folder.mkdir()
    copied = []

    def full(source: Path, target: Path) -> None:
        copied.append(source)
        if len(copied) == 3:
            raise OSError(28, os.strerror(28))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("daar.run.init.shutil.copyfile", full)
    with pytest.raises(InputError, match="No space left on device"):
        init.write(folder)
    assert folder.exists() == was_there
    assert files(tmp_path) == set()
