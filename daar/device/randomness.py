"""All randomness is a function of names and numbers: no generator's state is ever carried along."""

import hashlib

import torch


def derive(*axes: str | int) -> int:
    """A seed of 56 bits for the named axes, e.g. ("order", seed, epoch); other axes give unrelated seeds."""
    name = "/".join(map(str, axes))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def generator(*axes: str | int) -> torch.Generator:
    """A CPU generator seeded for the named axes; on the CPU so that every device draws the same."""
    return torch.Generator().manual_seed(derive(*axes))
