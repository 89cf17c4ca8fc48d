"""A clock that is advanced by hand, and ids that repeat: for scenarios and simulation."""
