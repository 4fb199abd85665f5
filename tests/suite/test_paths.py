"""Paths of settings and dense networks, taken apart again by their patterns and the expressions of wildcards."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daar.run.dag import Dag
from daar.suite import paths
from daar.suite.definition import setting_path
from tests.suite.test_reading import make


def parsed(pattern: str, path: str, expressions: dict[str, str]) -> dict[str, str] | None:
    """The wildcards of a path, as Snakemake would find them."""
    parts = re.split(r"\{(\w+)\}", pattern)
    expression = "".join(
        f"(?P<{part}>{expressions.get(part, '.+')})" if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )
    found = re.fullmatch(expression, path)
    return found.groupdict() if found else None


@pytest.mark.parametrize(
    ("target", "text"),
    [(None, "own"), (0.5, "0.5"), (0.841, "0.841"), (0.0001, "0.0001"), (0.00001, "1e-05"), (1.5e-6, "1.5e-06")],
)
def test_a_target_is_read_back_from_its_path(target: float | None, text: str) -> None:
    assert setting_path("digits", "resnet20", 3, "l1", "uniform", "all", target) == (
        f"digits/resnet20/seed3/l1/uniform-all-{text}"
    )
    assert re.fullmatch(paths.TARGET, text)
    assert paths.target_from_text(text) == target


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_every_target_is_read_back_from_its_path_to_the_last_digit(target: float) -> None:
    text = paths.target_to_text(target)
    assert re.fullmatch(paths.TARGET, text)
    assert paths.target_from_text(text) == target


@pytest.mark.parametrize("text", ["", "0", "1.5", "0.", "owner", "0.5/x", "e-05"])
def test_other_text_is_no_target(text: str) -> None:
    assert not re.fullmatch(paths.TARGET, text)


def test_a_setting_s_path_tells_its_wildcards() -> None:
    controls = {"at": {"random_at": "l1"}, "l1-own": {"method": "l1", "policy": "adaptive"}}
    found = make(methods=["l1"], variants=controls, macs_reductions=[0.5, 0.7], seeds=[0, 12])
    dag = Dag(found)
    assert len(found.settings) == 12
    for setting in found.settings:
        told = parsed(dag.setting, f"results/small/{setting.path}", dag.wildcards)
        assert told == {
            **{"dataset": "digits", "network": "resnet20", "seed": str(setting.seed), "scope": "all"},
            **{"variant": setting.variant.name, "policy": setting.policy, "target": str(setting.target)},
        }
    assert parsed(dag.setting, "results/small/digits/resnet20/seed0/l2/uniform-all-0.5", dag.wildcards) is None


@pytest.mark.parametrize(
    ("changes", "recipe"),
    [
        ({}, r"[0-9a-f]{12}"),
        ({"distributed": {"processes": 4}, "train": {"batch_size": 64}}, r"[0-9a-f]{12}-x4"),
        ({"distributed": {"processes": 2}}, r"[0-9a-f]{12}-x2"),
        ({"base": {"resnet20": {"file": "a.th"}}}, r"import-[0-9a-f]{8}"),
    ],
)
def test_a_dense_network_s_path_tells_its_recipe(changes: dict, recipe: str) -> None:
    found = make(**changes)
    dag = Dag(found)
    path = f"results/dense/{found.dense_path('digits', 'resnet20', 7)}"
    told = parsed(dag.dense_network, path, dag.wildcards)
    assert told is not None
    assert re.fullmatch(recipe, told["recipe"])
    imported = "base" in changes
    assert told["seed"] == ("0" if imported else "7")
    assert bool(re.fullmatch(paths.IMPORTED, told["recipe"])) == imported
    assert bool(re.fullmatch(paths.TRAINED, told["recipe"])) == (not imported)
