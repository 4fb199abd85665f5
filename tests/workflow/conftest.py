"""What tests of the workflow share: a process for their many dry runs."""

from collections.abc import Iterator

import pytest

from tests.workflow import dry_runs


@pytest.fixture(scope="session", autouse=True)
def _dry_runs() -> Iterator[None]:
    with dry_runs.serving():
        yield
