"""Running a suite: whether it can, how long it takes, which kept records stand for settings, and one record again."""
