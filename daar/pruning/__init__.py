"""Pruning: which channels belong together, how many stay, and the really slimmed network."""
