"""Waits for the clock, decides which deadlines are due, says so, and publishes what crashes left behind."""
