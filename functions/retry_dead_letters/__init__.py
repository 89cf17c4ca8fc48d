"""Waits for events that could not be handled, decides when each is tried again or given up, says so."""
