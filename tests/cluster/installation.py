"""integr8s on a cluster, installed as an operator does it, and one user of it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config
from pymongo import MongoClient
from pymongo.database import Database

from shared.adapters.mongo.outbox import WAKE_AT
from shared.ports.collections import COLLECTIONS
from shared.runtime.evidence import Caps, Evidence, Fault, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.invariants import check_all
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import ClusterEngines
from tests.bench.client import Client, Refused
from tests.cluster import installing, sign_in
from tests.cluster.installing import NAMESPACE
from tests.cluster.kubectl import Kubectl
from tests.cluster.observer import PodObserver, creations
from tests.cluster.reset import reset
from tests.engines import paths
from tests.engines.knative.call import Route, route
from tests.ledger import PASSING, Ledger, now, pause, until

SLOTS, PER_USER = 10, 10
_PATIENCE_SECONDS = 60
_LAG = 16
"""The invariant by which nothing lags at rest."""
_DRAINED_SECONDS = 40
"""An outbox is swept after 10 s, and 30 s later at the latest whatever was away."""
_VIEW_SECONDS = 1.5
"""What the gateway shows of lag is a second old at most."""


@dataclass(slots=True, kw_only=True)
class Installation(Ledger):
    """A running installation, and everything that its user was answered."""

    kubectl: Kubectl
    api: client.CoreV1Api
    apps: client.AppsV1Api
    settings: Settings
    observer: PodObserver
    installed_at: datetime
    key: str = ""
    outputs: dict[str, bytes] = field(default_factory=dict)
    """What each execution prints, by its id, where a test knows."""
    faults: list[Fault] = field(default_factory=list)
    routes: dict[str, Route] = field(default_factory=dict)
    _client: Client | None = None

    # ------------------------------------------------------------------------------------ clients

    @property
    def asking(self) -> Client:
        """Return the client that asks one thing at a time."""
        assert self._client is not None, "there is no key yet"
        return self._client

    async def client(self) -> Client:
        """Return a new client of the user."""
        there = await asyncio.to_thread(self.route, "gateway")
        address = urlsplit(there.url)
        host = address.hostname or ""
        return await Client.open(host, address.port or 80, self.key, route=there.headers)

    async def ask(self, path: str) -> Any:
        """Return what a resource shows, as a client that does not give up."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while True:
            try:
                if self._client is None:
                    await self.reconnect()
                return await self.asking.get(path)
            except (OSError, Refused) as error:
                is_passing = not isinstance(error, Refused) or error.status in PASSING
                if not is_passing or asyncio.get_running_loop().time() > deadline:
                    raise
            self.hang_up()
            await pause(0.2)

    def route(self, service: str) -> Route:
        """Return the way to one of our Knative Services."""
        if service not in self.routes:
            self.routes[service] = route(self.kubectl.kubeconfig, NAMESPACE, service)
        return self.routes[service]

    async def sign_in(self) -> None:
        """Make an API key, as the README tells, and use it from now on."""
        password = self.settings.admin_password
        assert password is not None
        there = self.route("gateway")
        self.key = await asyncio.to_thread(
            sign_in.new_key, there, password.get_secret_value(), "cluster tests"
        )
        await self.reconnect()
        self.user_id = (await self.asking.get("/auth/me"))["user_id"]

    async def reconnect(self) -> None:
        """Use a new connection: test functions have event loops of their own."""
        self.hang_up()
        self._client = await self.client()

    def hang_up(self) -> None:
        """Let go of the connection, before its event loop ends."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def posted(self, poster: str, script: str, *, seconds: float) -> str:
        """Return the execution that an event of another system began, and note it.

        Whoever posts is the user of what it posts: it is not in the list of ours.

        Raises:
            AssertionError: There is none in time, or more than one.
        """
        found: list[str] = []

        async def known() -> bool:
            found[:] = await asyncio.to_thread(self.stored_ids, user_id=poster)
            return bool(found)

        await until(known, seconds, "the event became an execution")
        [execution_id] = found
        self.note(script, 200, execution_id, user_id=poster)
        return execution_id

    # ------------------------------------------------------------------------------------ scaling

    def replicas(self) -> Mapping[str, int]:
        """Return how many pods each function has now, the gateway and HTTP functions included."""
        found: dict[str, int] = {}
        for deployment in self.apps.list_namespaced_deployment(NAMESPACE).items:
            found[_name(deployment)] = getattr(deployment.status, "replicas", None) or 0
        return found

    async def until_asleep(self, seconds: float) -> None:
        """Wait until no function has a pod.

        Raises:
            AssertionError: One is still awake.
        """
        seen: dict[str, int] = {}

        async def asleep() -> bool:
            seen.clear()
            seen.update(await asyncio.to_thread(self.replicas))
            return not any(seen.values())

        try:
            await until(asleep, seconds, "every function sleeps")
        except AssertionError as error:
            error.add_note(str({slug: count for slug, count in seen.items() if count}))
            raise

    # ----------------------------------------------------------------------------------- evidence

    async def until_at_rest(self, *, seconds: float = 30) -> dict[str, dict[str, Any]]:
        """Wait until all is over, and still is after what outboxes held was published again."""

        async def is_empty() -> bool:
            return not await asyncio.to_thread(self.outboxes)

        # By its name: a class with slots is made anew, and `super()` would mean the first one.
        known = await Ledger.until_at_rest(self, seconds=seconds)
        is_new = True
        while is_new:
            await until(is_empty, _DRAINED_SECONDS, "the outboxes are empty")
            await pause(_VIEW_SECONDS)
            known = await Ledger.until_at_rest(self, seconds=seconds)
            is_new = not await is_empty()
        return known

    async def violations(self) -> list[str]:
        """Judge every invariant by what is stored, what the cluster did and what clients saw.

        A timer may ring in just that moment. What then lags is on its way; only what still does
        when a function had all the time to wake up for it is stuck.
        """
        deadline = monotonic() + _DRAINED_SECONDS
        while True:
            found = check_all(await self.evidence())
            may_go = any(one.invariant == _LAG for one in found)
            if not may_go or monotonic() > deadline:
                return [str(violation) for violation in found]
            await pause(_VIEW_SECONDS)

    async def evidence(self) -> Evidence:
        """Gather everything that can be known of this installation."""
        engines = ClusterEngines.open(self.settings, frozenset())
        functions = [load(slug).spec for slug in SLUGS]
        try:
            found = await gather(
                engines.collections,
                engines.log,
                groups={spec.slug: spec.topics for spec in functions if spec.topics},
                pods=(),
                at=now(),
            )
        finally:
            await engines.close()
        return replace(
            found,
            calls=self.calls,
            streams=self.streams,
            deeds=self.observer.deeds(self.outputs, _ends(found)),
            faults=self.faults,
            caps=Caps(slots=SLOTS, per_user=PER_USER),
            quiet=True,
        )

    def stored_ids(self, **where: str) -> list[str]:
        """Return the ids of executions with some fields, as they are stored."""
        return [str(one["_id"]) for one in self.stored("executions", **where)]

    def stored(self, collection: str, **where: str) -> list[dict[str, Any]]:
        """Return documents with some fields, as they are stored."""
        with self._database() as database:
            return list(database[collection].find(where))

    def store(self, collection: str, document: Mapping[str, Any]) -> None:
        """Store a document, as one of our functions would."""
        with self._database() as database:
            database[collection].insert_one(dict(document))

    def outboxes(self) -> list[str]:
        """Return which documents hold events that are not known to be published."""
        with self._database() as database:
            return [
                f"{name}/{one['_id']}"
                for name in COLLECTIONS
                for one in database[name].find({WAKE_AT: {"$exists": True}}, {"_id": 1})
            ]

    @contextmanager
    def _database(self) -> Iterator[Database[dict[str, Any]]]:
        assert self.settings.mongo_url is not None
        with MongoClient[dict[str, Any]](self.settings.mongo_url.get_secret_value()) as mongo:
            yield mongo[self.settings.mongo_database]

    def creations(self) -> Mapping[str, int]:
        """Return how often each pod was made, by the audit log of the API server."""
        return creations(paths.STATE / "log" / "audit.log", NAMESPACE)

    def pods(self) -> Sequence[str]:
        """Return the names of all pods of scripts that exist now."""
        found = self.api.list_namespaced_pod(
            NAMESPACE, label_selector="app=integr8s,component=executor"
        )
        return [_name(pod) for pod in found.items]

    def configmaps(self) -> Sequence[str]:
        """Return the names of all ConfigMaps of scripts that exist now."""
        found = self.api.list_namespaced_config_map(NAMESPACE)
        names = [_name(one) for one in found.items]
        return [name for name in names if name.startswith("exec-")]


def _ends(evidence: Evidence) -> dict[str, datetime]:
    """Return when each script ended that was started, as it is stored."""
    return {
        execution_id: execution["finished_at"]
        for execution_id, execution in evidence.executions().items()
        if execution.get("started_at") and execution.get("finished_at")
    }


def _name(thing: Any) -> str:
    name: str = thing.metadata.name
    return name


def install(environment: Mapping[str, str]) -> Installation:
    """Install everything anew, on empty engines, and return it; nobody is signed in.

    Args:
        environment: How this process reaches the engines.

    Raises:
        AssertionError: Something does not come up; with what the cluster says.
    """
    settings = installing.settings_in(environment)
    kubeconfig = installing.value(environment, "KUBECONFIG")
    command = Kubectl(kubeconfig)
    installing.uninstall(command)
    asyncio.run(_forget_everything(settings))
    installing.make_secrets(command, settings)
    installing.apply(command)
    config.load_kube_config(kubeconfig)  # type: ignore[no-untyped-call]
    api = client.CoreV1Api()
    observer = PodObserver(api, NAMESPACE)
    observer.start()
    return Installation(
        kubectl=command,
        api=api,
        apps=client.AppsV1Api(),
        settings=settings,
        observer=observer,
        installed_at=now(),
    )


async def _forget_everything(settings: Settings) -> None:
    """Remove what an earlier run left in the engines; they are the tests' own.

    Raises:
        AssertionError: They are somebody else's.
    """
    assert settings.mongo_url is not None
    for address in (settings.kafka_servers, settings.mongo_url.get_secret_value()):
        is_ours = "127.0.0.1" in address or "localhost" in address
        assert is_ours, "an engine is not of this machine, so nothing is deleted there"
    await reset(settings)
