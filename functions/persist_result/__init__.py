"""Waits for what pods did, decides which end counts, says that the result is stored."""
