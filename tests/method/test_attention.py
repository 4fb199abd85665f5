"""DAAR's attention against the worked example of docs/method.md and against sums written out place by place."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from daar import models
from daar.api import Batch, InputError, feature_maps, filters, sharing
from daar.methods import discovery
from daar.models.resnet_cifar import ResNet
from daar.pruning import importance
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

EXAMPLE = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]], [[2.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]])


def daar() -> ModuleType:
    return discovery.load(discovery.get("daar"))


def attention() -> ModuleType:
    import sys

    daar()
    return sys.modules["daar_method_daar.attention"]


def measures() -> dict[str, Callable[[Tensor], Tensor]]:
    names = ("spatial_share", "channel_share", "spatial_consistency", "spatial_sigmoid", "channel_sigmoid")
    return {name: getattr(attention(), name) for name in names}


def test_the_worked_example() -> None:
    """The three maps have one average: only their places tell them apart (docs/method.md)."""
    spatial, channel = attention().spatial_share(EXAMPLE), attention().channel_share(EXAMPLE)
    assert spatial[0].tolist() == pytest.approx([28 / 60, 20 / 60, 12 / 60])
    halves = [(1 / 3 + top / 7) / 2 for top in (4, 2, 1)]
    assert channel[0].tolist() == pytest.approx(halves)


def by_places(name: str, maps: np.ndarray) -> np.ndarray:
    """The shares of one image, (C, H, W) to (C,), by loops over the definition."""
    channels, height, width = maps.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    average = np.array([sum(m[p] for p in places) / len(places) for m in maps])
    top = np.array([max(m[p] for p in places) for m in maps])
    layer = {p: sum(m[p] for m in maps) for p in places}
    if name == "channel_share":
        return (average / average.sum() + top / top.sum()) / 2
    if name == "channel_sigmoid":
        gates = 1 / (1 + np.exp(-(standard(average) + standard(top))))
        return gates / gates.sum()
    if name == "spatial_sigmoid":
        z = standard(np.array([layer[p] / channels + max(m[p] for m in maps) for p in places]))
        worth = np.array([sum(m[p] / (1 + math.exp(-z[i])) for i, p in enumerate(places)) for m in maps])
        return worth / worth.sum()
    worth = np.array([sum(m[p] * layer[p] for p in places) for m in maps])
    if name == "spatial_consistency":
        size = math.sqrt(sum(v * v for v in layer.values()))
        sizes = np.array([math.sqrt(sum(m[p] ** 2 for p in places)) for m in maps])
        worth = worth / (sizes * size)
    return worth / worth.sum()


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize("name", list(measures()))
def test_a_measure_is_its_definition(name: str) -> None:
    maps = torch.rand(4, 6, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measures()[name](maps)
    assert found.shape == (4, 6)
    for image, shares in zip(maps.numpy(), found.numpy(), strict=True):
        assert np.allclose(shares, by_places(name, image), rtol=1e-12)


@pytest.mark.parametrize("name", list(measures()))
@given(maps=arrays(np.float64, (2, 4, 3, 3), elements=st.just(0.0) | st.floats(0.01, 100)))
def test_shares_are_shares(name: str, maps: np.ndarray) -> None:
    """≥ 0 and summing to 1, with dead channels, dead images and a layer that is dead throughout."""
    found = measures()[name](torch.from_numpy(maps))
    assert bool((found >= 0).all())
    assert torch.allclose(found.sum(dim=1), torch.ones(2, dtype=torch.float64))
    dead = torch.from_numpy(maps).flatten(2).sum(dim=2) == 0
    for image in range(2):
        if dead[image].all():
            assert found[image].tolist() == [0.25] * 4
        elif name in ("spatial_share", "channel_share", "spatial_sigmoid"):
            assert bool((found[image][dead[image]] == 0).all()), "a dead channel has no share"


@given(levels=arrays(np.float64, (3, 5), elements=st.floats(0.01, 10)))
def test_on_flat_maps_the_spatial_share_is_that_of_the_average_pool(levels: np.ndarray) -> None:
    maps = torch.from_numpy(levels)[:, :, None, None].expand(3, 5, 4, 4)
    expected = torch.from_numpy(levels / levels.sum(axis=1, keepdims=True))
    assert torch.allclose(attention().spatial_share(maps), expected)


def test_spatial_share_is_the_average_s_share_and_a_covariance() -> None:
    """Σ A_c Q = HW (mean A_c · mean Q + cov(A_c, Q)): what the average pool loses is the covariance with Q."""
    maps = torch.rand(1, 5, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[0].flatten(1)
    whole = maps.sum(dim=0)
    both = torch.cov(torch.cat([maps, whole[None]]), correction=0)
    worth = maps.mean(dim=1) * whole.mean() + both[:-1, -1]
    found = attention().spatial_share(maps.view(1, 5, 6, 6))[0]
    assert torch.allclose(found, worth / worth.sum())


@pytest.mark.parametrize("name", list(measures()))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_does_not_become_a_share(name: str, bad: float) -> None:
    maps = torch.ones(2, 3, 2, 2)
    maps[1, 1, 0, 0] = bad
    found = measures()[name](maps)
    assert torch.isfinite(found[0]).all()
    assert not torch.isfinite(found[1]).all()


# variation, over all images at once


def varying(maps: np.ndarray, *, deep: bool) -> np.ndarray:
    """Eq. 2 or 3 by numpy: (N, C, H, W) to (C,)."""
    squeezed = [maps.mean(axis=(2, 3)), maps.max(axis=(2, 3))] if deep else [maps.transpose(0, 2, 3, 1)]
    deviations = [values.reshape(-1, maps.shape[1]).std(axis=0) for values in squeezed]
    return np.mean([part / part.sum() for part in deviations], axis=0)


def variation(*, deep: bool) -> Any:
    return attention().MEASURES["variation"][deep]()


def seen(measure: Any, *batches: Tensor) -> Any:
    for maps in batches:
        measure.add(maps)
    return measure


def test_the_worked_example_of_variation() -> None:
    """Deviations are √3, 1 and 0 over the places of one image (docs/method.md)."""
    found = seen(variation(deep=False), EXAMPLE).shares()
    whole = math.sqrt(3) + 1
    assert found.tolist() == pytest.approx([math.sqrt(3) / whole, 1 / whole, 0])
    assert seen(variation(deep=True), EXAMPLE).shares().tolist() == pytest.approx([1 / 3] * 3), (
        "one image varies nowhere"
    )
    # beside an image without anything, averages of 1, 1, 1 and maxima of 4, 2, 1 halve as deviations
    pair = torch.cat([EXAMPLE, torch.zeros_like(EXAMPLE)])
    halves = [(1 / 3 + top / 7) / 2 for top in (4, 2, 1)]
    assert seen(variation(deep=True), pair).shares().tolist() == pytest.approx(halves)


@pytest.mark.parametrize("deep", [False, True])
@given(
    maps=arrays(np.float64, (6, 4, 3, 2), elements=st.just(0.0) | st.floats(-100, 100, width=16)),
    cut=st.integers(1, 5),
)
def test_variation_is_its_definition_whatever_the_batches(maps: np.ndarray, cut: int, deep: bool) -> None:
    """Of what varies at all: ≥ 0, summing to 1; parts of images average to it; dead layers have equals."""
    images = torch.from_numpy(maps)
    measure = seen(variation(deep=deep), images[:cut], images[cut:])
    found = measure.shares()
    assert bool((found >= 0).all())
    assert float(found.sum()) == pytest.approx(1)
    assert torch.allclose(measure.of_images(images).mean(dim=0), found, atol=1e-9)
    squeezed = [maps.mean(axis=(2, 3)), maps.max(axis=(2, 3))] if deep else [maps]
    if all(float(values.std(axis=0).max()) > 1e-3 for values in squeezed):
        assert np.allclose(found.numpy(), varying(maps, deep=deep), atol=1e-6)
    if not maps.any():
        assert found.tolist() == [0.25] * 4


@given(levels=arrays(np.float64, 4, elements=st.floats(-8, 8, width=16)))
def test_a_constant_changes_no_variation(levels: np.ndarray) -> None:
    """The next BN takes it up, so a channel is worth as much with it as without."""
    maps = torch.rand(5, 4, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for deep in (False, True):
        plain = seen(variation(deep=deep), maps).shares()
        moved = seen(variation(deep=deep), maps + torch.from_numpy(levels)[:, None, None]).shares()
        assert torch.allclose(plain, moved)


def test_what_pooling_loses_is_the_variance_within_images() -> None:
    """The variance over images and places is that of the average pool and the mean of that over an image's places."""
    maps = torch.rand(7, 4, 5, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole = seen(attention().Spread(), maps.flatten(2)).deviation().square()
    pooled = seen(attention().Spread(), attention().average_pool(maps)).deviation().square()
    assert torch.allclose(whole, pooled + maps.var(dim=(2, 3), correction=0).mean(dim=0))


def test_on_flat_maps_both_attentions_are_one() -> None:
    maps = torch.rand(7, 4, 1, 1, generator=torch.Generator().manual_seed(6)).expand(7, 4, 3, 3)
    assert torch.allclose(*(seen(variation(deep=deep), maps).shares() for deep in (False, True)))


def test_where_a_varying_layer_looks_adds_up_to_the_variation() -> None:
    """Over all images and channels the places' parts are (A − μ)² / σ, by numpy."""
    maps = torch.rand(3, 4, 5, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    measure = seen(variation(deep=False), maps)
    rows = maps.numpy()
    mean, deviation = rows.mean(axis=(0, 2, 3), keepdims=True), rows.std(axis=(0, 2, 3), keepdims=True)
    places = ((rows - mean) ** 2 / deviation).sum(axis=1)
    assert np.allclose(measure.places(maps).numpy(), places / places.sum(axis=(1, 2), keepdims=True))
    assert seen(variation(deep=True), maps).places(maps) is None


@pytest.mark.parametrize("deep", [False, True])
def test_what_an_image_contributes_to_the_variation(deep: bool) -> None:
    """(x − μ)² / σ over the sum of all σ, the mean over the image's places, by numpy."""
    maps = torch.rand(3, 4, 5, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows = maps.numpy().reshape(3, 4, 10)
    expected = []
    for x in [rows.mean(axis=2, keepdims=True), rows.max(axis=2, keepdims=True)] if deep else [rows]:
        mean, deviation = x.mean(axis=(0, 2), keepdims=True), x.std(axis=(0, 2), keepdims=True)
        expected.append(((x - mean) ** 2 / deviation / deviation.sum()).mean(axis=2))
    found = seen(variation(deep=deep), maps).of_images(maps)
    assert np.allclose(found.numpy(), np.mean(expected, axis=0))
    assert found.shape == (3, 4)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_variation_of_what_is_not_finite_is_no_share(bad: float, deep: bool) -> None:
    maps = torch.rand(2, 3, 2, 2)
    maps[1, 1, 0, 0] = bad
    assert not torch.isfinite(seen(variation(deep=deep), maps).shares()).all()


# the whole score


def network() -> nn.Module:
    torch.manual_seed(0)
    return enliven(ResNet(1, 10))


def batch(count: int = 20) -> Batch:
    dice = torch.Generator().manual_seed(2)
    return Batch(torch.randn(count, 3, 32, 32, generator=dice), torch.arange(count) % 2)


def layers(model: nn.Module) -> list[str]:
    return channel_graph(model, torch.zeros(1, 3, 32, 32)).scored_layers()


def test_a_score_is_the_variation_at_its_depth() -> None:
    """Stages of 32 and 16 places are shallow, that of 8 is deep; 130 images are more than one forward pass takes."""
    model, data = network(), batch(130)
    found = daar().score(model, data, layers(model), stream="mean")
    gathered: dict[str, list[np.ndarray]] = {}
    for layer, maps in feature_maps(model, data.images, layers(model)):
        gathered.setdefault(layer, []).append(maps.double().numpy())
    for layer, parts in gathered.items():
        whole = np.concatenate(parts)
        expected = varying(whole, deep=layer.startswith("layer3"))
        assert np.allclose(found[layer].numpy(), expected, rtol=1e-4), layer
        assert float(found[layer].sum()) == pytest.approx(1, abs=1e-5)


def test_a_share_is_the_mean_over_images_of_the_measure_of_its_depth() -> None:
    model, data = network(), batch(130)
    found = daar().score(model, data, layers(model), stream="mean", score="share")
    expected: dict[str, list[Tensor]] = {}
    for layer, maps in feature_maps(model, data.images, layers(model)):
        measure = "channel_share" if layer.startswith("layer3") else "spatial_share"
        expected.setdefault(layer, []).append(measures()[measure](maps))
    for layer, parts in expected.items():
        assert torch.allclose(found[layer], torch.cat(parts).mean(dim=0), rtol=1e-4), layer
        assert float(found[layer].sum()) == pytest.approx(1, abs=1e-5)


def test_what_writes_into_a_stream_is_measured_behind_its_last_addition() -> None:
    torch.manual_seed(0)
    model, data = enliven(ResNet(2, 10)), batch()
    last, own = (daar().score(model, data, layers(model), stream=name) for name in ("last", "mean"))
    streams = [["conv1", "layer1.0.conv2", "layer1.1.conv2"], ["layer2.0.conv2", "layer2.1.conv2"]]
    for *before, end in streams:
        assert torch.equal(last[end], own[end])
        for layer in before:
            assert torch.equal(last[layer], own[end])
            assert not torch.equal(own[layer], own[end])
    assert torch.equal(last["layer1.0.conv1"], own["layer1.0.conv1"])


def test_attention_options_choose_the_measure_by_depth() -> None:
    model, data = network(), batch()
    names = layers(model)
    shallow, deep = [n for n in names if not n.startswith("layer3")], [n for n in names if n.startswith("layer3")]
    by_option = {name: daar().score(model, data, names, attention=name) for name in ("dual", "swapped")}
    spatial, channel = (daar().score(model, data, names, attention=name) for name in ("spatial", "channel"))
    for layer in shallow:
        assert torch.equal(by_option["dual"][layer], spatial[layer])
        assert torch.equal(by_option["swapped"][layer], channel[layer])
    for layer in deep:
        assert torch.equal(by_option["dual"][layer], channel[layer])
        assert torch.equal(by_option["swapped"][layer], spatial[layer])
        assert not torch.equal(spatial[layer], channel[layer])


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_boundary_may_be_given_as_a_fraction_of_the_layers(fraction: float) -> None:
    model, data = network(), batch()
    found = daar().score(model, data, layers(model), boundary=fraction)
    expected = daar().score(model, data, layers(model), attention="spatial" if fraction else "channel")
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


def test_outgoing_multiplies_by_what_the_readers_weigh() -> None:
    model, data = network(), batch()
    plain = daar().score(model, data, layers(model))
    found = daar().score(model, data, layers(model), weighting="outgoing")
    weights = filters(model, "layer2.0.conv2").abs().sum(dim=(0, 2, 3))
    assert torch.allclose(found["layer2.0.conv1"], plain["layer2.0.conv1"] * weights, rtol=1e-5)
    # the last stream is read by the classifier alone
    last = model.state_dict()["linear.weight"].abs().sum(dim=0)
    assert torch.allclose(found["layer3.0.conv2"], plain["layer3.0.conv2"] * last, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"boundary": "auto"},
            r"at least 10 images of each, 20 for the 2 there are, got 19\. Raise",
        ),
        ({"boundary": 1.5}, r"boundary is 1\.5; .*from 0 to 1"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict, message: str) -> None:
    model = network()
    with pytest.raises(InputError, match=message):
        daar().score(model, batch(19), layers(model), **options)


def test_the_data_driven_boundary_is_the_best_of_all_splits() -> None:
    """Classes by scipy's analysis of variance, splits by numpy; 130 images are more than one forward pass takes."""
    model, labels = network(), torch.arange(130) % 2
    data = Batch(batch(130).images + 0.3 * labels[:, None, None, None], labels)
    names = layers(model)
    pooled: dict[str, list[np.ndarray]] = {}
    for layer, maps in feature_maps(model, data.images, names):
        pooled.setdefault(layer, []).append(maps.double().mean(dim=(2, 3)).numpy())
    rows = {layer: np.concatenate(parts) for layer, parts in pooled.items()}
    statistics = [scipy.stats.f_oneway(*(row[labels.numpy() == k] for k in (0, 1))).statistic for row in rows.values()]
    separation = [np.nanmean(f / (f + 130 - 2)) for f in statistics]  # a dead channel has none
    splits = [(separation[:at], separation[at:]) for at in range(1, len(separation))]
    best = min(splits, key=lambda split: sum(np.var(part) * len(part) for part in split))
    shallow = list(rows)[: len(best[0])]
    found = {name: daar().score(model, data, names, attention=name, boundary="auto") for name in ("dual", "swapped")}
    spatial, channel = (daar().score(model, data, names, attention=name) for name in ("spatial", "channel"))
    source = {layer: own[-1] for own in sharing(model, data.images, names) for layer in own}
    for layer in names:
        one, other = (spatial, channel) if source[layer] in shallow else (channel, spatial)
        assert torch.equal(found["dual"][layer], one[layer]), layer
        assert torch.equal(found["swapped"][layer], other[layer]), layer


def test_ten_images_of_each_class_are_enough_for_the_data_driven_boundary() -> None:
    model = network()
    assert set(daar().score(model, batch(20), layers(model), boundary="auto")) == set(layers(model))


@pytest.mark.parametrize("attention", ["spatial", "channel"])
def test_one_attention_everywhere_needs_no_boundary(attention: str) -> None:
    """And so not the ten images of each class that boundary `auto` needs."""
    model, data = network(), batch(3)
    auto, side = (daar().score(model, data, layers(model), attention=attention, boundary=b) for b in ("auto", "side"))
    assert all(torch.equal(auto[layer], side[layer]) for layer in side)


@pytest.mark.parametrize("network_name", list(models.NETWORKS))
def test_every_network_is_scored(network_name: str, tmp_path: Path) -> None:
    model = enliven(models.get(network_name).build(10))
    names = layers(model)
    found = daar().score(model, batch(2), names)
    assert all(float(found[name].sum()) == pytest.approx(1, abs=1e-5) for name in names)
    # the convs of a stream share one vector, which a file of tensors must not hold twice
    importance.save(tmp_path / "importance.safetensors", found)
    loaded = importance.load(tmp_path / "importance.safetensors")
    assert set(loaded) == set(found)
    assert all(torch.equal(loaded[name], found[name]) for name in names)


def test_where_a_layer_looks_by_hand() -> None:
    """Q of the worked example is 7, 3, 1, 1 over the four places (docs/method.md)."""
    assert attention().attention_map(EXAMPLE)[0].tolist() == [
        pytest.approx([7 / 12, 3 / 12]),
        pytest.approx([1 / 12, 1 / 12]),
    ]
    dead = attention().attention_map(torch.zeros(1, 3, 2, 2))
    assert dead.flatten().tolist() == [0.25] * 4
    # z = mean + max over channels, standardised over places; then its sigmoid, as a share
    z = np.array([7 / 3 + 4, 1 + 2, 1 / 3 + 1, 1 / 3 + 1])
    gate = 1 / (1 + np.exp(-(z - z.mean()) / z.std()))
    assert attention().gate_map(EXAMPLE).flatten().tolist() == pytest.approx(list(gate / gate.sum()))


@pytest.mark.parametrize(
    ("changes", "looks"),
    [
        ({}, {True, False}),
        ({"score": "share"}, {True, False}),
        ({"attention": "spatial", "score": "cbam_sigmoid"}, {True}),
        ({"attention": "channel"}, {False}),
        ({"attention": "swapped", "weighting": "outgoing"}, {True, False}),
        ({"stream": "mean", "score": "consistency", "boundary": 0.3}, {True, False}),
    ],
)
def test_explain_averages_to_score_with_any_options(changes: dict[str, object], looks: set[bool]) -> None:
    module = daar()
    model = enliven(ResNet(1, 10))
    layers = channel_graph(model, torch.zeros(1, 3, 32, 32)).scored_layers()
    batch = Batch(
        torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(7, dtype=torch.long)
    )
    scores = module.score(model, batch, layers, **changes)
    found = {}
    for layer, shares, where in module.explain(
        model, batch, layers, **discovery.score_options(module.score, dict(changes))
    ):
        assert layer not in found  # one batch holds all seven
        found[layer] = (shares, where)
    assert {where is not None for _, where in found.values()} == looks
    for layer, (shares, _) in found.items():
        assert torch.allclose(shares.mean(dim=0), scores[layer], rtol=1e-5)
