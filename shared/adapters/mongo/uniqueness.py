"""Unique indexes that count only documents which have all of their fields.

A sparse index counts a document that has any of its fields, if only as None; a partial one is of no
use to a query for the first field alone, nor is it applied by every server that speaks MongoDB's
protocol. So the index has one field more, which only documents have that lack one of the others:
their own key, which makes them differ from everybody.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.ports.documents import Collection, Index

INCOMPLETE = "incomplete"
"""The field that holds these marks, one for each index."""


class Uniqueness:
    """The marks of one collection. No field of such an index may have a dot."""

    def __init__(self, collection: Collection) -> None:
        """Look at the unique indexes."""
        self._indexes = [index for index in collection.indexes if index.unique]
        self.fields = tuple(dict.fromkeys(f for i in self._indexes for f in i.fields))

    def marks(self, key: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is stored besides the fields of a new document."""
        present = self._present(document)
        incomplete = [index for index in self._indexes if not _is_whole(index, present)]
        # One without any of the fields is in no sparse index anyway.
        marked = [i for i in incomplete if not document.keys().isdisjoint(i.fields)]
        return {INCOMPLETE: {_name_of(index): key for index in marked}} if marked else {}

    def is_touched(self, paths: Iterable[str]) -> bool:
        """Say whether a change of these paths may complete a document, or the contrary."""
        return any(path in self.fields for path in paths)

    def remarked(
        self, key: str, seen: Mapping[str, Any], changes: Mapping[str, Any], unset: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Return how marks follow a change of a document that was seen.

        A query for it as long as it still has the same fields, the marks to set, those to unset.
        """
        present = self._present(seen)
        still = {"$and": [{name: {"$ne": None} if has else None} for name, has in present.items()]}
        after = present | {name: changes[name] is not None for name in present if name in changes}
        after |= dict.fromkeys(present.keys() & set(unset), False)
        marked = {mark_of(index): key for index in self._indexes if not _is_whole(index, after)}
        return still, marked, [mark_of(i) for i in self._indexes if mark_of(i) not in marked]

    def _present(self, document: Mapping[str, Any]) -> dict[str, bool]:
        # None is as good as missing, as it is in a filter.
        return {field: document.get(field) is not None for field in self.fields}


def mark_of(index: Index) -> str:
    """Return the path of the mark of an index."""
    return f"{INCOMPLETE}.{_name_of(index)}"


def is_mark(path: str) -> bool:
    """Say whether a path is that of a mark, not of a field."""
    return path.startswith(f"{INCOMPLETE}.")


def _name_of(index: Index) -> str:
    return "_".join(index.fields)


def _is_whole(index: Index, present: Mapping[str, bool]) -> bool:
    return all(present[field] for field in index.fields)
