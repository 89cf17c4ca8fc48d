"""Guessing is slowed down: failures are counted per name and address, and per name."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import AddressValueError, IPv6Address
from typing import Protocol

from gateway.settings import GatewaySettings
from shared.domain.errors import AlreadyExists, TemporaryError
from shared.ports.clock import Clock
from shared.ports.documents import Documents
from shared.ports.signals import Signals


class _Counts(Protocol):
    """Counts of failures, each forgotten when nothing was added for the time of a lock."""

    async def read(self, key: str) -> int:
        """Return a count."""

    async def add(self, key: str) -> int:
        """Count one up and begin the wait anew; return the count."""

    async def clear(self, key: str) -> None:
        """Forget a count."""


class _SignalCounts:
    """Counts in the signals: quick, and forgotten by themselves."""

    def __init__(self, signals: Signals, wait: timedelta) -> None:
        self._signals = signals
        self._wait = wait

    async def read(self, key: str) -> int:
        return int(await self._signals.get(key) or 0)

    async def add(self, key: str) -> int:
        count = await self._signals.increment(key, expires=self._wait)
        # Only the first increment starts the expiry, and each failure has to refresh it. Another
        # process that counts between the two calls is overwritten: one guess more, no lock less.
        await self._signals.put(key, str(count).encode(), expires=self._wait)
        return count

    async def clear(self, key: str) -> None:
        await self._signals.delete(key)


class _DocumentCounts:
    """Counts in documents with an expiry, for as long as the signals are away."""

    def __init__(self, documents: Documents, clock: Clock, wait: timedelta) -> None:
        self._documents = documents
        self._clock = clock
        self._wait = wait

    async def read(self, key: str) -> int:
        document = await self._documents.get(key)
        if document is None or document["expires_at"] <= self._clock.now():
            return 0
        return int(document["count"])

    async def add(self, key: str) -> int:
        while True:
            now = self._clock.now()
            document = await self._documents.get(key)
            if document is None:
                fresh = {"count": 1, "created_at": now, "expires_at": now + self._wait}
                try:
                    await self._documents.insert(key, fresh)
                except AlreadyExists:
                    continue
                return 1
            count = int(document["count"]) + 1 if document["expires_at"] > now else 1
            changed = await self._documents.change(
                key,
                when={"version": document["version"]},
                set={"count": count, "expires_at": now + self._wait},
            )
            if changed is not None:
                return count

    async def clear(self, key: str) -> None:
        await self._documents.delete(key)


class _Turn:
    """A lock and how many hold or wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Lockout:
    """Decides whether somebody may try a password.

    A stranger's failures lock the name only at the stranger's address; from very many addresses
    together they lock it where its owner never signed in. So nobody can lock an owner out.
    """

    def __init__(
        self, *, signals: Signals, documents: Documents, clock: Clock, settings: GatewaySettings
    ) -> None:
        """Count in the signals, and in the documents while the signals are away."""
        self._signals: _Counts = _SignalCounts(signals, settings.lockout_time)
        self._documents: _Counts = _DocumentCounts(documents, clock, settings.lockout_time)
        self._settings = settings
        self._turns: dict[str, _Turn] = {}
        self.wait = settings.lockout_time

    @asynccontextmanager
    async def turn(self, name_hash: str, address: str) -> AsyncIterator[None]:
        """Let one password at a time be tried for a name at an address.

        Otherwise a hundred guesses sent at once would all be checked before the first is counted.
        """
        key = _pair(name_hash, address)
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def is_locked(self, name_hash: str, address: str) -> bool:
        """Say whether the name has to wait at this address."""
        return await self._read(_pair(name_hash, address)) >= self._settings.max_login_attempts

    async def is_name_locked(self, name_hash: str) -> bool:
        """Say whether the name has to wait at addresses where it never signed in."""
        return await self._read(_name(name_hash)) >= self._settings.max_login_attempts_of_name

    async def failed(self, name_hash: str, address: str) -> bool:
        """Count a failure; say whether it was the one that locks."""
        await self._add(_name(name_hash))
        return await self._add(_pair(name_hash, address)) >= self._settings.max_login_attempts

    async def succeeded(self, name_hash: str, address: str) -> None:
        """Forget the failures of this name at this address, and over all."""
        for key in (_pair(name_hash, address), _name(name_hash)):
            if await self._read(key):
                await self._clear(key)

    async def _read(self, key: str) -> int:
        # Both are asked: a count made while the signals were away still holds when they are back.
        stored = await self._documents.read(key)
        try:
            return max(stored, await self._signals.read(key))
        except TemporaryError:
            return stored

    async def _add(self, key: str) -> int:
        try:
            return await self._signals.add(key)
        except TemporaryError:
            return await self._documents.add(key)

    async def _clear(self, key: str) -> None:
        await self._documents.clear(key)
        try:
            await self._signals.clear(key)
        except TemporaryError:
            return


def _pair(name_hash: str, address: str) -> str:
    """Return the key of a name at an address; hashed, since an address is personal data."""
    digest = hashlib.sha256(f"{name_hash} {_network(address)}".encode()).hexdigest()
    return f"lockout:attempts:{digest}"


def _name(name_hash: str) -> str:
    return f"lockout:attempts:name:{name_hash}"


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64, which one subscriber commonly has."""
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
