"""Networks as users of pruning tools bring them: each is pruned by half, and judged by hooks on the dense one."""
