"""What a run computes on: CPUs and GPUs, how jobs share them, precision, random numbers, several processes."""
