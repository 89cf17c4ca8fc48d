"""Our documents as BSON, and back: the same types, the same instants, nothing refused late."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import bson
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from shared.domain.errors import PermanentError
from shared.ports.documents import Document

_SHOWN = 120
"""Characters of a driver's complaint that are passed on; the rest may be somebody's script."""
UNWRITABLE = (bson.errors.BSONError, OverflowError, UnicodeEncodeError, RecursionError)
"""What the driver raises for a value that BSON cannot hold."""


class _WholeNumbers(TypeDecoder):
    """Gives back the driver's class for 64 bits as the plain int that it was."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        """Return the number."""
        return int(value)


CODEC: CodecOptions[Document] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=UTC,
    type_registry=TypeRegistry([_WholeNumbers()]),
)
"""How documents are written and read: times aware in UTC, cut to the millisecond."""


def pack(document: Mapping[str, Any]) -> RawBSONDocument:
    """Return a document as the server will store it.

    Raises:
        PermanentError: It has a key with a dot, or a value that BSON cannot hold.
    """
    refuse_dots(document)
    try:
        return RawBSONDocument(bson.encode(document, codec_options=CODEC))
    except (*UNWRITABLE, ValueError) as error:
        raise unwritable(error) from error


def unpack(packed: RawBSONDocument) -> Document:
    """Return what a reader of a packed document will be given."""
    return bson.decode(packed.raw, CODEC)


def refuse_dots(value: Any) -> None:
    """Make sure that every key can be reached by a dotted path.

    Raises:
        PermanentError: One has a dot itself.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str) and "." in name:
                raise PermanentError(f"a document's key has a dot: {name[:_SHOWN]!r}")
            if isinstance(inner, (Mapping, list, tuple)):
                refuse_dots(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                refuse_dots(inner)


def unwritable(error: Exception) -> PermanentError:
    """Return what a value that BSON cannot hold is to its writer."""
    return PermanentError(f"a document cannot hold this: {str(error)[:_SHOWN]}")
