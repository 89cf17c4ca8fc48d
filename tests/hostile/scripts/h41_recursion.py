# mypy: ignore-errors
"""Calls itself without end."""


def again() -> None:
    """Go deeper."""
    again()


again()
