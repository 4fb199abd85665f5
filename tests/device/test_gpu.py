"""What only a CUDA device can show: `pytest -m gpu`. Skipped where there is none."""

import json
from pathlib import Path

import pytest
import torch

from daar.checkpoint import checkpoint
from daar.data import packed
from daar.data.calibration import calibration_batch
from daar.device.precision import strict_float32
from daar.methods import discovery
from daar.pruning import importance
from daar.stages.finetune import finetune
from daar.stages.measure import measure
from daar.stages.plan import plan
from daar.stages.score import score
from daar.stages.train import train
from daar.training.recipe import Recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_logits_agree_with_the_cpu(dense: Path, digits: Path) -> None:
    model, about = checkpoint.load(dense)
    images, _ = calibration_batch(packed.load(digits / "train.safetensors"), 0, 64, about.mean, about.std)
    with torch.no_grad(), strict_float32():
        expected = model(images)
        logits = model.to(CUDA)(images.to(CUDA)).cpu()
    assert (logits - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.parametrize("name", discovery.find())
def test_every_method_keeps_the_same_filters(tmp_path: Path, dense: Path, digits: Path, name: str) -> None:
    kept = []
    for device in (CPU, CUDA):
        scores, out = tmp_path / f"{device}.safetensors", tmp_path / f"{device}.json"
        method = discovery.get(name)
        about: dict = {"base": dense, "packs": digits, "seed": 0, "images": 64, "options": {}, "device": device}
        score(method=method, out=scores, **about)
        plan(scores=scores, method=method, policy=method.policy, scope="all", target=0.5, out=out, **about)
        kept.append(json.loads(out.read_text())["groups"])
        assert importance.load(scores)
    assert kept[0] == kept[1]


def test_every_stage_runs_on_cuda(tmp_path: Path, digits: Path) -> None:
    recipe = Recipe(epochs=4, lr=0.05, batch_size=64, warmup_epochs=1)
    train(network="resnet20", packs=digits, recipe=recipe, seed=0, out=tmp_path / "dense", device=CUDA)
    about: dict = {"base": tmp_path / "dense", "packs": digits, "seed": 0, "images": 64, "device": CUDA}
    method = discovery.get("l1")
    score(method=method, options={}, out=tmp_path / "i.safetensors", **about)
    plan(
        scores=tmp_path / "i.safetensors",
        method=method,
        options={},
        policy="uniform",
        scope="all",
        target=0.5,
        out=tmp_path / "plan.json",
        **about,
    )
    finetune(
        plan_file=tmp_path / "plan.json", recipe=Recipe(epochs=2, lr=0.02, batch_size=64), out=tmp_path / "t", **about
    )
    on_gpu, on_cpu = (measure(folder=tmp_path / "t", packs=digits, device=device) for device in (CUDA, CPU))
    assert on_gpu["top1"] == pytest.approx(on_cpu["top1"], abs=0.6)  # two of 360 images may stand on the edge
    assert on_gpu["macs"] == on_cpu["macs"]
