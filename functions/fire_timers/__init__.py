"""Waits for the clock, decides what is due, says so, and publishes what crashes left behind."""
