"""What the API says of ScaledObjects and Deployments, as the gateway's view of the functions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.kubernetes.scaling import KubernetesWorkloads
from shared.domain.errors import TemporaryError
from shared.ports.scaling import Workload
from tests.unit.adapters.kubernetes.local_api import LocalApi

SCALED = "/apis/keda.sh/v1alpha1/namespaces/scripts/scaledobjects"
DEPLOYED = "/apis/apps/v1/namespaces/scripts/deployments"


def scaled(name: str, *, spec: Any = None, **status: Any) -> dict[str, Any]:
    """Return a ScaledObject."""
    return {
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": {"name": name}, **(spec or {})},
        "status": status,
    }


def deployed(name: str, **status: Any) -> dict[str, Any]:
    """Return a Deployment."""
    return {"metadata": {"name": name}, "status": status}


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    """Return a condition."""
    return {"type": kind, "status": status, "message": message}


async def test_every_function_is_told_by_slug() -> None:
    """Its replicas are the Deployment's, its bounds and its cooldown KEDA's."""
    answers = {
        SCALED: [
            [
                scaled(
                    "launch-pod",
                    spec={"minReplicaCount": 1, "maxReplicaCount": 3, "cooldownPeriod": 5},
                    conditions=[condition("Ready", "True"), condition("Active", "True")],
                    lastActiveTime="2026-01-01T10:00:00Z",
                ),
                scaled("coordinate"),
            ]
        ],
        DEPLOYED: [[deployed("launch-pod", replicas=2), deployed("coordinate")]],
    }

    async with LocalApi(answers) as there:
        found = await KubernetesWorkloads("scripts", api=there.api).all()

    assert found == [
        Workload(
            slug="coordinate",
            replicas=0,
            min_replicas=0,
            max_replicas=100,
            active=False,
            last_active_at=None,
            cooldown=timedelta(seconds=300),
            paused=False,
            ready=False,
            message="",
        ),
        Workload(
            slug="launch-pod",
            replicas=2,
            min_replicas=1,
            max_replicas=3,
            active=True,
            last_active_at=datetime(2026, 1, 1, 10, tzinfo=UTC),
            cooldown=timedelta(seconds=5),
            paused=False,
            ready=True,
            message="",
        ),
    ]


async def test_what_keda_cannot_do_is_told() -> None:
    """In its own words; paused is not broken."""
    answers = {
        SCALED: [
            [
                scaled("a", conditions=[condition("Ready", "False", "error creating client")]),
                scaled("b", conditions=[condition("Ready", "True"), condition("Paused", "True")]),
                scaled("c", conditions=[condition("Ready", "Unknown")]),
            ]
        ],
        DEPLOYED: [[]],
    }

    async with LocalApi(answers) as there:
        found = await KubernetesWorkloads("scripts", api=there.api).all()

    assert [(one.slug, one.ready, one.paused, one.message) for one in found] == [
        ("a", False, False, "error creating client"),
        ("b", True, True, ""),
        ("c", False, False, ""),
    ]


async def test_only_what_is_ours_is_asked_for_and_as_whom() -> None:
    """Another application may live in the namespace; every page is read."""
    answers = {SCALED: [[scaled("a")], [scaled("b")]], DEPLOYED: [[]]}

    async with LocalApi(answers) as there:
        found = await KubernetesWorkloads("scripts", api=there.api).all()

    assert [one.slug for one in found] == ["a", "b"]
    assert {path for path, _, _ in there.asked} == {SCALED, DEPLOYED}
    assert all(query["labelSelector"] == ["app=integr8s"] for _, query, _ in there.asked)
    assert all(headers["authorization"] == "bearer t0ken" for _, _, headers in there.asked)


async def test_a_cluster_without_keda_is_one_sentence() -> None:
    """That says what to install."""
    async with LocalApi({DEPLOYED: [[]]}) as there:
        with pytest.raises(TemporaryError, match="no ScaledObjects: install KEDA") as failed:
            await KubernetesWorkloads("scripts", api=there.api).all()

    assert failed.value.retry_after > timedelta(seconds=1)


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_an_answer_that_is_none_is_told(status: int) -> None:
    """A right that is missing may be given while the gateway runs."""
    async with LocalApi({SCALED: status}) as there:
        with pytest.raises(TemporaryError, match=str(status)):
            await KubernetesWorkloads("scripts", api=there.api).all()


async def test_an_api_server_that_is_away_comes_back() -> None:
    """Each look is a new request."""
    async with LocalApi({SCALED: [[]], DEPLOYED: [[]]}) as there:
        workloads = KubernetesWorkloads("scripts", api=there.api)
        assert await workloads.all() == []
        there.stop()

        with pytest.raises(TemporaryError, match="No answer to GET"):
            await workloads.all()


async def test_a_process_without_an_account_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway serves everything else, and its pod may be given one later."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    workloads = KubernetesWorkloads("scripts")

    with pytest.raises(TemporaryError, match="no way to the API server"):
        await workloads.all()
    await workloads.close()
