"""One folder per engine: how a port's promise is kept there."""
