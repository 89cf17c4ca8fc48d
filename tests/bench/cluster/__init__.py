"""Measures the system on the real engines, and a bare client's pods beside it, in the same minutes.

`python -m tests.bench.cluster` is the whole run, on the engines of the tests.
"""
