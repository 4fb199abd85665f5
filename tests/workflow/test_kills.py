"""After kill -9 at any moment the same command goes on, and ends with the same bytes."""

from pathlib import Path

import pytest

from tests.workflow.kills import kill


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_the_same_command_goes_on_after_every_kill(kills: int, tmp_path: Path) -> None:
    outcome = kill(kills, tmp_path, seed=kills)
    assert outcome.kills >= kills
    assert outcome.refused == []
    assert outcome.differing == []
