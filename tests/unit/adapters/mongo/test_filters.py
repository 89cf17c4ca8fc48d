"""Filters of the port as queries of MongoDB."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.adapters.mongo.filters import both, query_of
from shared.ports.documents import Filter

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("where", "query"),
    [
        pytest.param(None, {}, id="none"),
        pytest.param({"a": 1, "b.c": None}, {"a": 1, "b.c": None}, id="values"),
        pytest.param({"a": {"$gt": 1, "$lte": NOW}}, {"a": {"$gt": 1, "$lte": NOW}}, id="range"),
        pytest.param({"a": {"$in": ("x", "y")}}, {"a": {"$in": ["x", "y"]}}, id="tuple"),
        pytest.param({"a": {"$nin": {"x"}}}, {"a": {"$nin": ["x"]}}, id="set"),
        pytest.param({"a": {"x": 1}}, {"a": {"$eq": {"x": 1}}}, id="object"),
        pytest.param({"a": {}}, {"a": {"$eq": {}}}, id="empty object"),
        pytest.param({"a": {"$x": 1, "y": 2}}, {"a": {"$eq": {"$x": 1, "y": 2}}}, id="mixed"),
        pytest.param({"$and": [{"a": 1}]}, {"$and": [{"a": 1}]}, id="and"),
        pytest.param({"$and": []}, {}, id="all of nothing"),
        pytest.param({"$or": []}, {"$or": [{"_id": {"$in": []}}]}, id="one of nothing"),
        pytest.param({"a": {"$gt": None}}, {"a": {"$in": []}}, id="nothing is above none"),
        pytest.param({"a": {"$lt": [1]}}, {"a": {"$in": []}}, id="nothing is below a list"),
    ],
)
def test_a_filter_is_nearly_a_query(where: Filter | None, query: dict[str, Any]) -> None:
    """Only what the server reads otherwise than the port is said in other words."""
    assert query_of(where) == query


@pytest.mark.parametrize(
    "where",
    [
        {"a": {"$regex": "^x"}},
        {"a": {"$ne": 1, "$where": "sleep(1000)"}},
        {"$where": "sleep(1000)"},
        {"$nor": [{"a": 1}]},
        {"$or": [{"a": 1}, {"$expr": {"$eq": [1, 1]}}]},
    ],
)
def test_what_the_server_knows_besides_is_refused(where: Filter) -> None:
    """A condition that slipped in from a request would be run by the server."""
    with pytest.raises(ValueError, match="not in the subset"):
        query_of(where)


def test_two_queries_that_name_one_field_both_hold() -> None:
    """Neither takes the place of the other."""
    assert both({"_id": "a"}, {"_id": "b", "n": 1}) == {
        "$and": [{"_id": "a"}, {"_id": "b", "n": 1}]
    }
    assert both({"_id": "a"}, {"n": 1}) == {"_id": "a", "n": 1}
