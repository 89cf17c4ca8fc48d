"""Waits for events that could not be handled, decides when each is retried or given up, says so."""
