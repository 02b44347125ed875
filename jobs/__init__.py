"""Thin entry points: what can be run, from the command line or by `ray job submit`."""
