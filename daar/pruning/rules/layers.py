"""Convolutions, matrix products, norms and pools, of whatever layer: what counts is which weight they read."""

import math

import numpy as np

from daar.program.program import Operation, Ref, refs
from daar.pruning.identities import BLANK, Labels
from daar.pruning.rules.pointwise import fill_blanks
from daar.pruning.rules.run import Call, Dims, Rule, Run


def convolution(run: Run, op: Operation) -> list[Dims]:
    """A conv of any number of dimensions, transposed or not."""
    source, weight, bias = op.args[:3]
    return _convolved(run, op, (source, weight, bias), transposed=bool(op.args[6]), groups=int(op.args[8]))


def deformed(run: Run, op: Operation) -> list[Dims]:
    """A conv that reads each channel at places of its group of offsets (torchvision's deform_conv2d)."""
    source, weight, offset, mask, bias = op.args[:5]
    groups, offset_groups = op.args[11:13]
    for labels in (*run.of(offset)[1:], *run.of(mask)[1:]):
        run.keep(labels, op, "channels are offsets of a kernel")
    here = run.of(source)[1]
    if here is not None and 1 < offset_groups < len(here):
        run.ids.tie(here, offset_groups)
    elif offset_groups > 1:
        run.keep(here, op, "channels have offsets of their own")
    return _convolved(run, op, (source, weight, bias), transposed=False, groups=groups)


