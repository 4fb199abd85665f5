"""Networks on disk: ours, and weights that others have published."""
