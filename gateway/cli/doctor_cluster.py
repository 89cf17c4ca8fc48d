"""Is a cluster installation sound: its engines, their setup, its namespace, its data."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from gateway.cli.findings import Finding, State
from gateway.cli.invariants import Violations, judged, leftovers, violations_in
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.event_log import EventLog
from shared.ports.installation import Installation, Namespace
from shared.ports.scaling import Workload
from shared.ports.setup import Finding as SetUp
from shared.runtime.engine_checks import Check
from shared.runtime.evidence import Evidence, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.settings import Settings
from shared.runtime.wiring.inspection import Inspection
from shared.runtime.wiring.setup import groups, indexes_drift, topics_drift

_RESTRICTED = "restricted"
_POLICY = "executors"
_ADDRESSES = {
    "event log": "INTEGR8S_KAFKA_SERVERS",
    "documents": "INTEGR8S_MONGO_URL",
    "signals": "INTEGR8S_REDIS_URL",
}
_REPORT = (
    "An engine that was away may be why something came late. All else must not happen: keep the"
    " documents and events it names, and report it."
)

Drift = Callable[[Settings], Awaitable[Sequence[SetUp]]]


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield the findings one by one; the last ones take as long as there is data."""
    looking = _all(settings)

    async def following() -> Finding | None:
        return await anext(looking, None)

    with asyncio.Runner() as runner:
        try:
            while (finding := runner.run(following())) is not None:
                yield finding
        finally:
            runner.run(looking.aclose())


async def _all(settings: Settings) -> AsyncGenerator[Finding, None]:
    try:
        inspection = Inspection.open(settings)
    except StartupError as error:
        yield Finding("settings", "fail", error.message, error.remedy)
        return
    yield Finding("settings", "ok", "every variable can be used; this is the cluster profile")
    try:
        async with aclosing(_of(inspection, settings)) as found:
            async for finding in found:
                yield finding
    finally:
        await inspection.close()


async def _of(inspection: Inspection, settings: Settings) -> AsyncGenerator[Finding, None]:
    answering = set()
    for name, check in inspection.checks.items():
        finding = await engine(name, check)
        if finding.state == "ok":
            answering.add(name)
        yield finding
    if "event log" in answering:
        for one in await _drift("topics", topics_drift, settings):
            yield one
        yield await _lag(inspection.engines.log)
    if "documents" in answering:
        for one in await _drift("indexes", indexes_drift, settings):
            yield one
    for one in await _cluster(inspection, accept_no_policy=settings.accept_no_policy):
        yield one
    if answering >= {"event log", "documents"}:
        for one in await _data(inspection):
            yield one


async def engine(name: str, check: Check) -> Finding:
    """Return whether an engine answers."""
    try:
        await check()
    except StartupError as error:
        return Finding(name, "fail", error.message, error.remedy)
    except (TemporaryError, PermanentError) as error:
        remedy = f"Is it up, can this machine reach it, and is {_ADDRESSES[name]} right?"
        return Finding(name, "warn" if name == "signals" else "fail", f"{error}", remedy)
    return Finding(name, "ok", "answers")


async def _drift(name: str, drift: Drift, settings: Settings) -> Sequence[Finding]:
    try:
        return set_up(name, await drift(settings))
    except (StartupError, TemporaryError, PermanentError) as error:
        return [Finding(name, "fail", f"{error}", "Try again; if it stays, look at its log.")]


def set_up(name: str, found: Sequence[SetUp]) -> Sequence[Finding]:
    """Return what of a setup is not as it should be, else that all of it is."""
    worth = [
        Finding(
            name,
            "fail" if one.state == "differs" else "warn",
            f"{one.subject} {one.seen}",
            one.remedy,
        )
        for one in found
        if one.remedy
    ]
    return worth or [Finding(name, "ok", f"all {len(found)} are as they should be")]


async def _lag(log: EventLog) -> Finding:
    behind = {}
    try:
        for group, topics in groups().items():
            places = (await log.positions(group, topics)).values()
            behind[group] = sum(
                place.end - (place.start if place.committed is None else place.committed)
                for place in places
            )
    except (TemporaryError, PermanentError) as error:
        return Finding("lag", "fail", f"{error}", "Are the topics there? integr8s topics apply")
    return lag(behind)


def lag(behind: Mapping[str, int]) -> Finding:
    """Return how many records wait for each group."""
    waiting = {group: count for group, count in behind.items() if count > 0}
    if not waiting:
        return Finding("lag", "ok", f"nothing waits for any of {len(behind)} groups")
    told = ", ".join(f"{count} for {group}" for group, count in sorted(waiting.items()))
    remedy = "A moment's lag is work. If it stays: integr8s scaling, and the log of that function."
    return Finding("lag", "warn", f"records wait: {told}", remedy)


# --- the cluster


async def _cluster(inspection: Inspection, *, accept_no_policy: bool) -> Sequence[Finding]:
    there = inspection.installation
    if there is None:
        told = inspection.no_way
        seen = f"not looked at. {told.message if told else ''}".strip()
        return [Finding("cluster", "warn", seen, told.remedy if told else "")]
    return [
        *await _looked("namespace", lambda: _namespace(there, accept_no_policy=accept_no_policy)),
        *await _looked("KEDA", lambda: _keda(there)),
        *await _looked("Knative", lambda: _knative(there)),
    ]


