"""This machine's clock and its source of ids."""
