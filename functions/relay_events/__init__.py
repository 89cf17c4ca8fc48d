"""Waits for every event, decides its number in the history, stores it and nudges the streams."""
