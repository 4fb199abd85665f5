"""What a run computes on: processors and GPUs, their sharing, precision, random numbers, several processes."""
