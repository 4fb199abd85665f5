"""The methods that there are, found by their files; the only place that loads one."""
