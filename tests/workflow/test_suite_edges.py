"""`daar suite check` accepts a suite exactly if Snakemake can build its DAG."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from daar.errors import InputError
from daar.suite import reading
from tests.suite.edges import SMALL, VALID, WRONG, wrong
from tests.workflow.test_dag import snakemake

WRITERS: dict[str, Callable[[Any], str]] = {
    "yaml": lambda content: yaml.safe_dump(content, allow_unicode=True, sort_keys=False),
    "json": json.dumps,
}
SUITES = st.tuples(VALID, st.none() | st.sampled_from(WRONG), st.sampled_from(sorted(WRITERS)))
# a DAG takes a second or two, a suite is short enough to be read whole
NO_SHRINK = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]


def dry_run(file: Path) -> tuple[int, str]:
    """Exit code and output of `snakemake -n` for a suite's file, without the line that says that there is a profile."""
    command = ["-n", "--quiet", "all", "--cores", "1", "--workflow-profile", "none", "--configfile", str(file)]
    (here := file.parent / "here").mkdir(exist_ok=True)
    done = snakemake(*command, cwd=here)
    return done.returncode, done.stdout + done.stderr


def compare(content: dict[str, Any], form: str, folder: Path) -> None:
    file = folder / "suite.yaml"
    file.write_text(WRITERS[form](content), encoding="utf-8")
    refused: str | None = None
    try:
        reading.load(file)
    except InputError as error:
        refused = str(error)
    code, said = dry_run(file)
    assert "Traceback" not in said, said
    assert (code, "daar: error: " in said) == ((0, False) if refused is None else (2, True)), (refused, said)


def around(example: tuple[dict[str, Any], tuple[str, Any] | None, str]) -> tuple[dict[str, Any], str]:
    content, change, form = example
    return (content if change is None else wrong(content, *change)), form


@settings(max_examples=20, derandomize=True, database=None, phases=NO_SHRINK, suppress_health_check=list(HealthCheck))
@given(SUITES)
def test_both_accept_the_same_suites(
    tmp_path_factory: pytest.TempPathFactory, example: tuple[dict[str, Any], Any, str]
) -> None:
    content, form = around(example)
    compare(content, form, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=300, phases=NO_SHRINK, suppress_health_check=list(HealthCheck))
@given(SUITES)
def test_both_accept_the_same_suites_of_many(
    tmp_path_factory: pytest.TempPathFactory, example: tuple[dict[str, Any], Any, str]
) -> None:
    content, form = around(example)
    compare(content, form, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_both_refuse_the_same_values(tmp_path: Path, form: str) -> None:
    for key, value in WRONG:
        compare(wrong(SMALL, key, value), form, tmp_path)


def test_a_template_is_refused_by_both(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "__use_yte__": True}))
    with pytest.raises(InputError, match="__use_yte__"):
        reading.load(file)
    assert dry_run(file) == (
        2,
        f"daar: error: {file}: __use_yte__ makes a template of it, and a suite is none. Take it out.\n",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{yaml.safe_dump(SMALL)}seeds: [1]\n", "the key 'seeds' comes twice"),
        (f"{yaml.safe_dump(SMALL)}description: 2024-01-01\n", "has a date, 2024-01-01; put it in quotes"),
        (f"{yaml.safe_dump(SMALL)}variants: {{1: {{method: random}}}}\n", "a key in line .* is no text but 1"),
        (json.dumps(SMALL)[:-1] + ', "seeds": [1]}', "the key 'seeds' comes twice"),
    ],
)
def test_what_snakemake_would_take_silently_is_refused_in_the_same_words(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        reading.load(file)
    assert dry_run(file) == (2, f"daar: error: {error.value}\n")
