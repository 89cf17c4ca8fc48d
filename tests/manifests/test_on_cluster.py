"""What a real API server says to the manifests, and to pods that want more than they may have."""

import copy
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.job import job_of
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.ports.cluster import PodSpec, Runtime
from tests.engines.kubernetes.engine import kubectl
from tests.manifests.documents import EVERY, KNATIVE, NAMESPACE, WITH_PODS, Manifest, of_file
from tests.manifests.test_knative import RIGHTS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

Body = dict[str, Any]
Mutation = Callable[[Body], None]


@dataclass(frozen=True)
class Server:
    """One API server, and a namespace of ours on it that goes with the tests."""

    kubeconfig: str
    namespace: str

    def __call__(self, *words: str, given: object = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        return subprocess.run(
            [kubectl(), "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *words],
            input=json.dumps(given) if given is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    def refusal(self, document: Mapping[str, Any]) -> str:
        """Return why it would not be created; nothing where it would."""
        done = self("create", "--dry-run=server", "-f", "-", given=self.here(document))
        return done.stderr if done.returncode else ""

    def apply(self, manifest: Manifest) -> None:
        """Apply a manifest; the namespace gets the name of ours."""
        document = self.here(manifest.document)
        if manifest.kind == "Namespace":
            document["metadata"]["name"] = self.namespace
        done = self("apply", "-f", "-", given=document)
        assert done.returncode == 0, done.stderr

    def here(self, value: Any) -> Any:
        """Return a document as if it were written for the namespace of these tests."""
        match value:
            case dict():
                moved = {name: self.here(one) for name, one in value.items()}
                if moved.get("namespace") == NAMESPACE:
                    moved["namespace"] = self.namespace
                return moved
            case list():
                return [self.here(one) for one in value]
            case _:
                return value


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return the cluster of KUBECONFIG, with our namespace and accounts under another name."""
    kubeconfig = os.environ.get("KUBECONFIG")  # noqa: TID251 - as every tool for clusters takes it
    if not kubeconfig:
        pytest.fail("KUBECONFIG names no cluster: ./taskw engines start kubernetes keda knative")
    server = Server(kubeconfig, f"{NAMESPACE}-manifests-{secrets.token_hex(3)}")
    try:
        for name in ("00-namespace.yaml", "10-accounts.yaml"):
            for manifest in of_file(KNATIVE / name):
                server.apply(manifest)
        yield server
    finally:
        server("delete", "namespace", server.namespace, "--ignore-not-found", "--wait=false")


# ------------------------------------------------------------------------------------- manifests


@pytest.mark.parametrize("manifest", EVERY, ids=str)
def test_manifest_is_accepted(server: Server, manifest: Manifest) -> None:
    """By the type's own schema, by defaults, and by the admission of whoever it is for."""
    done = server("apply", "--dry-run=server", "-f", "-", given=server.here(manifest.document))

    assert done.returncode == 0, (
        f"{done.stderr.strip()}\nDoes the cluster lack the type? ./taskw engines start keda knative"
    )


# ---------------------------------------------------------------------------------- restricted pods


def executor() -> Body:
    """Return the pod of a script, as the launcher makes it."""
    spec = PodSpec(
        name="exec-1",
        execution_id="1",
        saga_id="1",
        user_id="1",
        runtime=Runtime("bash", "5.2", "localhost/bash:5.2", ("bash",), "main.sh"),
        script=b"true",
        timeout=timedelta(seconds=5),
    )
    inputs = objects.inputs_of(spec, job_of(spec, is_filtered=True), program=b"", call_filter=b"")
    return objects.pod(spec, inputs, KubernetesOptions(), "mark")


def pod_of(manifest: Manifest) -> Body:
    """Return a pod as a manifest's controller makes it; Knative adds a container of its own."""
    spec = copy.deepcopy(manifest.pod())
    for field in ("containerConcurrency", "timeoutSeconds"):
        spec.pop(field, None)
    for probe in ("readinessProbe", "livenessProbe"):
        for container in spec["containers"]:
            container.get(probe, {}).get("httpGet", {}).setdefault("port", 8080)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": spec}


def contexts(body: Body) -> list[Body]:
    """Return the security settings of a pod and of its container."""
    spec = body["spec"]
    return [
        spec.setdefault("securityContext", {}),
        spec["containers"][0].setdefault("securityContext", {}),
    ]


def everywhere(field: str, value: object) -> Mutation:
    """Return a mutation of a setting wherever it stands, and of the container where it does not."""

    def mutate(body: Body) -> None:
        pod, container = contexts(body)
        for context in (pod, container):
            if field in context:
                context[field] = value
        container[field] = value

    return mutate


def without(field: str) -> Mutation:
    """Return a mutation that takes a setting away wherever it stands."""

    def mutate(body: Body) -> None:
        for context in contexts(body):
            context.pop(field, None)

    return mutate


def of_pod(field: str) -> Mutation:
    """Return a mutation that switches something on for the pod."""

    def mutate(body: Body) -> None:
        body["spec"][field] = True

    return mutate


def privileged(body: Body) -> None:
    """Everything that a node may, the container may."""
    contexts(body)[1].update(privileged=True, allowPrivilegeEscalation=True)


def host_path(body: Body) -> None:
    """The files of the node."""
    body["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def host_port(body: Body) -> None:
    """A port of the node."""
    ports = body["spec"]["containers"][0].setdefault("ports", [{"containerPort": 8080}])
    ports[0]["hostPort"] = ports[0]["containerPort"]


def bare(body: Body) -> None:
    """What somebody writes who has not heard of all this."""
    for context in contexts(body):
        context.clear()


def sysctl(body: Body) -> None:
    """A setting of the node's kernel."""
    contexts(body)[0]["sysctls"] = [{"name": "kernel.msgmax", "value": "1"}]


MUTATIONS: Mapping[str, Mutation] = {
    "privileged": privileged,
    "host network": of_pod("hostNetwork"),
    "host processes": of_pod("hostPID"),
    "host IPC": of_pod("hostIPC"),
    "host path": host_path,
    "host port": host_port,
    "root": everywhere("runAsUser", 0),
    "perhaps root": without("runAsNonRoot"),
    "root allowed": everywhere("runAsNonRoot", value=False),
    "no seccomp": without("seccompProfile"),
    "seccomp unconfined": everywhere("seccompProfile", {"type": "Unconfined"}),
    "a capability more": everywhere("capabilities", {"drop": ["ALL"], "add": ["NET_RAW"]}),
    "all capabilities kept": without("capabilities"),
    "escalation": everywhere("allowPrivilegeEscalation", value=True),
    "escalation by default": without("allowPrivilegeEscalation"),
    "sysctl": sysctl,
    "nothing said": bare,
}
PODS: Mapping[str, Body] = {
    "executor": executor(),
    **{f"{one.kind} {one.name}": pod_of(one) for one in WITH_PODS},
}
MUTATED = ("executor", "Deployment launch-pod", "Service gateway", "Job setup")


@pytest.mark.parametrize("pod", PODS)
def test_our_pods_are_accepted(server: Server, pod: str) -> None:
    """Everything that we start passes the restricted profile, the quota and the limits."""
    assert server.refusal(PODS[pod]) == ""


@pytest.mark.parametrize(("pod", "mutation"), list(product(MUTATED, MUTATIONS)))
def test_pod_that_wants_more_is_refused(server: Server, pod: str, mutation: str) -> None:
    """Whoever may make pods, or takes over who does, makes none that leaves its sandbox."""
    body = copy.deepcopy(PODS[pod])
    MUTATIONS[mutation](body)

    assert 'violates PodSecurity "restricted' in server.refusal(body)


def test_script_above_the_limit_is_refused(server: Server) -> None:
    """By the bound for each container."""
    body = executor()
    body["spec"]["containers"][0]["resources"]["limits"]["memory"] = "64Gi"

    assert "maximum memory usage per Container" in server.refusal(body)


def test_scripts_together_are_bounded(server: Server) -> None:
    """By the quota that counts only pods with a deadline."""
    body = executor()
    body["spec"]["containers"] = [
        {**body["spec"]["containers"][0], "name": f"script-{number}"} for number in range(121)
    ]

    assert "exceeded quota: executors" in server.refusal(body)
    del body["spec"]["activeDeadlineSeconds"]
    assert server.refusal(body) == ""


# ----------------------------------------------------------------------------------------- rights

RESOURCES = (
    *("pods", "pods/log", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "configmaps"),
    *("secrets", "serviceaccounts", "serviceaccounts/token", "events", "nodes", "namespaces"),
    *("apps/deployments", "apps/deployments/scale", "keda.sh/scaledobjects", "batch/jobs"),
    *("rbac.authorization.k8s.io/roles", "rbac.authorization.k8s.io/rolebindings"),
    *("networking.k8s.io/networkpolicies", "serving.knative.dev/services"),
)
GROUPS = {
    *("apps", "batch", "keda.sh", "rbac.authorization.k8s.io"),
    *("networking.k8s.io", "serving.knative.dev"),
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def review(account: str, resource: str, verb: str, *, within: str, namespace: str) -> Body:
    """Return the question whether an account may."""
    group, _, rest = resource.partition("/")
    if group not in GROUPS:
        group, rest = "", resource
    name, _, subresource = rest.partition("/")
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{within}:{account}",
            "resourceAttributes": {
                "namespace": namespace,
                "group": group,
                "resource": name,
                "subresource": subresource,
                "verb": verb,
            },
        },
    }


def allowed(server: Server, account: str, namespace: str) -> dict[str, set[str]]:
    """Return what the API server lets an account do, of all that is asked."""
    pairs = list(product(RESOURCES, VERBS))
    reviews = [
        review(account, resource, verb, within=server.namespace, namespace=namespace)
        for resource, verb in pairs
    ]
    done = server(
        *("create", "-o", 'jsonpath={.status.allowed}{"\\n"}', "-f", "-"),
        given={"apiVersion": "v1", "kind": "List", "items": reviews},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {}
    for (resource, verb), answer in zip(pairs, done.stdout.split(), strict=True):
        if answer == "true":
            found.setdefault(resource, set()).add(verb)
    return found


@pytest.mark.parametrize("account", [*RIGHTS, "functions", "default"])
def test_api_server_grants_what_the_table_says(server: Server, account: str) -> None:
    """And nothing else of all that is worth having."""
    assert allowed(server, account, server.namespace) == RIGHTS.get(account, {})


@pytest.mark.parametrize("account", RIGHTS)
def test_rights_end_at_the_namespace(server: Server, account: str) -> None:
    """In another one an account is nobody."""
    assert allowed(server, account, "kube-system") == {}