def _convolved(
    run: Run, op: Operation, operands: tuple[Ref, Ref, Ref | None], *, transposed: bool, groups: int
) -> list[Dims]:
    """Filters read channels and make new ones; the parts of a grouped one stay equally wide."""
    source, weight, bias = operands
    read, shape = run.of(source), run.shape(weight)
    for labels in (*run.of(weight)[2:], *read[2:]):
        run.keep(labels, op, "channels are part of a kernel")
    first, second = _sides(run, op, weight)
    if read[1] is None:
        run.keep(second if not transposed else first, op, "channels meet what has none")
    out_channels = run.shape(op.result)[1]
    area = math.prod(run.shape(op.result if not transposed else source)[2:]) * math.prod(shape[2:])
    here = read[1] if read[1] is not None else np.full(run.shape(source)[1], BLANK)
    if groups == 1:
        reads, makes = (first, second) if transposed else (second, first)
        run.ids.unify(reads, here)
        run.read(op, source, 1)
        parts = 1
    elif groups == run.shape(source)[1]:
        makes, parts = _depthwise(run, op, here, first, second, transposed), 0
        reads = here
    else:
        reads, makes = _grouped(run, here, first, second, groups, transposed)
        run.read(op, source, 1)
        parts = groups
    run.calls.append(
        Call(op, "conv", weight.number, reads, makes, area * run.shape(source)[0] // run.program.batch, parts)
    )
    run.attribute(op, "in_channels", here)
    run.attribute(op, "out_channels", makes)
    if parts == 0:
        run.attribute(op, "groups", here)
    if bias is not None:
        run.agree(makes, run.of(bias)[0] if out_channels > 1 else makes, op)
    return [[None, makes, *[None] * (len(shape) - 2)]]


def _sides(run: Run, op: Operation, weight: Ref) -> tuple[Labels, Labels]:
    """The labels of a weight's first two dimensions; of size 1 or unknown, such as stay."""
    sides = []
    for d in (0, 1):
        labels = run.of(weight)[d]
        if labels is None:
            labels = run.ids.fresh(run.shape(weight)[d])
            run.keep(labels, op, "a layer's only channel" if len(labels) == 1 else _computed(run, weight))
            run.of(weight)[d] = labels
        sides.append(labels)
    return sides[0], sides[1]


def _computed(run: Run, weight: Ref) -> str:
    plain = "" if weight.number in run.activations else ", as by weight_norm (fold=True makes a plain one)"
    return f"read by a weight that is computed of all of them{plain}"


def _depthwise(run: Run, op: Operation, here: Labels, first: Labels, second: Labels, transposed: bool) -> Labels:
    """Each filter reads the channel that it belongs to."""
    multiplier = run.shape(op.result)[1] // len(here)
    if transposed:
        run.ids.unify(first, here)
        run.ids.freeze(second if multiplier > 1 else None, "filters of one channel")
        return np.repeat(first, multiplier)
    repeated = np.repeat(here, multiplier)
    run.ids.unify(first, repeated)
    return np.where(first == BLANK, repeated, first)  # one kernel, expanded to all channels


def _grouped(
    run: Run, here: Labels, first: Labels, second: Labels, groups: int, transposed: bool
) -> tuple[Labels, Labels]:
    part = run.ids.tie(here, groups)
    run.ids.tie(first, groups)
    if transposed:
        run.ids.unify(first, here)
        return first, np.tile(second, groups)
    run.ids.unify(second, part)
    return here, first


def matrix_product(run: Run, op: Operation) -> list[Dims]:
    """(…, n, k) by (…, k, m): a sum over k."""
    added, (one, other) = (op.args[0], op.args[1:3]) if op.name in ("addmm", "baddbmm") else (None, op.args[:2])
    left, right = run.of(one), run.of(other)
    if left[-1] is not None and right[-2] is not None:
        run.ids.unify(left[-1], right[-2])
        run.read(op, one, len(left) - 1)
    elif right[-2] is None and other.number not in run.activations:
        run.keep(left[-1], op, _computed(run, other))
    else:
        run.agree(left[-1], right[-2], op)
    batch = run.agree(left[0], right[0], op) if len(left) == 3 else None
    made: Dims = [batch, left[1], right[2]] if len(left) == 3 else [left[0], right[1]]
    here, bias = made[-1], None if added is None else run.of(added)[-1]
    if here is not None and bias is not None:
        run.ids.unify(bias, here)
    leaf = other.number in run.transposed or other.number in run.program.leaves
    of_weight = leaf or (right[-2] is not None and other.number not in run.activations)
    kind = "linear" if of_weight and all(part is None for part in made[:-1]) else "product"
    _note_product(run, op, (one, other), made, kind)
    return [made]


def vector_product(run: Run, op: Operation) -> list[Dims]:
    """(n, k) by (k,): a sum over k."""
    (rows, left), (right,) = run.of(op.args[0]), run.of(op.args[1])
    if run.agree(left, right, op) is not None:
        run.read(op, op.args[0], 1)
    return [[rows]]


def distance(run: Run, op: Operation) -> list[Dims]:
    """(…, n, k) from (…, m, k): a sum over k of what differs, which is nothing where both are zero."""
    one, other = run.of(op.args[0]), run.of(op.args[1])
    rank = len(run.shape(op.result))
    if run.agree(one[-1], other[-1], op) is not None:
        run.read(op, op.args[0], len(one) - 1)
        run.read(op, op.args[1], len(other) - 1)
    for labels in (*one[:-2], *other[:-2]):
        run.keep(labels, op, "channels are of a product whose channels are not counted")
    return [[*[None] * (rank - 2), one[-2], other[-2]]]


def _note_product(run: Run, op: Operation, factors: tuple[Ref, Ref], made: Dims, kind: str) -> None:
    """MACs are counted by what is summed over and by one dimension of the result; channels along others stay."""
    one, other = factors
    sizes, result = run.shape(one), run.shape(op.result)
    counted = next((d for d in (-1, -2) if made[d] is not None), -1)
    for d, labels in enumerate(made):
        if d != counted % len(made):
            run.keep(labels, op, "channels are of a product whose other channels are counted")
    rest = math.prod(result) // result[counted]
    inputs, outputs = run.of(one)[-1], made[counted]
    inputs = inputs if inputs is not None and run.of(other)[-2] is not None else np.full(sizes[-1], BLANK)
    outputs = outputs if outputs is not None else np.full(result[counted], BLANK)
    weight = run.transposed.get(other.number, other.number) if kind == "linear" else -1
    run.calls.append(Call(op, kind, weight, inputs, outputs, max(1, rest // run.program.batch), 1))
    if kind == "linear":
        run.attribute(op, "in_features", inputs)
        run.attribute(op, "out_features", outputs)


def recurrent(run: Run, op: Operation) -> list[Dims]:
    """An LSTM as one operation of float32 on CPUs, (T, N, channels): its first weight sums over what it reads."""
    source, weight, *others = op.args[:7]
    here = run.agree(run.of(source)[-1], run.of(weight)[1], op)
    if here is not None:
        run.read(op, source, len(run.shape(source)) - 1)
        run.attribute(op, "input_size", here)
    for labels in (*run.of(source)[:-1], run.of(weight)[0], *(part for ref in others for part in run.of(ref))):
        run.keep(labels, op, "channels are states of a recurrent layer")
    return [[None for _ in run.shape(ref)] for ref in refs(op.result)]


def _rest(run: Run, op: Operation) -> list[Dims]:
    """Statistics and the like that an operation returns after its first result."""
    return [[None for _ in run.shape(ref)] for ref in list(refs(op.result))[1:]]


def _with_parameters(run: Run, here: Labels, parameters: object) -> None:
    """A norm's scale, shift and statistics hold the channels that it reads."""
    for ref in refs(parameters):
        if (labels := run.of(ref)[0]) is not None:
            run.ids.unify(here, labels)


def attention(run: Run, op: Operation) -> list[Dims]:
    """Fused attention, (N, heads, positions, channels): scaled by its width, so queries and keys stay."""
    query, key, value = (run.of(ref) for ref in op.args[:3])
    for labels in (query[-1], key[-1], query[-2], key[-2], value[-2]):
        run.keep(labels, op, "attention is scaled by its width")
    sizes, keys = run.shape(op.args[0]), run.shape(op.args[1])
    blank = np.full(sizes[-1], BLANK)
    rest = 2 * math.prod(sizes[:-1]) * keys[-2] // run.program.batch
    run.calls.append(Call(op, "product", -1, blank, blank[:1], rest, 1))
    for labels in (value[-1], query[1], key[1], value[1]):
        run.keep(labels, op, "channels are of a product whose channels are not counted")
    heads = run.agree(run.agree(query[1], key[1], op), value[1], op)
    made: Dims = [None, heads, None, value[-1]]
    return [made, *_rest(run, op)]


def batch_norm(run: Run, op: Operation) -> list[Dims]:
    """Every channel by itself; over its own statistics, all else stays."""
    labels = run.of(op.args[0])
    here = labels[1]
    if here is not None:
        _with_parameters(run, here, op.args[1:5])
        run.attribute(op, "num_features", here)
    if op.args[5] is True:
        for other in (labels[0], *labels[2:]):
            run.keep(other, op, "channels are taken together by a norm")
    statistics: list[Dims] = [[here if size else None for size in run.shape(ref)] for ref in list(refs(op.result))[1:]]
    return [list(labels), *statistics]


def group_norm(run: Run, op: Operation) -> list[Dims]:
    """Channels of one group go together, so that the others keep their statistics."""
    source, groups = op.args[0], int(op.args[6])
    labels = list(run.of(source))
    here = labels[1]
    for other in labels[2:]:
        run.keep(other, op, "channels are taken together by a norm")
    if here is not None:
        run.ids.tie(here.reshape(groups, -1).T, len(here) // groups)
        _with_parameters(run, here, op.args[1:3])
        run.attribute(op, "num_channels", here)
        run.attribute(op, "num_groups", here[:: len(here) // groups])
    each = None if here is None else here[:: len(here) // groups]
    return [[None, here, *[None for _ in labels[2:]]], [None, each], [None, each]]


def layer_norm(run: Run, op: Operation) -> list[Dims]:
    """What is normalised together stays."""
    labels = list(run.of(op.args[0]))
    count = len(op.args[1])
    for ref in refs(op.args[2:4]):
        for part in run.of(ref):
            run.keep(part, op, "channels are taken together by a norm")
    for d in range(len(labels) - count, len(labels)):
        run.keep(labels[d], op, "channels are taken together by a norm")
        labels[d] = None
    return [labels for _ in refs(op.result)]


def weight_norm(run: Run, op: Operation) -> list[Dims]:
    """A direction over its length (torch.nn.utils.weight_norm): what the length is taken over stays."""
    direction, length, dim = run.of(op.args[0]), run.of(op.args[1]), op.argument(2, "dim", 0)
    for d, labels in enumerate(direction):
        if d != dim:
            run.keep(labels, op, "channels are taken together by a norm")
    run.agree(direction[dim], length[dim], op)
    made: Dims = [labels if d == dim else None for d, labels in enumerate(direction)]
    return [made, [labels if d == dim else None for d, labels in enumerate(direction)]]


def over_space(run: Run, op: Operation) -> list[Dims]:
    """Pools and resizing: every channel by itself, its positions together."""
    labels = run.of(op.args[0])
    spatial = next((int(at) for at in "123" if f"{at}d" in op.name), 2)
    leading = len(labels) - spatial
    for other in labels[leading:]:
        run.keep(other, op, "channels are positions of a map")
    return [[*labels[:leading], *[None] * spatial] for _ in refs(op.result)]


def fractional(run: Run, op: Operation) -> list[Dims]:
    """Pools of random sizes: each channel by itself, with random numbers of its own."""
    made = over_space(run, op)
    leading = len(made[0]) - len(op.args[1])
    fill_blanks(run.of(op.args[3])[:2], made[0][leading - 2 : leading])
    return made


def regions(run: Run, op: Operation) -> list[Dims]:
    """Regions of maps (torchvision's roi_align and roi_pool): channels as they are."""
    return [[None, run.of(op.args[0])[1], None, None] for _ in refs(op.result)]


_POOLS = (
    *("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    *("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d"),
    *("upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("grid_sampler_2d", "grid_sampler_3d"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution"), convolution),
    **{"deform_conv2d": deformed, "mkldnn_rnn_layer": recurrent},
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), matrix_product),
    **{"mv": vector_product, "_cdist_forward": distance, "_euclidean_dist": distance},
    **dict.fromkeys(("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"), attention),
    **dict.fromkeys(("native_batch_norm", "cudnn_batch_norm", "_batch_norm_no_update"), batch_norm),
    **{"native_group_norm": group_norm, "native_layer_norm": layer_norm, "_weight_norm_interface": weight_norm},
    **dict.fromkeys(_POOLS, over_space),
    **{"fractional_max_pool2d": fractional, "fractional_max_pool3d": fractional},
    **dict.fromkeys(("roi_align", "roi_pool"), regions),
}
