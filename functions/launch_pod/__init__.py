"""Waits for scheduled executions and orders to clean up, decides nothing, says what it removed."""
