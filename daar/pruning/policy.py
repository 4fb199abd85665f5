"""What a policy is: the signature of a method's own `plan`, so that any importance can go with any policy.

plan(groups, importance, macs_target, *, macs, loss, **options) -> {group name: kept count}

groups: the groups in scope (name, size, min_kept, members).
importance: group → (size,), ≥ 0, summing to 1.
macs_target: the most MACs allowed, or None for the policy's own rate.
macs: MACs of one image for given counts; exact.
loss: calibration loss of the masked network, given group → removed indices: cross-entropy to the dense network.
returns: group → kept count, from its min_kept to its size. Pure: no state, no files.
"""

from collections.abc import Callable

Counts = dict[str, int]
Macs = Callable[[Counts], int]
Loss = Callable[[dict[str, list[int]]], float]
Policy = Callable[..., Counts]
