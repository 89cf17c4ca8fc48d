"""What pods really did, seen with eyes of our own: a system is no witness of itself."""

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from time import time
from typing import Any

from kubernetes import client, watch
from urllib3.exceptions import HTTPError

from shared.domain.quantities import memory_bytes, millicores
from shared.runtime.evidence import Deed

SELECTOR = "app=integr8s,component=executor"
_WATCH_SECONDS = 20
_AGAIN_SECONDS = 0.5
_SEEN_LATE = timedelta(seconds=2)
"""Process 1 reports when everything else is dead; the container's own end is noted after that."""
_BELIEVED = timedelta(seconds=10)
"""Between a script's end as its pod reported it and that of the container; more is no report."""
_SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class _Seen:
    """One pod, from its creation to its removal."""

    name: str
    execution_id: str
    user_id: str
    created_at: datetime
    cpu_millicores: int
    memory_bytes: int
    seen_at: datetime
    """When we heard of it first: it was made before that."""
    ended_at: datetime | None = None
    gone_at: datetime | None = None


class PodObserver:
    """Follows every pod of a script in one namespace, across whatever the engines suffer."""

    def __init__(self, api: client.CoreV1Api, namespace: str) -> None:
        """Prepare; `start` begins to look."""
        self._api, self._namespace = api, namespace
        self._pods: dict[str, _Seen] = {}
        self._lock = threading.Lock()
        self._version = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="observer", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def deeds(self, outputs: Mapping[str, bytes], reported: Mapping[str, datetime]) -> list[Deed]:
        """Return what happened, in order of time.

        Args:
            outputs: What each execution prints.
            reported: When each script ended, as process 1 of its pod reported it: on a busy node
                seconds pass until its container counts as ended.
        """
        with self._lock:
            found = [
                deed
                for pod in self._pods.values()
                for deed in _deeds(pod, outputs, reported.get(pod.execution_id))
            ]
        return sorted(found, key=lambda deed: deed.at)

    def _follow(self) -> None:
        """Watch on from the last word, so that no end between two watches is missed."""
        while not self._stopping.is_set():
            try:
                self._version = self._version or self._list()
                self._watch()
            except client.ApiException as error:
                if error.status == HTTPStatus.GONE:
                    self._version = ""
                self._stopping.wait(_AGAIN_SECONDS)
            except (HTTPError, OSError):
                self._stopping.wait(_AGAIN_SECONDS)

    def _list(self) -> str:
        found: Any = self._api.list_namespaced_pod(
            self._namespace, label_selector=SELECTOR, _request_timeout=10
        )
        with self._lock:
            here = {pod.metadata.uid for pod in found.items}
            for uid, seen in self._pods.items():
                if uid not in here and seen.gone_at is None:
                    seen.gone_at = _now()
        for pod in found.items:
            self._note(pod)
        version: str = found.metadata.resource_version
        return version

    def _watch(self) -> None:
        stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
            self._api.list_namespaced_pod,
            self._namespace,
            label_selector=SELECTOR,
            resource_version=self._version,
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=_WATCH_SECONDS + 10,
        )
        for event in stream:
            self._note(event["object"], is_gone=event["type"] == "DELETED")
            self._version = event["object"].metadata.resource_version

    def _note(self, pod: Any, *, is_gone: bool = False) -> None:
        with self._lock:
            seen = self._pods.setdefault(pod.metadata.uid, _first_seen(pod))
            ended_at = _ended_at(pod)
            if ended_at is not None and seen.ended_at is None:
                seen.ended_at = ended_at
            if is_gone and seen.gone_at is None:
                seen.gone_at = _now()


def _first_seen(pod: Any) -> _Seen:
    limits = pod.spec.containers[0].resources.limits
    return _Seen(
        name=pod.metadata.name,
        execution_id=pod.metadata.labels["execution-id"],
        user_id=next(
            (text for key, text in (pod.metadata.annotations or {}).items() if "user" in key), ""
        ),
        created_at=pod.metadata.creation_timestamp,
        cpu_millicores=_cpu(limits["cpu"]),
        memory_bytes=_memory(limits["memory"]),
        seen_at=_now(),
    )


def _cpu(text: str) -> int:
    return millicores(text if text.endswith("m") else f"{text}000m")


def _memory(text: str) -> int:
    return int(text) if text.isdigit() else memory_bytes(text)


def _ended_at(pod: Any) -> datetime | None:
    """Return since when its script does not run any more, or is known never to run."""
    for status in pod.status.container_statuses or ():
        terminated, waiting = status.state.terminated, status.state.waiting
        if terminated is not None and terminated.finished_at is not None:
            finished: datetime = terminated.finished_at
            return finished
        if waiting is not None and "Error" in (waiting.reason or ""):
            return _now()
    return _now() if pod.status.phase in ("Failed", "Succeeded") else None


def _deeds(pod: _Seen, outputs: Mapping[str, bytes], reported_at: datetime | None) -> list[Deed]:
    def deed(what: Any, at: datetime, stdout: bytes = b"") -> Deed:
        return Deed(
            at=at,
            what=what,
            pod_name=pod.name,
            execution_id=pod.execution_id,
            user_id=pod.user_id,
            cpu_millicores=pod.cpu_millicores,
            memory_bytes=pod.memory_bytes,
            stdout=stdout,
        )

    # The API keeps whole seconds, so it was made within the second after what it says.
    created = min(pod.created_at + _SECOND, pod.seen_at)
    found = [deed("create", created)]
    ended = _end(pod, reported_at)
    if ended is not None:
        found.append(deed("end", max(ended, created), outputs.get(pod.execution_id, b"")))
    if pod.gone_at is not None:
        found.append(deed("gone", max(pod.gone_at, created)))
    return found


def _end(pod: _Seen, reported_at: datetime | None) -> datetime | None:
    """Return when a script ended: as reported where its container agrees, else by that.

    A pod is often removed before its node has told the API of the container's end.
    """
    known_at = pod.ended_at or pod.gone_at
    if reported_at is not None and known_at is not None and reported_at < known_at + _SECOND:
        is_believed = pod.ended_at is None or pod.ended_at - reported_at < _BELIEVED
        if is_believed:
            return reported_at
    return pod.ended_at - _SEEN_LATE if pod.ended_at is not None else None


def _now() -> datetime:
    return datetime.fromtimestamp(time(), tz=UTC)


def creations(audit_log: Path, namespace: str) -> Counter[str]:
    """Return how often the API server made each pod of a script, by its own audit log."""
    made: Counter[str] = Counter()
    with audit_log.open(encoding="utf-8") as lines:
        for line in lines:
            if '"pods"' not in line or '"create"' not in line:
                continue
            event = json.loads(line)
            about = event.get("objectRef", {})
            is_pod = about.get("resource") == "pods" and not about.get("subresource")
            is_made = event["verb"] == "create" and event["responseStatus"]["code"] == 201
            name = about.get("name", "")  # the server makes up some, but never one of ours
            is_ours = about.get("namespace") == namespace and name.startswith("exec-")
            if is_pod and is_made and is_ours:
                made[name] += 1
    return made
