"""The `Cluster` port on Kubernetes: one ConfigMap and one pod for each execution."""

import asyncio
import logging
import math
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2

from shared.adapters.kubernetes import canary, credentials, evidence, job, objects
from shared.adapters.kubernetes.api import STRATEGIC, Answer, ApiServer
from shared.adapters.kubernetes.evidence import Manifest
from shared.adapters.kubernetes.logs import PodLogs
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.adapters.kubernetes.trial import Trial
from shared.adapters.kubernetes.watch import Watch
from shared.adapters.native import build, seccomp
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import Isolation, Pod, PodOutput, PodSpec

__all__ = ["KubernetesCluster", "KubernetesOptions"]

_LOG = logging.getLogger(__name__)

_ENTRY: Final = Path(__file__).with_name("entry.c")
_LARGEST_PROGRAM_BYTES: Final = 128 * 1024
"""What a ConfigMap has left beside the largest inputs that are accepted."""
_CREATIONS_AT_ONCE: Final = 10
_CREATION_SECONDS: Final = 20.0
_NAMES_REMEMBERED: Final = 10_000


class KubernetesCluster:
    """Runs every execution as a pod, through the API server alone.

    Used from one event loop. Several processes may do so at once: names are what they agree by.
    """

    def __init__(
        self,
        options: KubernetesOptions,
        *,
        clock: Clock,
        api: ApiServer | None = None,
    ) -> None:
        """Prepare; nothing is asked of the API server yet.

        Args:
            options: The deployment's choices.
            clock: Waiting, and wall time for what is shown.
            api: The API server; found where this process runs if not given.

        Raises:
            StartupError: The namespace is refused, or there is no way to the API server.
        """
        if options.namespace == "default":
            raise StartupError(
                "Executions may not run in the namespace `default`.",
                remedy="Give them one of their own, with quota and network policy, and name it in"
                " INTEGR8S_NAMESPACE.",
            )
        self._options = options
        self._clock = clock
        self._api = api or ApiServer(credentials.find(options.kubeconfig))
        base = f"/api/v1/namespaces/{options.namespace}"
        self._pods, self._config_maps = f"{base}/pods", f"{base}/configmaps"
        self._logs = PodLogs(self._api, self._pods)
        self._creating = asyncio.Semaphore(_CREATIONS_AT_ONCE)
        self._tools: tuple[bytes, bytes] | None = None
        self._used_up: OrderedDict[str, None] = OrderedDict()
        """Names that this process deleted, the newest: a late `create` makes no second pod."""
        self._told: dict[str, Pod] = {}
        """Ends that a watch of this process has said, by uid: the log is quicker than the node."""
        self._found: canary.Found | None = None

    @property
    def namespace(self) -> str:
        """Where the pods are."""
        return self._options.namespace

    async def ping(self) -> None:
        """Return if the API server answers and lets us see pods.

        Raises:
            PermanentError: It answers, and does not.
            TemporaryError: It gives no answer.
        """
        try:
            await self._api.call("GET", f"{self._pods}/integr8s")
        except Answer as answer:
            if answer.status == httpx2.codes.FORBIDDEN:
                raise PermanentError(str(answer)) from answer
            if not answer.is_gone:
                raise answer.as_ours() from answer

    async def close(self) -> None:
        """Let go of every connection."""
        await self._api.close()

    # ------------------------------------------------------------------------------------ create

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist, its inputs first.

        A request that comes late does no harm: a pod whose inputs were removed meanwhile cannot
        start, and is removed again here. What remains possible is a second run of a name that
        another process deleted, or that this one deleted before it was started anew, if all of
        this call comes after that delete. The launcher asks the execution's state before.

        Raises:
            TemporaryError: No capacity, no answer, or it took too long to be sure of.
            PermanentError: It can never be made here.
        """
        begun = self._clock.monotonic()
        runtime = spec.runtime
        if runtime.version not in self._options.offer.versions(runtime.language):
            raise PermanentError(f"{runtime.language} {runtime.version} has no image here.")
        work = job.job_of(spec, is_filtered=True, uid=self._options.uid)
        program, call_filter = await self._prepared()
        inputs = objects.inputs_of(spec, work, program=program, call_filter=call_filter)
        async with self._creating:
            if spec.name not in self._used_up:
                await self._create(spec, inputs, begun)

    async def _create(self, spec: PodSpec, inputs: objects.Inputs, begun: float) -> None:
        await self._api.make(self._config_maps, objects.config_map(spec, inputs))
        if self._clock.monotonic() - begun > _CREATION_SECONDS:
            raise TemporaryError("It took too long to be sure that the pod is still wanted.")
        wanted = objects.pod(spec, inputs, self._options, secrets.token_hex(16))
        made = await self._api.make(self._pods, wanted)
        pod = made or await self._api.get(f"{self._pods}/{spec.name}")
        if pod is None:  # it was there, and is not any more: what is left are the inputs
            await self._api.remove(f"{self._config_maps}/{spec.name}")
        elif not await self._own_inputs(pod) and made is not None:
            await self._delete(spec.name, timedelta(0))

    async def _own_inputs(self, pod: Manifest) -> bool:
        """Let the inputs go with their pod; False where they are gone before it."""
        owner = objects.owner(evidence.name_of(pod), evidence.uid_of(pod))
        path = f"{self._config_maps}/{evidence.name_of(pod)}"
        return await self._api.patch(path, {"metadata": {"ownerReferences": [owner]}}) is not None

    async def _prepared(self) -> tuple[bytes, bytes]:
        """Return process 1 and the filter for the calls of scripts.

        Raises:
            StartupError: One of them cannot be had on this machine.
        """
        if self._tools is None:
            self._tools = await asyncio.to_thread(_tools, self._options)
        return self._tools

    # ------------------------------------------------------------------------------------ delete

    async def delete(self, name: str, *, grace: timedelta, cancel: bool = False) -> None:
        """Remove the pod with its inputs, or with `cancel` end its run and keep both.

        A cancel is an order that the pod's process 1 reads, within a second or two. A pod that
        does not run yet is ended by the kubelet, or by nobody where it has no node.

        Raises:
            TemporaryError: No answer; try again.
        """
        if cancel:
            await self._cancel(name, grace)
        else:
            self._use_up(name)
            await self._delete(name, grace)

    async def _cancel(self, name: str, grace: timedelta) -> None:
        path = f"{self._pods}/{name}"
        pod = await self._api.patch(path, _order("cancel", grace))
        if pod is None or evidence.is_over(pod) or evidence.has_begun(pod):
            return
        if pod["spec"].get("nodeName"):
            await self._api.patch(path, {"spec": {"activeDeadlineSeconds": 1}})
        else:
            await self._api.remove(path, grace_seconds=0)  # its finaliser keeps it

    async def _delete(self, name: str, grace: timedelta) -> None:
        """Give the object up, then let it go: nobody else would take the finaliser off."""
        path = f"{self._pods}/{name}"
        release = {"$deleteFromPrimitiveList/finalizers": [objects.FINALIZER]}
        order = _order("remove", grace)
        order["metadata"] |= release
        pod = await self._api.patch(path, order, STRATEGIC)
        runs = pod is not None and evidence.has_begun(pod) and not evidence.has_ended(pod)
        seconds = math.ceil(grace.total_seconds()) if runs else 0
        await asyncio.gather(
            self._api.remove(path, grace_seconds=seconds),
            self._api.remove(f"{self._config_maps}/{name}"),
        )

    def _use_up(self, name: str) -> None:
        self._used_up[name] = None
        if len(self._used_up) > _NAMES_REMEMBERED:
            self._used_up.popitem(last=False)

    # -------------------------------------------------------------------------------- what there is

    async def list(self) -> Sequence[Pod]:
        """Return every pod of ours. Output is only there where a watch of this process read it."""
        pods = await self._api.all(self._pods, objects.SELECTOR)
        return [self._told.get(evidence.uid_of(pod)) or evidence.listed(pod) for pod in pods]

    async def watch(self) -> AsyncIterator[Pod | PodOutput]:
        """Yield each pod as it is now, then every change and all live output."""
        watch = Watch(self._api, self._pods, logs=self._logs, clock=self._clock, told=self._told)
        try:
            async with aclosing(watch.items()) as items:
                async for item in items:
                    yield item
        finally:
            await watch.close()

    async def sweep(self, older_than: timedelta, *, dry_run: bool = False) -> Sequence[str]:
        """Remove inputs that no pod has: what a crash between the two creations left behind.

        Ages are reckoned with the API server's clock alone. Returns the names, also where
        `dry_run` leaves them.

        Raises:
            TemporaryError: No answer; try again.
        """
        inputs = await self._api.all(self._config_maps, objects.SELECTOR)
        # Listed after them: whose pod was made in between is not taken for left behind.
        pods = {evidence.name_of(pod) for pod in await self._api.all(self._pods, objects.SELECTOR)}
        now = self._api.answered_at or self._clock.now()
        left = [
            evidence.name_of(one)
            for one in inputs
            if evidence.name_of(one) not in pods and now - _made_at(one) > older_than
        ]
        for name in left:
            if not dry_run:
                _LOG.info("removes the inputs of %s, which has no pod", name)
                await self._api.remove(f"{self._config_maps}/{name}")
        return left

    # --------------------------------------------------------------------------------- isolation

    async def canary(self) -> Sequence[str]:
        """Return what a pod like those of executions can reach: none of it is good.

        Names are `api_server`, `dns_1` and on, `pod`, `outside`, `metadata`. What cannot be told
        from here is not tried: name servers are those of this process, and the other pod is this
        one.

        Raises:
            StartupError: Its image cannot be had, or a check of its own did not hold.
            TemporaryError: It did not come to its end.
        """
        program, call_filter = await self._prepared()
        trial = Trial(self._api, self._pods, self._config_maps, self._options, self._clock)
        with canary.listening(self._api.server) as peer:
            targets = canary.targets(self._api.server, peer)
            self._found = await trial.run(targets, program=program, call_filter=call_filter)
        canary.refuse_unsafe(self._found)
        return self._found.reached

    async def isolation(self) -> Isolation:
        """Return which layers hold: what a canary of this process found, else what is asked for."""
        return Isolation(launcher="kubernetes", layers=canary.layers(self._options, self._found))


def _order(word: str, grace: timedelta) -> dict[str, dict[str, Any]]:
    text = f"{word} {evidence.milliseconds(grace)}"
    return {"metadata": {"annotations": {objects.ORDER: text}}}


def _made_at(found: Manifest) -> datetime:
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"])


def _tools(options: KubernetesOptions) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="integr8s-entry-") as folder:
        program = build.binary(_ENTRY, Path(folder)).read_bytes()
    if len(program) > _LARGEST_PROGRAM_BYTES:
        raise StartupError(
            f"Process 1 of pods takes {len(program)} bytes, more than a ConfigMap has left.",
            remedy="Install the package ziglang, which links a small one.",
        )
    machine = seccomp.machine()
    if machine is None:
        raise StartupError(
            "There is no system-call filter for this processor.",
            remedy="Launch from x86_64 or aarch64, on nodes of the same kind.",
        )
    families = seccomp.FAMILIES if options.internet_sockets else seccomp.LOCAL_FAMILIES
    return program, seccomp.program(machine, families)
