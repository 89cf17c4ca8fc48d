"""Password hashes: argon2id, a few at a time, in threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.settings import GatewaySettings
from shared.domain.errors import TemporaryError

_AT_ONCE = 2
"""Each hash takes 64 MiB and a core for a while: more at once would starve everything else."""
_WAITING = 128


class Passwords:
    """Hashes and checks. Every check costs the same, whether there is a hash to compare or not."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Choose the cost."""
        if settings.password_cost == "least":  # noqa: S105 - a cost, no password
            self._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        else:
            self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._waiting = 0
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to store.

        Raises:
            TemporaryError: Too many wait for their turn.
        """
        return await self._run(password, None)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Say whether the password belongs to the hash; None takes as long and says no.

        Raises:
            TemporaryError: Too many wait for their turn.
        """
        if self._dummy is None:
            self._dummy = await self.hash("a password that nobody has")
        found = await self._run(password, password_hash or self._dummy)
        return password_hash is not None and found != ""

    def is_outdated(self, password_hash: str) -> bool:
        """Say whether the hash was made at a lower cost than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, password: str, password_hash: str | None) -> str:
        if self._waiting >= _WAITING:
            raise TemporaryError("too many sign-ins at once", retry_after=timedelta(seconds=2))
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._compute, password, password_hash
            )
        finally:
            self._waiting -= 1

    def _compute(self, password: str, password_hash: str | None) -> str:
        """Return a new hash, or the given one if the password belongs to it, else nothing."""
        if password_hash is None:
            return self._hasher.hash(password)
        try:
            self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return ""
        return password_hash
