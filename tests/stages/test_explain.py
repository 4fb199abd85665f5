"""What a method's scores see: the stage on a real network, the file, the picture, and where the workflow makes one."""

import itertools
import json
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml

from daar.checkpoint import checkpoint
from daar.data.calibration import calibration_batch
from daar.data.packed import load
from daar.errors import InputError
from daar.methods import discovery
from daar.pruning.groups import channel_graph
from daar.report import drawing
from daar.report.attention import attention, write_attention
from daar.stages.explain import chosen_filters, chosen_layers, explain, first_of_classes
from daar.storage import explanation
from daar.storage.explanation import Explanation, Seen
from daar.suite import figures, reading
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.workflow.test_dag import dry_run

# of twelve inner and stream groups all lose the second half, but for the first and the last conv alone
WHOLE = ("layer1.0.conv1", "layer3.2.conv1")


@pytest.fixture
def plan(dense: Path, tmp_path: Path) -> Path:
    """A plan.json in which WHOLE stay whole."""
    model, about = checkpoint.load(dense)
    groups = channel_graph(model, torch.zeros(1, *about.input_shape)).in_scope("all")
    kept = [
        {"name": g.name, "size": g.size, "kept": list(range(g.size // (1 if g.name in WHOLE else 2)))} for g in groups
    ]
    content = {"format": 1, "method": "daar", "policy": "adaptive", "scope": "all", "target": 0.5, "groups": kept}
    (tmp_path / "plan.json").write_text(json.dumps({**content, "macs_dense": 2, "macs": 1, "frozen": {}}))
    return tmp_path / "plan.json"


def run(dense: Path, digits: Path, plan: Path, out: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {"method": discovery.get("daar"), "options": {}, "seed": 0, "images": 40} | changes
    explain(base=dense, plan_file=plan, packs=digits, out=out, device=torch.device("cpu"), **given)
    return out


def test_the_stage_on_a_real_network(dense: Path, digits: Path, plan: Path, tmp_path: Path) -> None:
    found = explanation.load(run(dense, digits, plan, tmp_path / "a.safetensors"))
    assert found.about == {
        **{"network": "resnet20", "dataset": "digits", "method": "daar", "policy": "adaptive", "target": 0.5},
        **{"seed": 0, "calibration_images": 40},
    }
    assert [layer.name for layer in found.layers] == ["layer1.1.conv1", "layer3.1.conv1"]
    pack, about = load(digits / "train.safetensors"), checkpoint.describe(dense)
    images, labels = calibration_batch(pack, 0, 40, about.mean, about.std)
    chosen = [labels.tolist().index(label) for label in (0, 1, 2)]
    assert found.classes == tuple(pack.classes[label] for label in (0, 1, 2))
    shallow, deep = found.layers
    # what was read, normalised, is what the network was fed with
    pixels = torch.from_numpy(found.images).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close((pixels - about.mean[0]) / about.std[0], images[chosen])
    # the maps behind BN and ReLU, by a hook of torch's own
    model = checkpoint.load(dense)[0]
    seen: dict[str, Any] = {}
    for name in ("layer1.1.bn1", "layer3.1.bn1"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.relu()}))
    with torch.no_grad():
        model(images)
    for layer, name in ((shallow, "layer1.1.bn1"), (deep, "layer3.1.bn1")):
        whole = seen[name].detach().numpy()
        np.testing.assert_allclose(layer.maps, whole[chosen][:, layer.filters], atol=1e-4)
        assert layer.kept.tolist() == [index < layer.kept.size // 2 for index in range(layer.kept.size)]
    assert shallow.attention is not None
    assert deep.attention is None
    # (A − μ)² / σ of 40 images, of which three are shown: over channels where the layer looks, over places the shares
    maps = seen["layer1.1.bn1"].double().numpy()
    deviation = maps.std(axis=(0, 2, 3), keepdims=True)
    excess = ((maps - maps.mean(axis=(0, 2, 3), keepdims=True)) ** 2 / deviation)[chosen]
    places = excess.sum(axis=1)
    np.testing.assert_allclose(shallow.attention, places / places.sum(axis=(1, 2), keepdims=True), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(shallow.shares, excess.mean(axis=(2, 3)) / deviation.sum(), rtol=1e-3)


def test_equal_runs_give_equal_bytes(dense: Path, digits: Path, plan: Path, tmp_path: Path) -> None:
    one, other = (run(dense, digits, plan, tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_filters_are_the_surest_of_both_kinds() -> None:
    importance = np.array([0.3, 0.1, 0.05, 0.2, 0.1, 0.15, 0.02, 0.08])
    kept = np.array([True, True, False, True, False, True, False, False])
    # by importance: 0 3 5 1 4 7 2 6; of equals the lower index first
    assert chosen_filters(importance, kept).tolist() == [0, 3, 5, 7, 2, 6]
    assert chosen_filters(importance, np.array([True] * 7 + [False])).tolist() == [0, 3, 5, 7]


def test_images_are_the_first_of_the_first_classes() -> None:
    assert first_of_classes(torch.tensor([5, 2, 5, 9, 2, 0])).tolist() == [5, 1, 0]
    assert first_of_classes(torch.tensor([4, 4])).tolist() == [0]


def test_layers_are_the_first_and_the_last_that_lose_filters(dense: Path) -> None:
    model, about = checkpoint.load(dense)
    graph = channel_graph(model, torch.zeros(1, *about.input_shape))
    assert chosen_layers(graph, {"conv1": [0], "layer2.1.conv1": [3], "layer1.2.conv1": []}) == ["layer2.1.conv1"]
    # a stream is measured at its last conv
    assert chosen_layers(graph, {"conv1": [0]}) == ["layer1.2.conv2"]
    with pytest.raises(InputError, match="removes no filter"):
        chosen_layers(graph, {})


def test_a_method_that_explains_nothing_is_refused(dense: Path, digits: Path, plan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'l1' has no explain\(\)"):
        run(dense, digits, plan, tmp_path / "a", method=discovery.get("l1"))
    assert not (tmp_path / "a").exists()


# the picture

CLASSES = ("<b>cat</b>", "$dog_1$ & co")


def invented(name: str = "layer1.0.conv1", *, places: bool = True, size: int = 8, removed: int = 4) -> Seen:
    dice = np.random.default_rng(size)
    shares = dice.random((2, size)).astype(np.float32)
    kept = np.arange(size) >= removed
    filters = chosen_filters(shares.mean(axis=0), kept)
    maps = dice.random((2, len(filters), 4, 4)).astype(np.float32)
    return Seen(name, kept, filters, shares / shares.sum(axis=1, keepdims=True), maps, maps[:, 0] if places else None)


def whole(*layers: Seen, colours: int = 3, method: str = "daar") -> Explanation:
    about = {"network": "resnet20", "dataset": "digits", "method": method, "policy": "adaptive", "target": None}
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, colours), dtype=np.uint8)
    return Explanation({**about, "seed": 0, "calibration_images": 40}, images, CLASSES, layers)


def draw(found: Explanation, title: str = "DAAR, reconstructed") -> Any:
    with matplotlib.style.context(["default", drawing.STYLE]):
        figure = attention(found, title)
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("colours", [1, 3])
def test_every_map_has_its_share_and_the_frame_of_what_happens_to_it(colours: int) -> None:
    shallow, deep = invented(), invented("layer3.2.conv1", places=False, size=64, removed=40)
    figure = draw(whole(shallow, deep, colours=colours))
    for block, layer, room in zip(figure.subfigs, (shallow, deep), (3, 2), strict=True):
        framed = [axes for axes in block.axes if axes.spines["left"].get_linewidth() > 1]
        assert len(framed) == 2 * 2 * room
        ends = [*layer.filters[:3][:room], *layer.filters[3:][3 - room :]]
        for axes, (row, number) in zip(framed, itertools.product(range(2), ends), strict=True):
            assert axes.get_xlabel() == f"{100 * layer.shares[row, number]:.1f}%"
            colour, line = ("#0072B2", "-") if layer.kept[number] else ("#D55E00", "--")
            assert matplotlib.colors.to_hex(axes.spines["left"].get_edgecolor()).upper() == colour
            assert (axes.spines["left"].get_linestyle() == "-") == (line == "-")
    (bars, _) = [axes for axes in figure.subfigs[1].axes if axes.patches]
    assert sorted(patch.get_height() for patch in bars.patches) == pytest.approx(sorted(100 * deep.shares[0]), rel=1e-5)


@pytest.mark.parametrize(
    "layers", [(invented(),), (invented(removed=1), invented("b.c", places=False, size=512, removed=2))]
)
def test_nothing_is_clipped(layers: tuple[Seen, ...]) -> None:
    figure = draw(whole(*layers))
    for axes in (axes for block in figure.subfigs for axes in block.axes):
        box = axes.get_tightbbox()
        assert (box.x0 >= 0, box.y0 >= 0) == (True, True)
        assert (box.x1 <= figure.bbox.x1, box.y1 <= figure.bbox.y1) == (True, True)


def test_files_are_deterministic_and_names_are_escaped(tmp_path: Path) -> None:
    explanation.save(tmp_path / "attention.safetensors", whole(invented(), invented("deep", places=False)))
    files = {("digits", "resnet20"): tmp_path / "attention.safetensors"}
    first, second = (write_attention(files, tmp_path / name, "DAAR <$x$>") for name in "ab")
    assert [path.name for path in first] == [f"digits-resnet20-attention.{kind}" for kind in ("png", "svg")]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = first[1].read_text(encoding="utf-8")
    for text in ("&lt;b&gt;cat&lt;/b&gt;", "$dog_1$ &amp; co", "DAAR &lt;$x$&gt;", "is a reconstruction"):
        assert text in svg
    explanation.save(tmp_path / "attention.safetensors", whole(invented(), method="mine"))
    assert "reconstruction" not in write_attention(files, tmp_path / "c", "Mine")[1].read_text(encoding="utf-8")


def test_round_trip_and_damage(tmp_path: Path) -> None:
    path, made = tmp_path / "attention.safetensors", whole(invented(), invented("deep", places=False))
    explanation.save(path, made)
    read = explanation.load(path)
    assert (read.about, read.classes) == (made.about, made.classes)
    for one, other in zip(read.layers, made.layers, strict=True):
        assert one.name == other.name
        for part in ("kept", "filters", "shares", "maps", "attention"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    content = path.read_bytes()
    safetensors.numpy.save_file({"images": made.images}, tmp_path / "foreign.safetensors")
    newer = content.replace(b'\\"format\\": 1', b'\\"format\\": 2')
    assert newer != content
    for damaged in (content[:-9], b"", newer, (tmp_path / "foreign.safetensors").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"attention\.safetensors.*Make it again: daar explain"):
            explanation.load(path)
    with pytest.raises(InputError, match=r"none\.safetensors should hold"):
        write_attention({("digits", "resnet20"): tmp_path / "none.safetensors"}, tmp_path / "figures", "x")
    assert not (tmp_path / "figures").exists()


# the suite

SUITE: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.7, 0.5]},
    **{"seeds": [3, 1], "finetune": {"epochs": 1}, "methods": ["l1"]},
    "variants": {
        "at": {"random_at": "spatial"},
        "spatial": {"method": "daar", "options": {"attention": "spatial"}},
        "plain": {"method": "daar"},
    },
}


def test_one_setting_of_the_first_variant_that_explains() -> None:
    def path(**changes: Any) -> list[str]:
        return [one.path for one in figures.explained(reading.from_config({**SUITE, **changes}, "here")).values()]

    front = "digits/resnet20/seed3/spatial"
    assert path() == path(policies=["uniform", "adaptive"]) == [f"{front}/adaptive-all-0.7"]
    assert path(policies=["uniform"]) == [f"{front}/uniform-all-0.7"]
    assert path(variants={}) == []
    # the first of whatever there is one of
    assert path(policies=["uniform"], seeds=[3]) == [f"{front}/uniform-all-0.7"]
    plain = {"plain": {"method": "daar"}}
    assert path(policies=["uniform"], seeds=[3], variants=plain) == ["digits/resnet20/seed3/plain/uniform-all-0.7"]


def test_the_policy_of_its_own_is_that_of_the_variant_s_method(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "method.py").write_text(
        'INFO = MethodInfo(name="other", title="Other", citation="x", uses=("weights",), policy="uniform")\n'
        "def score(model, batch, layers): ...\ndef explain(model, batch, layers): ...\n"
    )
    (tmp_path / "other" / "rule.smk").write_text("")
    for methods, own in ((["daar", "other"], "adaptive"), (["other", "daar"], "uniform")):
        changes = {"methods": methods, "methods_dirs": [str(tmp_path)], "variants": {}}
        suite = reading.from_config({**SUITE, **changes, "policies": ["uniform", "adaptive"]}, "here")
        [setting] = figures.explained(suite).values()
        assert setting.path == f"digits/resnet20/seed3/{methods[0]}/{own}-all-0.7"


def test_jobs_only_where_a_method_explains(tmp_path: Path) -> None:
    (tmp_path / "with.yaml").write_text(yaml.safe_dump(SUITE))
    (tmp_path / "without.yaml").write_text(yaml.safe_dump({**SUITE, "variants": {}}))
    jobs = dry_run("--configfile", "with.yaml", cwd=tmp_path)
    assert (jobs["explain"], jobs["attention"]) == (1, 1)
    assert not {"explain", "attention"} & set(dry_run("--configfile", "without.yaml", cwd=tmp_path))
