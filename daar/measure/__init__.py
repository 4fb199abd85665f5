"""Measure a network: accuracy, MACs, parameters, latency; and export it."""
