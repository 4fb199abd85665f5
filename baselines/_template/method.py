"""My method: the criterion in a few words. Author et al., "Title of the Paper", VENUE 2026."""

from collections.abc import Sequence

from torch import Tensor, nn

# All that may be imported of daar: the names in `daar.api.__all__`. Also torch, numpy, and the standard library.
from daar.api import Batch, MethodInfo, filters

# Literals only, no calls and no names: `daar list methods` reads INFO without importing this file.
INFO = MethodInfo(
    name="my_method",  # rename 1 of 3: the folder's name
    title="My method (Author et al. 2026)",  # its name in tables, and whose it is
    citation="author2026title",  # a key of references.bib in this folder
    # All that a score changes with, out of "weights", "images", "labels"; feature maps change with the weights too.
    uses=("weights",),
    policy="uniform",  # one ratio for all layers; `daar list policies` lists the others
    # Wherever a result may differ from the paper's, one phrase each; a single one needs its comma.
    deviations=("what is done here and not in the paper; what the paper does instead",),
)


# Options come behind the `*`, with the paper's value as default; a suite's variant sets them. A method that draws
# random numbers takes `seed: int = 0` there, gets the setting's, and draws from a torch.Generator of its own.
def score(model: nn.Module, batch: Batch, layers: Sequence[str], *, power: float = 2.0) -> dict[str, Tensor]:
    """Eq. 1: s_j = Σ |F_j|^p, the sum over the kernel weights of filter j.

    Args:
        model: the dense network, in eval mode.
        batch: not used.
        layers: paths of the convs to score.
        power: p.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    # filters: (c_out, c_in/groups, k, k), detached, on the CPU. The BN behind each conv:
    # batch_norms(model, batch.images, layers).
    # Maps on images: `for layer, maps in feature_maps(model, batch.images, layers)`, one forward pass for all layers,
    # batch by batch, as method hrank does. Gradients: filter_gradients and map_gradients, as method taylor does.
    return {layer: filters(model, layer).abs().pow(power).sum(dim=(1, 2, 3)) for layer in layers}


# A policy of its own is a second function, plan(groups, importance, macs_target, *, macs, loss); INFO.policy then gives
# it a new name, under which other methods can use it too. `python -m pydoc daar.pruning.policy` shows its
# arguments.
