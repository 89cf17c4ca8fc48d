"""The cluster profile: Kafka, MongoDB, Redis and Kubernetes behind the ports.

A process opens only what its function needs: a driver that is not imported costs no start, and a
right that is not used need not be given.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.domain.errors import AlreadyExists, PermanentError, StartupError, TemporaryError
from shared.domain.runtimes import Offer
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.collections import COLLECTIONS
from shared.ports.scaling import Scaling
from shared.ports.signals import Signals
from shared.runtime.keda_scaling import KedaScaling
from shared.runtime.outbox import Outbox
from shared.runtime.ports import Ports
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from shared.adapters.kubernetes.cluster import KubernetesCluster
    from shared.adapters.redis.signals import RedisSignals

_LOG = logging.getLogger(__name__)
_LAST_WORDS = timedelta(seconds=5)
"""How long a process that stops waits for the log to take its last events."""
_SAY_EVERY = timedelta(seconds=5)
_LOOK_EVERY = timedelta(milliseconds=500)
_PROOF_HOLDS = timedelta(hours=1)
"""How long the proof that scripts reach nothing counts; a canary costs a start two seconds."""

Check = Callable[[], Awaitable[object]]
"""Returns if an engine answers, raises TemporaryError or PermanentError if not."""


class _Absent:
    """Stands for a port that this process did not open; to use it is a bug."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise RuntimeError(f"this process opened no {self._name}, so there is no {attribute}")


