"""Runs each script in a bubblewrap sandbox on this very machine."""
