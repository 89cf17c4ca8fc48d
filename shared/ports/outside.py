"""HTTP calls to addresses that users chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said."""

    status: int
    body: bytes
    """At most the first 64 KiB."""


class Outside(Protocol):
    """Call out, and never inwards."""

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout: timedelta
    ) -> Answer:
        """POST to a public https address; redirects are not followed, proxies not used.

        The name is resolved once, every address that it resolves to must be public, and the
        connection goes to the address that was checked.

        Raises:
            PermanentError: The address is refused: not https, private, loopback, link-local, ...
            TemporaryError: No answer in time, or none at all.
        """
