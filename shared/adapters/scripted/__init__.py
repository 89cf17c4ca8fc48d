"""A cluster that does what it is told: pods by script, on any clock, for tests."""
