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
