"""A suite: one experiment file, read, checked, and as frozen dataclasses. Imports neither torch nor numpy."""
