"""Checkpoints: ours, and published weights in other forms."""
