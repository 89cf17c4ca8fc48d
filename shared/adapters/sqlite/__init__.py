"""Log and documents in one SQLite file, for one process on one machine."""
