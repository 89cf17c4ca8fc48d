"""Values, identifiers, errors, and rules that several functions need; no input or output."""
