"""Running a suite: whether it can, how long it takes, which kept records it reuses, and one record again."""
