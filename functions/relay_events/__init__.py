"""Waits for every event about executions and users, decides its number in the history, stores it and nudges the streams."""