@dataclass(slots=True)
class ClusterEngines:
    """Connections to the engines of a cluster, and the ports over them."""

    ports: Ports
    log: KafkaEventLog
    store: MongoStore
    collections: Mapping[str, MongoDocuments]
    signals: "RedisSignals | None" = None
    cluster: "KubernetesCluster | None" = None
    checks: dict[str, Check] = field(default_factory=dict)
    closing: list[Check] = field(default_factory=list)
    """What else is to be closed at the end."""
    accept_no_policy: bool = False

    @classmethod
    def open(cls, settings: Settings, needs: frozenset[Any]) -> Self:
        """Prepare the engines that are behind some ports; nothing is connected yet.

        Raises:
            StartupError: A setting is missing or wrong.
        """
        clock, ids = SystemClock(), SystemIds()
        log = KafkaEventLog(kafka_options(settings))
        store = MongoStore(mongo_options(settings))
        kept = {name: MongoDocuments(store, one, clock) for name, one in COLLECTIONS.items()}
        outbox = Outbox(log, clock, kept.__getitem__)
        for name in kept:
            outbox.documents(name)
        signals = _signals(settings, clock) if Signals in needs else None
        cluster = _cluster(settings, clock) if Cluster in needs else None
        ports = Ports(
            log=log,
            outbox=outbox,
            signals=signals or cast("Signals", _Absent("signals")),
            cluster=cluster or cast("Cluster", _Absent("cluster")),
            clock=clock,
            ids=ids,
            offer=offer_of(settings),
            settings=settings.execution,
        )
        engines = cls(ports, log, store, kept, signals, cluster)
        engines.accept_no_policy = settings.accept_no_policy
        engines.checks = {"event_log": log.ping, "documents": store.ping}
        if signals is not None:
            engines.checks["signals"] = signals.ping
        if cluster is not None:
            engines.checks["cluster"] = cluster.ping
        return engines

    def scaling(self, settings: Settings) -> Scaling:
        """Return the view of the functions' replicas; only inside the cluster it sees anything."""
        from shared.adapters.kubernetes.scaling import (  # noqa: PLC0415 - see the module
            KubernetesWorkloads,
        )

        workloads = KubernetesWorkloads(settings.namespace)
        self.closing.append(workloads.close)
        return KedaScaling(workloads, self.log, self.ports.clock)

    async def readiness(self) -> Mapping[str, str]:
        """Return how each engine is: ok, degraded or down."""
        states = await asyncio.gather(*(_state(check, name) for name, check in self.checks.items()))
        return dict(zip(self.checks, states, strict=True))

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Return once every engine has answered; False if this process is asked to stop first.

        Says every few seconds what it waits for.

        Raises:
            StartupError: An engine answered, and will never serve this process.
        """
        clock, silent_since = self.ports.clock, None
        waiting = dict(self.checks)
        while waiting and not leaving.is_set():
            reasons = {name: await _reason(name, check) for name, check in waiting.items()}
            waiting = {name: check for name, check in waiting.items() if reasons[name]}
            if not waiting:
                break
            now = clock.now()
            if silent_since is None or now - silent_since >= _SAY_EVERY:
                silent_since = now
                for name in waiting:
                    _LOG.warning("waiting for the %s: %s", name.replace("_", " "), reasons[name])
            await clock.sleep(_LOOK_EVERY)
        if silent_since is not None and not waiting:
            _LOG.info("every engine answers")
        return not leaving.is_set()

    async def prove_isolation(self) -> None:
        """Let no script run before a canary has failed to reach anything.

        The proof counts for an hour, for all processes of the namespace: otherwise each start from
        zero would wait for a pod.

        Raises:
            StartupError: The canary got out, and no setting accepts that.
            TemporaryError: An engine gave no answer.
        """
        if self.cluster is None:
            return
        proofs = self.ports.documents("system_settings")
        key, now = f"isolation:{self.cluster.namespace}", self.ports.clock.now()
        known = await proofs.get(key)
        if known is None or now - known["at"] >= _PROOF_HOLDS:
            reached = sorted(await self.cluster.canary())
            if known is None:
                with suppress(AlreadyExists):
                    await proofs.insert(key, {"at": now, "reached": reached})
            else:
                await proofs.change(key, set={"at": now, "reached": reached})
        else:
            reached = known["reached"]
        if reached:
            self._judge(reached)

    def _judge(self, reached: list[str]) -> None:
        told = ", ".join(reached)
        if not self.accept_no_policy:
            raise StartupError(
                f"A pod like those of scripts reached what it must not: {told}.",
                remedy="Use a network plugin that enforces NetworkPolicy and apply"
                " knative/20-policies.yaml; or take sockets from scripts with"
                " INTEGR8S_INTERNET_SOCKETS=false; or accept it with"
                " INTEGR8S_ACCEPT_NO_POLICY=true.",
            )
        _LOG.warning("scripts are NOT cut off from the network: a canary reached %s", told)

    async def close(self) -> None:
        """Let go of the engines, in the order in which nothing is lost."""
        async with AsyncExitStack() as engines:
            engines.push_async_callback(self.store.close)
            if self.signals is not None:
                engines.push_async_callback(self.signals.close)
            if self.cluster is not None:
                engines.push_async_callback(self.cluster.close)
            engines.push_async_callback(self.log.close)
            for close in self.closing:
                engines.push_async_callback(close)
            engines.push_async_callback(self._publish_the_rest)

    async def _publish_the_rest(self) -> None:
        """Empty the outboxes; with a log that is away, what they hold waits for fire-timers."""
        try:
            async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                await self.ports.outbox.drain()
        except TimeoutError:
            self.ports.outbox.abandon()


async def _state(check: Check, name: str) -> str:
    reason = ""
    try:
        reason = await _reason(name, check)
    except StartupError:
        reason = "refused"
    if not reason:
        return "ok"
    return "degraded" if name == "signals" else "down"


async def _reason(name: str, check: Check) -> str:
    """Return why an engine does not answer; empty where it does.

    Raises:
        StartupError: It answers, and will never serve this process.
    """
    try:
        await check()
    except TemporaryError as error:
        return str(error)
    except StartupError:
        raise
    except PermanentError as error:
        raise StartupError(
            f"The {name.replace('_', ' ')} refuses this process: {error}.",
            remedy="Correct the settings; `integr8s settings-help` lists every one.",
        ) from error
    return ""


def offer_of(settings: Settings) -> Offer:
    """Return what a cluster can run: the images that were named, else the whole registry."""
    images = settings.runtime_images
    if not images:
        return Offer()
    return Offer({name: tuple(found) for name, found in images.items()}, images=images)


def kafka_options(settings: Settings) -> KafkaOptions:
    """Return how Kafka is reached."""
    password = settings.kafka_password
    return KafkaOptions(
        servers=tuple(one.strip() for one in settings.kafka_servers.split(",") if one.strip()),
        sasl_mechanism=settings.kafka_sasl_mechanism or None,
        username=settings.kafka_username or None,
        password=password.get_secret_value() if password is not None else None,
        tls=settings.kafka_tls,
        ca_file=settings.kafka_ca_file,
    )


def mongo_options(settings: Settings) -> MongoOptions:
    """Return how MongoDB is reached.

    Raises:
        StartupError: No address was given.
    """
    if settings.mongo_url is None:
        raise StartupError(
            "INTEGR8S_MONGO_URL is not set.",
            remedy="Set it to mongodb://user:password@host:27017/, best from a Secret.",
        )
    return MongoOptions(url=settings.mongo_url.get_secret_value(), database=settings.mongo_database)


def _signals(settings: Settings, clock: Clock) -> "RedisSignals":
    from shared.adapters.redis.signals import RedisSignals  # noqa: PLC0415 - see the module

    if settings.redis_url is None:
        raise StartupError(
            "INTEGR8S_REDIS_URL is not set.",
            remedy="Set it to redis://user:password@host:6379/0, best from a Secret.",
        )
    return RedisSignals.connect(
        settings.redis_url.get_secret_value(), clock=clock, ca_file=settings.redis_ca_file
    )


def _cluster(settings: Settings, clock: Clock) -> "KubernetesCluster":
    from shared.adapters.kubernetes.cluster import (  # noqa: PLC0415 - see the module
        KubernetesCluster,
        KubernetesOptions,
    )

    offer = offer_of(settings)
    any_language = next(iter(offer))
    return KubernetesCluster(
        KubernetesOptions(
            namespace=settings.namespace,
            runtime_class=settings.runtime_class or None,
            priority_class=settings.priority_class or None,
            internet_sockets=settings.internet_sockets,
            offer=offer,
            canary_image=offer.image(any_language.name, offer.default_version(any_language.name)),
        ),
        clock=clock,
    )
