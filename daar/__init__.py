"""Daar: a reproducible benchmark suite for CNN filter pruning."""

__version__ = "0.1.0"
