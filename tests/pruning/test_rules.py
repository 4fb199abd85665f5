"""Every rule is met by a network that is pruned exactly or kept with a reason, and none is for nothing."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

from daar.program.recording import recorded
from daar.pruning.rules import RULES
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning import (
    test_rules_layers,
    test_rules_moves,
    test_rules_pointwise,
    test_rules_sampling,
    test_rules_space,
)
from tests.pruning.one_operation import IMAGES, network
from tests.pruning.test_draws import DRAWN_BETWEEN
from tests.pruning.test_draws import network as drawing
from tests.pruning.test_groups import Net, conv, head
from tests.pruning.test_rules_kept import FIXED, KEPT
from tests.pruning.test_rules_layers import normed_sideways, prototypes

PRUNED = [
    module.PRUNED
    for module in (
        test_rules_layers,
        test_rules_moves,
        test_rules_pointwise,
        test_rules_sampling,
        test_rules_space,
    )
]


def composite(function: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"))


def overloads(name: str) -> list[Any]:
    """Overloads of an operation and of its form in place, but for those that write into what is given."""
    packets = [
        getattr(space, f"{name}{end}", None) for space in (torch.ops.aten, torch.ops.torchvision) for end in ("", "_")
    ]
    every = [getattr(packet, overload) for packet in packets if packet is not None for overload in packet.overloads()]
    kept = []
    for function in every:
        try:
            composite(function)
        except RuntimeError:  # torch lists it, but TorchScript alone has it
            continue
        if not any(argument.is_out for argument in function._schema.arguments):
            kept.append(function)
    return kept


# run on CUDA alone, or by older versions of torch
ELSEWHERE = {
    *("cudnn_batch_norm", "_scaled_dot_product_flash_attention", "_batch_norm_no_update", "_reshape_alias"),
}
# torch has a decomposition, but runs this on CPUs
ON_CPUS = {"native_channel_shuffle"}
# of weights that take no gradients
WITHOUT_GRADIENTS = {"_embedding_bag_forward_only"}
# what dropout runs on GPUs, or where gradients are taken
ON_GPUS = {"native_dropout"}


def test_no_rule_is_for_what_torch_always_decomposes_or_does_not_have() -> None:
    dead = {name for name in RULES if all(map(composite, overloads(name)))}
    assert dead - ELSEWHERE == ON_CPUS


def test_every_rule_is_met_by_a_network_here() -> None:
    """Each of which is pruned exactly, or kept with a reason, by the tests above."""
    networks = [network(case[0]) for cases in (*PRUNED, KEPT, FIXED) for case in cases.values()]
    networks += [drawing(draw) for draw in DRAWN_BETWEEN.values()]
    normed = Net(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 8), head=nn.Linear(8, 2))
    parametrizations.weight_norm(normed.get_submodule("b"))
    programs = [
        recorded(net, torch.randn(IMAGES))
        for net in (*networks, normed, normed_sideways(), prototypes(4), prototypes(40))
    ]
    names = {operation.name for program in programs for operation in program.operations}
    met = names | {name[:-1] for name in names if name.endswith("_")}
    assert set(RULES) - met == ELSEWHERE | ON_GPUS | WITHOUT_GRADIENTS
