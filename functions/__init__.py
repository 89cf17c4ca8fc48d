"""The roles of the system, one folder each, all alike: what it waits for, decides, and says."""
