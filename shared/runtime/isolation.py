"""The proof that scripts reach nothing, without which a process starts none of them."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from shared.domain.errors import AlreadyExists, PermanentError, StartupError
from shared.ports.clock import Clock
from shared.ports.documents import Documents

_LOG = logging.getLogger(__name__)
_HOLDS = timedelta(hours=1)
"""How long a proof counts; a canary costs a start two seconds."""

Canary = Callable[[], Awaitable[Sequence[str]]]
"""Returns what a pod like those of scripts can reach."""


class IsolationProof:
    """Sends a canary ahead of the scripts, or trusts one that another process sent before.

    What was found is kept for all processes of the namespace: otherwise each start from zero would
    wait for a pod. Only a good end is trusted, or a bad one that was accepted: who mends a policy
    need not wait until an old finding has been forgotten.
    """

    def __init__(
        self,
        canary: Canary,
        *,
        under: str,
        proofs: Documents,
        clock: Clock,
        accept_no_policy: bool,
    ) -> None:
        """Prepare; `under` names the conditions that the proof holds for."""
        self._canary = canary
        self._key = f"isolation:{under}"
        self._proofs = proofs
        self._clock = clock
        self._accept_no_policy = accept_no_policy
        self.is_pending = False
        """Whether scripts wait for it."""

    async def bring(self) -> None:
        """Return once a canary has failed to reach anything, or its escape is accepted.

        Raises:
            StartupError: The canary got out, or may not even be sent.
            TemporaryError: An engine gave no answer.
        """
        self.is_pending = True
        try:
            reached = await self._reached()
        except PermanentError as error:
            raise StartupError(
                f"The isolation of scripts cannot be tested: {str(error).rstrip('.')}.",
                remedy="Apply knative/00-namespace.yaml, 10-accounts.yaml and 20-policies.yaml.",
            ) from error
        if reached:
            self._judge(reached)
        self.is_pending = False

    async def _reached(self) -> Sequence[str]:
        now = self._clock.now()
        known = await self._proofs.get(self._key)
        if known is not None and now - known["at"] < _HOLDS:
            reached: Sequence[str] = known["reached"]
            if not reached or self._accept_no_policy:
                return reached
        return await self._look(is_known=known is not None)

    async def _look(self, *, is_known: bool) -> Sequence[str]:
        reached = sorted(await self._canary())
        found = {"at": self._clock.now(), "reached": reached}
        if is_known:
            await self._proofs.change(self._key, set=found)
        else:
            with suppress(AlreadyExists):  # another process was as quick
                await self._proofs.insert(self._key, found)
        return reached

    def _judge(self, reached: Sequence[str]) -> None:
        told = ", ".join(reached)
        if not self._accept_no_policy:
            raise StartupError(
                f"A pod like those of scripts reached what it must not: {told}.",
                remedy="Use a network plugin that enforces NetworkPolicy and apply"
                " knative/20-policies.yaml; or take sockets from scripts with"
                " INTEGR8S_INTERNET_SOCKETS=false; or accept it with"
                " INTEGR8S_ACCEPT_NO_POLICY=true.",
            )
        _LOG.warning("scripts are NOT cut off from the network: a canary reached %s", told)
