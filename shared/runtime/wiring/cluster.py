"""The cluster profile: Kafka, MongoDB, Redis and Kubernetes behind the ports.

A process opens only what its function needs: a driver that is not imported costs no start, and a
right that is not used need not be given.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.domain.errors import StartupError
from shared.domain.runtimes import Offer
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.collections import COLLECTIONS
from shared.ports.scaling import Scaling
from shared.ports.signals import Signals
from shared.runtime.engine_checks import Check, EngineChecks
from shared.runtime.isolation import IsolationProof
from shared.runtime.keda_scaling import KedaScaling
from shared.runtime.outbox import Outbox
from shared.runtime.ports import Ports
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from shared.adapters.kubernetes.cluster import KubernetesCluster
    from shared.adapters.redis.signals import RedisSignals

_LAST_WORDS = timedelta(seconds=5)
"""How long a process that stops waits for the log to take its last events."""


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
    checks: EngineChecks
    signals: "RedisSignals | None" = None
    cluster: "KubernetesCluster | None" = None
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What else is to be closed at the end."""
    proof: IsolationProof | None = None
    """Of those who may start scripts."""

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
        checks: dict[str, Check] = {"event_log": log.ping, "documents": store.ping}
        if signals is not None:
            checks["signals"] = signals.ping
        if cluster is not None:
            checks["cluster"] = cluster.ping
        engines = cls(ports, log, store, kept, EngineChecks(checks, clock), signals, cluster)
        if cluster is not None:
            engines.proof = _proof(settings, cluster, ports)
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
        states = await self.checks.states()
        is_pending = self.proof is not None and self.proof.is_pending
        return {**states, "isolation": "down"} if is_pending else states

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Return once every engine has answered; False if this process is asked to stop first.

        Raises:
            StartupError: An engine answered, and will never serve this process.
        """
        return await self.checks.wait(leaving)

    async def prove_isolation(self) -> None:
        """Let no script run before a canary has failed to reach anything.

        Raises:
            StartupError: The canary got out, and no setting accepts that.
            TemporaryError: An engine gave no answer.
        """
        if self.proof is not None:
            await self.proof.bring()

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
            engines.push_async_callback(self.checks.close)

    async def _publish_the_rest(self) -> None:
        """Empty the outboxes; with a log that is away, what they hold waits for fire-timers."""
        try:
            async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                await self.ports.outbox.drain()
        except TimeoutError:
            self.ports.outbox.abandon()


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
            host_users=settings.host_users,
            first_uid=settings.first_uid,
            internet_sockets=settings.internet_sockets,
            offer=offer,
            canary_image=offer.image(any_language.name, offer.default_version(any_language.name)),
        ),
        clock=clock,
    )


def _proof(settings: Settings, cluster: "KubernetesCluster", ports: Ports) -> IsolationProof:
    sockets = "any" if settings.internet_sockets else "local"
    return IsolationProof(
        cluster.canary,
        # A proof without sockets says nothing about scripts that have them.
        under=f"{cluster.namespace}:{settings.runtime_class}:{sockets}",
        proofs=ports.documents("system_settings"),
        clock=ports.clock,
        accept_no_policy=settings.accept_no_policy,
    )
