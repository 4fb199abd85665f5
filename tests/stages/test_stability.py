"""How much importance depends on its calibration images, against sums by hand, simulation and numpy's ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daar.data.calibration import calibration_batch
from daar.data.packed import load
from daar.errors import InputError
from daar.methods import discovery
from daar.stages.stability import overlap, random_overlap, rank_correlation, stability
from daar.suite import reading
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

METHOD = '''"""Scores that are a known function of the images."""
import torch
from daar.api import MethodInfo, filters

INFO = MethodInfo(name="known", title="Known", citation="x", uses=("images",), policy="uniform", deviations=())


def score(model, batch, layers):
    dice = {n: int(batch.images.double().sum().abs() * 1e3) for n in layers}
    widths = {n: model.get_submodule(n).out_channels for n in layers}
    return {n: torch.rand(widths[n], generator=torch.Generator().manual_seed(dice[n])) for n in layers}
'''


@pytest.fixture
def known(tmp_path: Path) -> discovery.Method:
    folder = tmp_path / "methods" / "known"
    folder.mkdir(parents=True)
    (folder / "method.py").write_text(METHOD)
    (folder / "rule.smk").write_text("")
    return discovery.get("known", [tmp_path / "methods"])


def run(dense: Path, digits: Path, method: discovery.Method, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "images": [10, 40],
        "seeds": [0, 1, 2],
        "scope": "inner",
        "target": 0.3,
        "options": {},
    } | changes
    return stability(base=dense, packs=digits, method=method, device=torch.device("cpu"), **given)


def test_spearman_by_hand() -> None:
    # ranks differ by 1, 1, 0, 0: 1 − 6 · 2 / (4 · 15)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 3, 9])) == pytest.approx(0.8)
    flat, other = np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])
    assert (rank_correlation(flat, flat), rank_correlation(flat, other), rank_correlation(other, flat)) == (1, 0, 0)


def test_overlap_by_hand() -> None:
    assert overlap([0, 1, 2], [2, 1, 5]) == 2 / 4
    # of 2 sets of 1 out of 2: equal half of the time; all kept: always equal
    assert (random_overlap(2, 1), random_overlap(5, 5)) == (0.5, 1)


@pytest.mark.parametrize(("size", "kept"), [(16, 9), (64, 20)])
def test_random_overlap_against_simulation(size: int, kept: int) -> None:
    dice = np.random.default_rng(0)
    drawn = [
        overlap(dice.permutation(size)[:kept].tolist(), dice.permutation(size)[:kept].tolist()) for _ in range(4000)
    ]
    assert random_overlap(size, kept) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 4000**0.5)


def test_the_stage_against_numpy_s_ranks(dense: Path, digits: Path, known: discovery.Method) -> None:
    found = run(dense, digits, known)
    pack, size = load(digits / "train.safetensors"), {f"layer{k}": 16 * 2 ** (k - 1) for k in (1, 2, 3)}
    from daar.checkpoint import checkpoint

    about = checkpoint.load(dense)[1]

    def ranks(seed: int, width: int, count: int) -> Any:
        images, _ = calibration_batch(pack, seed, count, about.mean, about.std)
        dice = torch.Generator().manual_seed(int(images.double().sum().abs() * 1e3))
        return torch.rand(width, generator=dice).numpy().argsort().argsort()

    for row in found["counts"]:
        # an inner group has one conv; each of three stages has three such groups of equal width
        pairs = [
            np.mean([np.corrcoef(ranks(a, w, row["images"]), ranks(b, w, row["images"]))[0, 1] for w in size.values()])
            for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        assert row["correlation"]["mean"] == pytest.approx(np.mean(pairs), abs=1e-9)
        assert row["correlation"]["std"] == pytest.approx(np.std(pairs, ddof=1), abs=1e-9)
    last = found["counts"][-1]
    assert (last["correlation_to_largest"]["mean"], last["overlap_to_largest"]["mean"]) == (pytest.approx(1), 1)


def test_a_method_without_images_is_stable(dense: Path, digits: Path) -> None:
    row = run(dense, digits, discovery.get("l1"), images=[10], seeds=[0, 1])["counts"][0]
    assert row["correlation"] == {"mean": pytest.approx(1), "std": None, "n": 1}
    assert row["overlap"]["mean"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seeds": [0]}, "at least 2"), ({"images": []}, "at least one"), ({"images": [10, 9999]}, "from 1 to 1,257")],
)
def test_bad_input(dense: Path, digits: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(dense, digits, discovery.get("l1"), **changes)


SMALL = {
    **{"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0]},
    **{"finetune": {"epochs": 1}, "methods": ["l1", "hrank"]},
}


def test_a_suite_takes_its_data_driven_variants() -> None:
    found = reading.from_config({**SMALL, "stability": {"images": [10, 40]}}, "here").stability
    assert found is not None
    assert (found.variants, found.seeds, found.macs_reduction) == (("hrank",), (0, 1, 2, 3, 4), 0.5)
    assert found.scored_images == 5 * (10 + 40)  # each draw has as many of its own
    assert reading.from_config(SMALL, "here").stability is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"images": [10], "variants": ["fpgm"]}, "unknown variant"),
        ({"images": [2000]}, "1,257 train images"),
        ({"images": [10, 10]}, "10 comes twice"),
    ],
)
def test_a_suite_s_bad_entry(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        reading.from_config({**SMALL, "stability": entry}, "here")
