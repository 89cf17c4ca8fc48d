"""What a filter means, in one place: adapters without a query engine of their own use it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from shared.ports.documents import Filter

_MISSING = object()


def lookup(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None where there is none."""
    value = _lookup(document, path)
    return None if value is _MISSING else value


def _lookup(document: Any, path: str) -> Any:
    if "." not in path:
        return document.get(path, _MISSING) if isinstance(document, Mapping) else _MISSING
    value = document
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _kind(value: Any) -> type | None:
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    for kind in (str, bytes, datetime):
        if isinstance(value, kind):
            return kind
    return None


def _equal(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return value is _MISSING or value is None
    if value is _MISSING:
        return False
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_equal(item, wanted) for item in value)
    if isinstance(value, bool) is not isinstance(wanted, bool):
        return False
    return bool(value == wanted)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, bound: Any) -> bool:
        kind = _kind(value)
        return kind is not None and kind is _kind(bound) and compare(value, bound)

    return test


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda value, wanted: not _equal(value, wanted),
    "$in": lambda value, wanted: any(_equal(value, one) for one in wanted),
    "$nin": lambda value, wanted: not any(_equal(value, one) for one in wanted),
    "$lt": _ordered(lambda value, bound: value < bound),
    "$lte": _ordered(lambda value, bound: value <= bound),
    "$gt": _ordered(lambda value, bound: value > bound),
    "$gte": _ordered(lambda value, bound: value >= bound),
    "$exists": lambda value, wanted: (value is not _MISSING) is wanted,
}


def is_operators(condition: Any) -> bool:
    """Say whether a field's condition is a set of operators, not a value to be equal to."""
    return (
        isinstance(condition, Mapping)
        and bool(condition)
        and all(isinstance(name, str) and name.startswith("$") for name in condition)
    )


def matches(document: Mapping[str, Any], where: Filter | None) -> bool:
    """Say whether a document matches a filter of the subset in `shared.ports.documents`.

    Raises:
        ValueError: An operator that is not in the subset.
    """
    for field, condition in (where or {}).items():
        if field == "$and":
            if not all(matches(document, part) for part in condition):
                return False
        elif field == "$or":
            if not any(matches(document, part) for part in condition):
                return False
        elif not _field_matches(_lookup(document, field), condition):
            return False
    return True


def _field_matches(value: Any, condition: Any) -> bool:
    if not is_operators(condition):
        return _equal(value, condition)
    for name, operand in condition.items():
        operator = _OPERATORS.get(name)
        if operator is None:
            raise ValueError(f"the operator {name} is not in the subset of filters")
        if not operator(value, operand):
            return False
    return True


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a key that orders values of any kinds: missing first, then numbers, texts, ..."""
    kind = _kind(value)
    order: dict[type | None, int] = {None: 0, float: 1, str: 2, bytes: 3, bool: 4, datetime: 5}
    return (order[kind], value if kind is not None else 0)
