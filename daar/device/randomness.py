"""Random numbers as a function of names and numbers: no generator state is ever kept or stored."""

import hashlib

import torch


def derive(*axes: str | int) -> int:
    """A 56-bit seed for the named axes, e.g. ("order", seed, epoch); different axes give unrelated seeds."""
    name = "/".join(map(str, axes))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def generator(*axes: str | int) -> torch.Generator:
    """A generator seeded for the named axes; on the CPU, so that all devices draw the same numbers."""
    return torch.Generator().manual_seed(derive(*axes))
