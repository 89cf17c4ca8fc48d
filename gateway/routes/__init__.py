"""One module per resource: parse, call a port, answer."""
