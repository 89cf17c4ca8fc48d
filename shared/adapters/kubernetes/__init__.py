"""Runs every execution in a pod of its own: objects, their fate, their output."""
