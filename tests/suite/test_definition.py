"""What follows from a suite's keys: counts, files and titles."""

from pathlib import Path

import pytest

from daar.errors import InputError
from daar.suite.definition import Base
from tests.suite.test_reading import make


def test_every_seed_has_a_dense_network_and_imported_weights_are_one() -> None:
    of = {"networks": ["resnet20", "resnet56"], "seeds": [0, 1, 2]}
    assert make(**of).dense_count == 6
    assert make(**of, datasets=["digits", "cifar10"]).dense_count == 12
    assert make(**of, base={"resnet56": {"file": "a.th"}}).dense_count == 4


def test_only_methods_of_several_variants_are_ablated() -> None:
    variants = {
        **{
            "l1-adaptive": {"method": "l1", "policy": "adaptive"},
            "at": {"random_at": "l1"},
            "at2": {"random_at": "l1"},
        },
        "daar-spatial": {"method": "daar", "options": {"attention": "spatial"}},
    }
    assert make(methods=["l1", "daar", "random"], variants=variants).ablations == ("daar", "l1")
    assert make(methods=["l1"], variants={"at": {"random_at": "l1"}}).ablations == ()


def test_weights_are_looked_for_here_and_then_below_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = make(base={"resnet20": {"file": "a.th"}}, data_root="root")
    assert found.weights("resnet20") == "a.th"  # nowhere: as the suite names it
    Path("root").mkdir()
    Path("root/a.th").touch()
    assert found.weights("resnet20") == "root/a.th"
    Path("a.th").touch()
    assert found.weights("resnet20") == "a.th"


def test_a_base_is_known_by_its_file_and_normalisation() -> None:
    bases = [
        Base("a.th", None, None, ("train",)),
        Base("b.th", None, None, ("train",)),
        Base("a.th", (0.5,), None, ("train",)),
        Base("a.th", None, (0.5,), ("train",)),
    ]
    assert len({base.hash for base in bases}) == 4
    # what it has seen, and where to have it, change no number
    assert Base("a.th", None, None, ("val",), "https://example.org").hash == bases[0].hash
    assert bases[2].options == ["--mean", "0.5", "--trained-on", "train"]
    assert bases[3].options == ["--std", "0.5", "--trained-on", "train"]


def test_an_unknown_variant_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown variant 'l2'; there are: l1"):
        make(methods=["l1"]).variant("l2")


def test_deviations_are_the_methods_own_and_controls_have_none() -> None:
    found = make(methods=["daar", "l1"], variants={"at": {"random_at": "l1"}}).deviations()
    assert set(found) == {"daar", "l1"}
    assert all(isinstance(phrase, str) for phrases in found.values() for phrase in phrases)
    assert found["daar"]
