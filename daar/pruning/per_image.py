"""Convs whose code folds images into channels, one group for each, as StyleGAN2's modulated conv does."""

import math
from dataclasses import replace

from daar.program.program import Program
from daar.pruning.identities import Labels
from daar.pruning.rules.run import Call


def per_image(call: Call, program: Program, roots: Labels) -> Call:
    """A call with its channels settled, those of one image where there are copies for each.

    Args:
        call: as it ran.
        program: what ran.
        roots: label → identity.
    """
    call = replace(call, inputs=roots[call.inputs], outputs=roots[call.outputs])
    images = program.batch
    if call.kind != "conv" or images == 1 or program.shapes[call.operation.args[0].number][0] != 1:
        return call
    if not _repeats(call.inputs, images) or not _repeats(call.outputs, images):
        return call
    source, weight = call.operation.args[:2]
    area = program.shapes[source.number if call.operation.args[6] else call.operation.makes()[0]][2:]
    return replace(
        call,
        inputs=call.inputs[: len(call.inputs) // images],
        outputs=call.outputs[: len(call.outputs) // images],
        unit_macs=math.prod(area) * math.prod(program.shapes[weight.number][2:]),
        groups=call.groups // images,
    )


def _repeats(labels: Labels, times: int) -> bool:
    rows = labels.reshape(times, -1) if len(labels) % times == 0 else labels[None]
    return len(rows) == times and bool((rows == rows[0]).all())
