"""What a doctor reads of a cluster."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.adapters.kubernetes.installation import KubernetesInstallation
from shared.domain.errors import PermanentError, TemporaryError
from shared.ports.installation import Namespace
from tests.unit.adapters.kubernetes.local_api import LocalApi
from tests.unit.adapters.kubernetes.manifests import RUNNING, manifest

NAMESPACE = "/api/v1/namespaces/scripts"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/scripts/networkpolicies"
KEDA, KNATIVE = "/apis/keda.sh/v1alpha1", "/apis/serving.knative.dev/v1"


async def looked(
    answers: dict[str, Any], look: Callable[[KubernetesInstallation], Awaitable[Any]]
) -> Any:
    """Return what one look at such a cluster finds."""
    async with LocalApi(answers) as there:
        return await look(KubernetesInstallation("scripts", there.api))


async def test_a_namespace_has_a_level_and_policies() -> None:
    """The level is the one that is enforced, not those that only warn."""
    labels = {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    answers = {
        NAMESPACE: {"metadata": {"name": "scripts", "labels": labels}},
        POLICIES: {"items": [{"metadata": {"name": name}} for name in ("executors", "others")]},
    }

    found = await looked(answers, KubernetesInstallation.namespace)

    assert found == Namespace("scripts", "baseline", frozenset({"executors", "others"}))


async def test_a_bare_namespace_has_neither() -> None:
    """As `kubectl create namespace` makes it."""
    answers = {NAMESPACE: {"metadata": {"name": "scripts"}}, POLICIES: {"items": []}}

    found = await looked(answers, KubernetesInstallation.namespace)

    assert found == Namespace("scripts", "", frozenset())


async def test_a_missing_namespace_is_none() -> None:
    """That is an answer, and no error."""
    assert await looked({}, KubernetesInstallation.namespace) is None


@pytest.mark.parametrize(
    ("answers", "has_keda", "has_knative"),
    [
        ({}, False, False),
        ({KEDA: {"resources": [{"name": "scaledobjects"}]}}, True, False),
        ({KNATIVE: {"resources": [{"name": "services"}, {"name": "routes"}]}}, False, True),
        ({KEDA: {"resources": [{"name": "scaledobjects/status"}]}}, False, False),
    ],
    ids=["nothing", "KEDA", "Knative", "half"],
)
async def test_types_are_there_or_not(
    answers: dict[str, Any], *, has_keda: bool, has_knative: bool
) -> None:
    """By what the API server itself says it knows."""
    assert await looked(answers, KubernetesInstallation.has_keda) is has_keda
    assert await looked(answers, KubernetesInstallation.has_knative) is has_knative


@pytest.mark.parametrize("status", [401, 403])
async def test_what_may_not_be_read_is_told_apart(status: int) -> None:
    """It says nothing about the installation."""
    with pytest.raises(PermanentError, match="may not read /api/v1/namespaces/scripts"):
        await looked({NAMESPACE: status}, KubernetesInstallation.namespace)


async def test_no_answer_is_no_answer() -> None:
    """Nor is that."""
    with pytest.raises(TemporaryError, match="500"):
        await looked({KEDA: 500}, KubernetesInstallation.has_keda)


async def test_pods_of_scripts_are_listed() -> None:
    """As the invariants want them."""
    pods = await looked({f"{NAMESPACE}/pods": [[manifest(RUNNING)]]}, KubernetesInstallation.pods)

    assert [pod.name for pod in pods] == [manifest(RUNNING)["metadata"]["name"]]
