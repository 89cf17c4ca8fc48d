"""Identifiers: how they look, and how one follows from another."""

import hashlib
import re
from typing import NewType
from uuid import UUID

ExecutionId = NewType("ExecutionId", str)
UserId = NewType("UserId", str)
SagaId = NewType("SagaId", str)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NAMESPACE = UUID("6f1c3b52-8f0a-5d7e-9a41-0d6b2f1c7e35").bytes


def is_uuid(text: str) -> bool:
    """Say whether the text is a UUID in its usual lower-case form."""
    return _UUID.fullmatch(text) is not None


def derived_id(cause: str, step: str) -> str:
    """Return the uuid5 of a cause and a step: the same question gives the same id again.

    That is what makes a redelivery harmless: the event that it emits a second time carries the id
    of the first. Source: RFC 9562, section 5.5.
    """
    name = f"{_NAMESPACE.hex()}:{cause}:{step}".encode()
    # uuid5 is SHA-1 by definition; nothing here has to be hard to guess.
    digest = bytearray(hashlib.sha1(name, usedforsecurity=False).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def saga_id_of(execution_id: str) -> SagaId:
    """Return the id of the one saga that guards an execution."""
    return SagaId(derived_id(execution_id, "execution_saga"))


def pod_name_of(execution_id: str) -> str:
    """Return the name of the one pod that an execution may ever have."""
    return f"exec-{execution_id}"


def uuid7(value: int) -> str:
    """Return the uuid7 of 122 bits: 48 of Unix milliseconds, then 74 of anything unique.

    The texts sort as the numbers do. Source: RFC 9562, section 5.7.
    """
    high, low = value >> 62, value & 0x3FFF_FFFF_FFFF_FFFF
    time, middle = high >> 12, high & 0xFFF
    digits = f"{time << 80 | 0x7000 << 64 | middle << 64 | 0x2 << 62 | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
