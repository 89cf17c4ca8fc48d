"""Waits for requests, decides whether each is valid and has room, says that it was accepted."""
