"""Measuring: accuracy, MACs and parameters of the network as it is."""
