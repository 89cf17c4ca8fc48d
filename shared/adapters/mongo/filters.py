"""The port's filters as queries: nearly the same words, but only those of the subset."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.ports.documents import Filter
from shared.ports.filters import is_operators

_NOTHING: Mapping[str, Any] = {"$in": []}
"""The condition that no value meets."""
_COMPARED = (bool, int, float, str, bytes, datetime)
_LISTS = frozenset({"$in", "$nin"})
_COMPARISONS = frozenset({"$lt", "$lte", "$gt", "$gte"})
_PLAIN = frozenset({"$eq", "$ne", "$exists"})


def query_of(where: Filter | None) -> dict[str, Any]:
    """Return the query that finds what a filter matches.

    What the server knows beyond the subset is refused: a condition that came from a request would
    otherwise be executed.

    Raises:
        ValueError: An operator that is not in the subset.
    """
    query: dict[str, Any] = {}
    for field, condition in (where or {}).items():
        if field == "$and":
            if condition:
                query["$and"] = [query_of(part) for part in condition]
        elif field == "$or":
            # The server takes no empty list; no part is no match.
            query |= {"$or": [query_of(part) for part in condition] or [{"_id": _NOTHING}]}
        elif field.startswith("$"):
            raise _unknown(field)
        else:
            query[field] = _condition(condition)
    return query


def both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query that finds what two queries both find."""
    if one.keys().isdisjoint(other):
        return {**one, **other}
    return {"$and": [one, other]}


def _condition(condition: Any) -> Any:
    if is_operators(condition):
        return _operators(condition)
    if isinstance(condition, Mapping):
        # Said as an operator, an object is compared even where its keys begin with a dollar.
        return {"$eq": condition}
    return condition


def _operators(condition: Mapping[str, Any]) -> dict[str, Any]:
    operators: dict[str, Any] = {}
    for name, operand in condition.items():
        if name in _LISTS:
            operators[name] = list(operand)
        elif name in _COMPARISONS:
            if not isinstance(operand, _COMPARED):
                return dict(_NOTHING)
            operators[name] = operand
        elif name in _PLAIN:
            operators[name] = operand
        else:
            raise _unknown(name)
    return operators


def _unknown(name: str) -> ValueError:
    return ValueError(f"the operator {name} is not in the subset of filters")
