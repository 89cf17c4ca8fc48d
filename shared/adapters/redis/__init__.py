"""Signals on Redis, and a redis-server of our own where the machine runs none."""
