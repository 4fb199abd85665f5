import subprocess
from pathlib import Path

import pytest

from daar.storage import provenance


def test_environment_says_where_a_number_was_made() -> None:
    environment = provenance.environment()
    assert environment["versions"]["torch"].startswith("2.")
    assert environment["hardware"]["cores"] >= 1
    assert environment["hardware"]["cpu"]
    assert environment["threads"] >= 1


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where daar is installed within someone else's checkout, their commit says nothing about it."""
    assert len(str(provenance.commit()).partition("+")[0]) == 40
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() is None


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit, in place of ours."""
    for name in ("daar/a.py", "baselines/l1/method.py", "workflow/config/demo.yaml", "docs/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("daar/a.py", True),
        ("daar/new.py", True),
        ("baselines/mine/method.py", True),
        ("workflow/rules/new.smk", True),
        ("workflow/config/demo.yaml", False),
        ("workflow/config/mine.yaml", False),
        ("docs/a.md", False),
        ("results/demo/record.json", False),
    ],
)
def test_a_commit_says_whether_all_code_is_in_it(checkout: Path, name: str, counts: bool) -> None:
    assert len(str(provenance.commit())) == 40
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("2\n")
    assert str(provenance.commit()).endswith("+changes") == counts


def test_a_method_from_elsewhere_is_in_no_commit(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    commit = provenance.commit()
    own, new = checkout / "baselines/l1/method.py", checkout / "baselines/mine/method.py"
    outside = tmp_path_factory.mktemp("methods") / "method.py"
    for file in (new, outside):
        file.parent.mkdir(exist_ok=True)
        file.write_text("1\n")
    assert provenance.with_method(commit, own) == provenance.with_method(commit, None) == commit
    assert provenance.with_method(commit, new) == provenance.with_method(commit, outside) == f"{commit}+changes"
    assert provenance.with_method(f"{commit}+changes", outside) == f"{commit}+changes"
    assert provenance.with_method(None, outside) is None