async def _looked(name: str, look: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    try:
        return await look()
    except PermanentError as error:
        remedy = "Look with an account that may; the functions need no such right."
        return [Finding(name, "warn", f"not looked at: {error}", remedy)]
    except TemporaryError as error:
        return [Finding(name, "fail", f"{error}", "Is the API server up, and KUBECONFIG right?")]


async def _namespace(there: Installation, *, accept_no_policy: bool) -> Sequence[Finding]:
    return namespace(await there.namespace(), accept_no_policy=accept_no_policy)


async def _keda(there: Installation) -> Sequence[Finding]:
    if not await there.has_keda():
        remedy = "Install KEDA, then kubectl apply -k keda."
        return [Finding("KEDA", "fail", "its ScaledObjects are unknown here", remedy)]
    return scaled(await there.workloads())


async def _knative(there: Installation) -> Sequence[Finding]:
    if not await there.has_knative():
        remedy = "Install Knative Serving, then kubectl apply -k knative; or serve HTTP otherwise."
        return [Finding("Knative", "warn", "its Services are unknown here", remedy)]
    return [Finding("Knative", "ok", "its Services are known")]


def namespace(found: Namespace | None, *, accept_no_policy: bool) -> Sequence[Finding]:
    """Return whether scripts are kept in by the namespace's own rules."""
    if found is None:
        remedy = "kubectl apply -f knative/00-namespace.yaml, or correct INTEGR8S_NAMESPACE."
        return [Finding("namespace", "fail", "is not there", remedy)]
    level = found.pod_security or "nothing"
    restricted = Finding(
        "Pod Security",
        "ok" if level == _RESTRICTED else "fail",
        f"{found.name} enforces {level}",
        f"kubectl label namespace {found.name} --overwrite"
        f" pod-security.kubernetes.io/enforce={_RESTRICTED}",
    )
    has_policy = _POLICY in found.policies
    cut_off = Finding(
        "policies",
        "ok" if has_policy else "warn" if accept_no_policy else "fail",
        f"the NetworkPolicy `{_POLICY}` is {'there' if has_policy else 'missing'}",
        "kubectl apply -f knative/20-policies.yaml",
    )
    return [Finding("namespace", "ok", f"{found.name} is there"), restricted, cut_off]


def scaled(workloads: Sequence[Workload]) -> Sequence[Finding]:
    """Return what keeps functions from being woken, else that nothing does."""
    found = []
    missing = {*SLUGS} - {one.slug for one in workloads}
    if missing:
        # A KafkaSource of Knative may feed submit instead.
        state: State = "warn" if missing <= {"submit"} else "fail"
        seen = f"no ScaledObject wakes {', '.join(sorted(missing))}"
        found.append(Finding("KEDA", state, seen, "kubectl apply -k keda"))
    for one in workloads:
        if not one.ready:
            remedy = f"kubectl describe scaledobject {one.slug}; are its engine and Secret right?"
            found.append(Finding("KEDA", "fail", f"{one.slug} is not ready: {one.message}", remedy))
        elif one.paused:
            remedy = "Nobody wakes it before its annotation autoscaling.keda.sh/paused is gone."
            found.append(Finding("KEDA", "warn", f"{one.slug} is paused", remedy))
    return found or [Finding("KEDA", "ok", f"{len(workloads)} ScaledObjects are ready")]


# --- the data


async def _data(inspection: Inspection) -> Sequence[Finding]:
    """Judge what is stored.

    A system that runs moves on while it is read: what breaks a rule counts only if it still does at
    a second look.
    """
    sys.stderr.write("reading every document and every event, which may take a while ...\n")
    sys.stderr.flush()
    try:
        evidence = await _evidence(inspection)
        broken = violations_in(evidence)
        if any(broken.values()):
            evidence = await _evidence(inspection)
            broken = both(broken, violations_in(evidence))
    except (TemporaryError, PermanentError) as error:
        return [Finding("invariants", "fail", f"not judged: {error}", "Try again.")]
    return [
        *judged(broken, remedy=_REPORT),
        *leftovers(evidence.documents, go_on="have not ended"),
    ]


def both(first: Violations, second: Violations) -> Violations:
    """Return the violations of the second look whose subject the first one found as well."""
    known = {(one.invariant, one.subject) for found in first.values() for one in found}
    return {
        number: [one for one in found if (one.invariant, one.subject) in known]
        for number, found in second.items()
    }


async def _evidence(inspection: Inspection) -> Evidence:
    engines, there = inspection.engines, inspection.installation
    try:
        pods = await there.pods() if there is not None else ()
    except (TemporaryError, PermanentError):
        pods = ()  # said already, where the cluster was looked at
    return await gather(
        engines.collections,
        engines.log,
        groups={slug: load(slug).spec.topics for slug in groups()},
        pods=pods,
        at=datetime.now(UTC),  # noqa: TID251 - a command has no clock to be given
    )
