"""Which variants a suite's `stability` may name, and how many images it may ask for."""

from pathlib import Path
from typing import Any

import pytest

from daar.errors import InputError
from daar.suite.stability import Stability
from tests.suite.test_reading import make


def entry(methods: list[str], **changes: Any) -> Stability | None:
    return make(methods=methods, stability={"images": [10, 40], **changes}).stability


def test_only_what_sees_images_is_scored_unless_variants_are_named() -> None:
    assert entry(["l1", "hrank", "daar"]) == Stability((10, 40), ("hrank", "daar"), (0, 1, 2, 3, 4), 0.5)
    named = entry(["l1", "hrank"], variants=["l1"], seeds=3, macs_reduction=0.3)
    assert named == Stability((10, 40), ("l1",), (0, 1, 2), 0.3)
    with pytest.raises(InputError, match=r"no variant of the suite uses images\. Name ones that do"):
        entry(["l1", "random"])


def test_a_method_without_a_score_of_ours_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "outsider"
    folder.mkdir()
    (folder / "method.py").write_text(
        'INFO = MethodInfo(name="outsider", title="Out", citation="x", uses=("images",), policy="uniform")'
    )
    (folder / "rule.smk").write_text("")
    with pytest.raises(InputError, match=r"stability.variants 'outsider'; there are: hrank"):
        make(
            methods=["hrank", "outsider"],
            methods_dirs=[str(tmp_path)],
            stability={"images": [10], "variants": ["outsider"]},
        )


def test_every_data_set_has_enough_train_images() -> None:
    assert entry(["hrank"], images=[2, 1257]) is not None
    with pytest.raises(InputError, match=r"stability.images has 1258; digits has 1,257 train images"):
        entry(["hrank"], images=[2, 1258])
    with pytest.raises(InputError, match=r"digits has"):
        make(methods=["hrank"], datasets=["cifar10", "digits"], stability={"images": [2000]})
