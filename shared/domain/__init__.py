"""Values, identifiers, errors, and the rules that more than one function needs; no input or output."""
