"""Checks of a score() and of an explain()."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.api import Batch, InputError
from daar.conformance.subject import (
    CLASSES,
    COUNT,
    batch,
    breach,
    graph_of,
    layers,
    network,
    options,
    require_surroundings,
    same,
    score,
    surroundings,
)
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import importance

MODES: dict[str, Callable[[], Any]] = {
    "enable_grad": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode,
}  # fmt: skip
ABSENT = {
    "none": torch.empty(0, dtype=torch.int64),
    "beyond the classes": torch.full((COUNT,), CLASSES),
    "no whole numbers": torch.arange(COUNT) / COUNT,
}
BLOCKS = ("layer1.0", "layer2.0", "layer3.0")


def form(method: Method) -> None:
    """A finite float32 vector on the CPU for every layer asked for, not the same for all filters."""
    graph = graph_of(network())
    widths = {layer: len(graph.layers[layer].outputs) for layer in layers()}
    found = score(method)
    importance.check(found, widths, f"method {method.name!r}")
    # not in every layer: the maps of a small random network may well all have full rank
    if not any(len(set(vector.tolist())) > 1 for vector in found.values()):
        breach("filters of different scores", "the same for all", "Return what tells filters apart.")


def asked(method: Method) -> None:
    """Scores of the layers asked for, and of no other."""
    module = discovery.load(method)
    chosen = [layers()[2], layers()[0]]
    found = module.score(network(), batch(), chosen, **options(module.score))
    if set(found) != set(chosen):
        breach(f"scores of {chosen} where only those are asked for", list(found), "Loop over the argument `layers`.")


def deterministic(method: Method) -> None:
    """The same scores whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = score(method)
        torch.manual_seed(2)
        state = np.random.get_state()
        np.random.seed(5)
        try:
            other = score(method)
        finally:
            np.random.set_state(state)
    if not same(one, other):
        fix = "Declare the option `seed: int = 0` and draw from torch.Generator().manual_seed(seed)."
        breach("the same scores twice", "others after other random numbers", fix)


def in_mode(method: Method, mode: str) -> None:
    """The same scores in whatever mode of gradients the caller is, also of a network that wants none.

    In inference mode the batch is such as autograd refuses to save.
    """
    one = score(method)
    model = network().requires_grad_(False)
    with MODES[mode]():
        data = Batch(batch().images + 0, batch().labels + 0)
        found = score(method, model, data)
    if not same(found, one) or any(scores.is_inference() for scores in found.values()):
        fix = "Take filter_gradients, map_gradients or losses of daar.api; or differentiate on batch.images.clone()."
        breach(f"the same scores under torch.{mode}() of a network without requires_grad", "others", fix)


def without_labels(method: Method, which: str) -> None:
    """Labels that are not there are said in one line by a method that reads them; others do not mind."""
    data = Batch(batch().images, ABSENT[which])
    if "labels" not in discovery.load(method).INFO.uses:
        if not same(score(method, data=data), score(method)):
            breach("the same scores without labels", "others", 'Add "labels" to INFO.uses.')
        return
    try:
        score(method, data=data)
    except InputError as error:
        if "labels should be" in str(error) and "\n" not in str(error):
            return
        got = str(error)
    else:
        got = "scores"
    fix = "Take filter_gradients, map_gradients or losses of daar.api, or raise its InputError: labels should be …"
    breach(f"one line on labels ({which}) that begins 'labels should be'", got, fix)


def left_alone(method: Method, *, training: bool) -> None:
    """Network, batch and surroundings as they were, whatever mode the network is in."""
    model, data, module = network(), batch(), discovery.load(method)
    model.train(training)
    model.get_submodule("layer2").eval()
    names, around = list(model.state_dict()), surroundings()
    module.score(model, data, layers(), **options(module.score))  # weights, modes: the contract of every call
    require_surroundings(around)
    if not torch.equal(data.images, batch().images) or not torch.equal(data.labels, batch().labels):
        breach("the batch as it was", "another", "Work on batch.images.clone().")
    if list(model.state_dict()) != names:
        breach("the entries of model.state_dict() as they were", "others", "Work on copy.deepcopy(model).")
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            breach("no gradients left in the network", f"{name}.grad", "Take filter_gradients of daar.api, or a copy.")
    for path, part in model.named_modules():
        if any((part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)):
            where = repr(path) if path else "the network itself"
            breach("no hooks left in the network", f"one on {where}", "Call remove() of its handle.")


