"""Waits for a request, decides whether it is valid and whether there is room, says that it was accepted."""
