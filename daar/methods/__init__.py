"""The methods, discovered by their files; the only place that loads one."""