def depends(method: Method, what: str) -> None:
    """Scores depend on what INFO.uses names, and on nothing else."""
    used = what in discovery.load(method).INFO.uses
    changed = not same(score(method, *_disturbed(what)), score(method))
    if changed and not used:
        breach(f"scores that do not change with {what}", "others", f'Add "{what}" to INFO.uses.')
    if used and not changed:
        breach(f"scores that change with {what}", "the same", f'Take "{what}" out of INFO.uses.')


def _disturbed(what: str) -> tuple[nn.Module, Batch]:
    """The usual network and batch with one kind of input replaced."""
    model, data = network(9 if what == "weights" else 0), batch()
    if what == "images":
        data = Batch(batch(9).images, data.labels)
    if what == "labels":
        data = Batch(data.images, (data.labels + 1 + torch.arange(COUNT) % 8) % CLASSES)
    return model, data


def seeded(method: Method) -> None:
    """Another seed gives other scores."""
    if discovery.takes_seed(discovery.load(method).score) and same(score(method, seed=4), score(method)):
        breach("other scores with another seed", "the same", "Draw from torch.Generator().manual_seed(seed).")


def permuted(method: Method, block: str) -> None:
    """Filters in another order: their scores in the same order."""
    if not discovery.load(method).INFO.uses:
        return  # a control that scores positions, not filters
    model = network()
    before = score(method, model)[f"{block}.conv1"]
    order = torch.randperm(len(before), generator=torch.Generator().manual_seed(2))
    state = model.state_dict()
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        state[f"{block}.{name}"] = state[f"{block}.{name}"][order]
    state[f"{block}.conv2.weight"] = state[f"{block}.conv2.weight"][:, order]
    model.load_state_dict(state)
    after = score(method, model)[f"{block}.conv1"]
    if not torch.allclose(after, before[order], rtol=1e-4, atol=1e-6 * float(before.abs().max())):
        far = float((after - before[order]).abs().max())
        fix = "Scores belong to filters, not to positions: break ties by what a filter is, not by its index."
        breach(f"scores of {block}.conv1 reordered as its filters", f"others, by up to {far:.3g}", fix)


def explained(method: Method) -> None:
    """What explain() yields is on average what score() returns, and leaves all alone."""
    module, model, data = discovery.load(method), network(), batch()
    given = discovery.score_options(module.score, options(module.score))
    before, around = copy.deepcopy(model.state_dict()), surroundings()
    shares: dict[str, list[Tensor]] = {}
    for layer, part, attention in module.explain(model, data, layers(), **given):
        shares.setdefault(layer, []).append(part)
        if (part.device.type, part.dim()) != ("cpu", 2):
            breach("shares (n, c_out) on the CPU", f"{tuple(part.shape)} on {part.device}", "Call .cpu().")
        if attention is not None:
            _require_attention(attention, len(part))
    require_surroundings(around)
    if not all(torch.equal(value, before[name]) for name, value in model.state_dict().items()):
        breach("the network as it was after explain()", "another", "Work on copy.deepcopy(model).")
    scores = score(method)
    if set(shares) != set(scores):
        breach(f"parts of the layers {sorted(scores)} from explain()", sorted(shares), "Yield every layer scored.")
    for layer, parts in shares.items():
        whole = torch.cat(parts).double()
        if len(whole) != COUNT or not torch.allclose(whole.mean(dim=0).float(), scores[layer], rtol=1e-5, atol=1e-8):
            breach(f"the mean over {COUNT} images to be the scores of {layer}", f"{len(whole)} others", "Yield parts.")


def _require_attention(attention: Tensor, count: int) -> None:
    if (attention.device.type, attention.dim(), len(attention)) != ("cpu", 3, count):
        breach(
            f"attention ({count}, H, W) on the CPU", f"{tuple(attention.shape)} on {attention.device}", "Correct it."
        )
    if bool((attention < 0).any()) or not torch.allclose(attention.sum(dim=(1, 2)), torch.ones(count)):
        breach("attention ≥ 0 that sums to 1 over the places", "other values", "Divide each map by its sum.")
