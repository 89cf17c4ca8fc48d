"""The canary's own pod: made, waited for, read, removed."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from shared.adapters.kubernetes import canary, evidence, job, objects
from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.canary import Found
from shared.adapters.kubernetes.frames import Frame, Printed
from shared.adapters.kubernetes.logs import PodLogs
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.domain.errors import StartupError, TemporaryError
from shared.ports.clock import Clock

_SECONDS: Final = 60.0
_LOOK_EVERY: Final = timedelta(milliseconds=200)


class Trial:
    """One canary."""

    def __init__(
        self,
        api: ApiServer,
        pods: str,
        config_maps: str,
        options: KubernetesOptions,
        clock: Clock,
    ) -> None:
        """Prepare."""
        self._api = api
        self._options = options
        self._clock = clock
        self._logs = PodLogs(api, pods)
        self._name = f"canary-{secrets.token_hex(4)}"
        self._config_maps = config_maps
        self._pods = pods
        self._pod = f"{pods}/{self._name}"
        self._config_map = f"{config_maps}/{self._name}"

    async def run(self, targets: Mapping[str, str], *, program: bytes, call_filter: bytes) -> Found:
        """Let it try, and return what it found.

        Raises:
            StartupError: Its container cannot be started here.
            TemporaryError: It did not come to its end.
        """
        spec = canary.spec(self._name, self._options.canary_image, targets)
        work = job.job_of(spec, is_filtered=True, uid=self._options.uid)
        inputs = objects.inputs_of(spec, work, program=program, call_filter=call_filter)
        pod = objects.as_canary(objects.pod(spec, inputs, self._options, secrets.token_hex(16)))
        pod["spec"]["activeDeadlineSeconds"] = round(_SECONDS)
        try:
            await self._api.make(
                self._config_maps, objects.as_canary(objects.config_map(spec, inputs))
            )
            await self._api.make(self._pods, pod)
            await self._end()
            found = canary.found_in(await self._output())
        finally:
            await self._api.remove(self._pod, grace_seconds=0)
            await self._api.remove(self._config_map)
        if not found.is_whole:
            raise TemporaryError("The canary did not come to its end.")
        return found

    async def _end(self) -> None:
        """Wait until it is over."""
        try:
            async with asyncio.timeout(_SECONDS):
                while not self._is_over(await self._api.get(self._pod)):
                    await self._clock.sleep(_LOOK_EVERY)
        except TimeoutError as error:
            raise TemporaryError("The canary did not end in time.") from error

    def _is_over(self, pod: Mapping[str, Any] | None) -> bool:
        if pod is None:
            raise TemporaryError("Somebody removed the canary.")
        if evidence.patience(pod) is not None:
            raise StartupError(
                f"The canary's container cannot be started: {evidence.waiting_message(pod)}",
                remedy=f"Let the nodes have the image {self._options.canary_image}.",
            )
        return evidence.has_ended(pod)

    async def _output(self) -> bytes:
        output = bytearray()

        async def take(frame: Frame) -> bool:
            if isinstance(frame, Printed):
                output.extend(frame.data)
            return True

        await self._logs.read(self._name, take, is_over=True)
        return bytes(output)
