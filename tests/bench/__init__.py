"""Measures a bare interpreter, a sandboxed one, and this system beside them, in the same minutes.

`python -m tests.bench` is the whole run. What it starts are real server processes on data
directories of their own; what it reports are ratios to the floor of the same run, because a shared
machine has no absolute figures.
"""
