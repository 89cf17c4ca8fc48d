"""Whatever starts our image: Deployments, Knative Services, the Job of the setup."""

import pytest

from tests.manifests.documents import EVERY, WITH_PODS, Manifest

each_with_pods = pytest.mark.parametrize("manifest", WITH_PODS, ids=str)


@each_with_pods
def test_runs_our_image_hardened(manifest: Manifest) -> None:
    """As nobody, with nothing to write to but its own memory, and nothing to gain."""
    pod, container = manifest.pod(), manifest.container()
    security = {**pod.get("securityContext", {}), **container["securityContext"]}

    assert container["image"] == "integr8s"
    assert security == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["enableServiceLinks"] is False


@each_with_pods
def test_is_bounded(manifest: Manifest) -> None:
    """Memory and processor have a request and a limit; what it writes is counted as memory."""
    resources = manifest.container()["resources"]
    volumes = {one["name"]: one for one in manifest.pod()["volumes"]}

    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
    assert volumes["tmp"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}


@each_with_pods
def test_environment_is_the_shared_one_and_its_own(manifest: Manifest) -> None:
    """From one ConfigMap, one Secret for all, and one that only this process has."""
    shared, secret, own = manifest.container()["envFrom"]

    assert shared == {"configMapRef": {"name": "integr8s"}}
    assert secret == {"secretRef": {"name": "integr8s"}}
    assert own["secretRef"]["name"] == f"integr8s-{manifest.name}"
    # Without the key that signs sessions a gateway would make one, and its neighbour another.
    assert own["secretRef"].get("optional", False) is (manifest.name != "gateway")


@each_with_pods
def test_certificates_of_the_engines_may_be_given(manifest: Manifest) -> None:
    """Where they are checked by a private authority's; without it the system's are used."""
    [volume] = [one for one in manifest.pod()["volumes"] if one["name"] == "ca"]
    mounts = {one["name"]: one["mountPath"] for one in manifest.container()["volumeMounts"]}

    assert volume["configMap"] == {"name": "integr8s-ca", "optional": True}
    assert mounts["ca"] == "/etc/integr8s/ca"


@each_with_pods
def test_account_is_there_and_has_a_token_only_with_rights(manifest: Manifest) -> None:
    """Who has no right has no token, and a pod never runs under an account that nobody made."""
    pod = manifest.pod()
    accounts = {one.name for one in EVERY if one.kind == "ServiceAccount"}
    bound = {one.name for one in EVERY if one.kind == "RoleBinding"}

    assert pod["serviceAccountName"] in accounts
    assert (pod.get("automountServiceAccountToken") is not False) == (
        pod["serviceAccountName"] in bound
    )
