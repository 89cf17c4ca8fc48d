"""Waits for scheduled executions and for orders to clean up, decides nothing, says what it made and removed."""
