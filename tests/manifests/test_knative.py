"""The files under knative/: what an operator applies before the functions that KEDA wakes."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.adapters.kubernetes import objects
from shared.events.executions import ExecutionSubmit
from shared.runtime.settings import Settings
from tests.manifests.documents import (
    EVERY,
    KNATIVE,
    NAMESPACE,
    ROOT,
    SPECS,
    Manifest,
    of_file,
    of_folder,
    spec_of,
)

OPTIONAL = {"21-policies-cilium.yaml", "60-eventing.yaml", "61-kafka-source.yaml"}
"""Files for clusters that have more than Knative Serving."""

FILES = sorted(path.name for path in KNATIVE.glob("*.yaml") if path.stem != "kustomization")
ALL = of_folder(KNATIVE)
SERVICES = [one for one in ALL if one.document["apiVersion"] == "serving.knative.dev/v1"]
HTTP = [one for one in SERVICES if one.name != "gateway"]
DELIVERING = [one for one in ALL if one.kind in {"Broker", "Trigger", "KafkaSource"}]

RIGHTS: Mapping[str, Mapping[str, set[str]]] = {
    "gateway": {
        "apps/deployments": {"get", "list"},
        "keda.sh/scaledobjects": {"get", "list"},
    },
    "launch-pod": {
        "pods": {"create", "get", "patch", "delete"},
        "pods/log": {"get"},
        "configmaps": {"create", "get", "patch", "delete"},
    },
    "monitor-pods": {
        "pods": {"get", "list", "watch", "patch", "delete"},
        "pods/log": {"get"},
        "configmaps": {"list", "delete"},
    },
}
"""Who may do what; nobody else may do anything."""

each_manifest = pytest.mark.parametrize("manifest", ALL, ids=str)
each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda one: one.name)
each_http = pytest.mark.parametrize("service", HTTP, ids=lambda one: one.name)
each_account = pytest.mark.parametrize("account", RIGHTS)
each_delivering = pytest.mark.parametrize("manifest", DELIVERING, ids=str)


def only(kind: str, name: str) -> dict[str, Any]:
    """Return the one document of a kind and a name."""
    [found] = [one.document for one in ALL if (one.kind, one.name) == (kind, name)]
    return dict(found)


def annotations(service: Manifest) -> Mapping[str, str]:
    """Return how a service is scaled, without the prefix."""
    found = service.document["spec"]["template"]["metadata"]["annotations"]
    return {name.removeprefix("autoscaling.knative.dev/"): text for name, text in found.items()}


def rights(role: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return resource -> verbs of a Role."""
    return {
        f"{group}/{resource}" if group else resource: set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


# ----------------------------------------------------------------------------------- the files


def test_files_are_numbered_by_the_order_in_which_they_are_applied() -> None:
    """Who reads the folder from above reads what has to be there before what."""
    kinds = [one.kind for one in ALL]

    assert all(re.match(r"\d\d-[a-z-]+\.yaml$", name) for name in FILES)
    assert kinds[0] == "Namespace"
    assert kinds.index("ConfigMap") < kinds.index("Job") < kinds.index("Service")
    assert kinds.index("Service") < kinds.index("Broker")


def test_kustomization_lists_every_file_that_every_cluster_takes() -> None:
    """A file that is not listed is never applied; one that needs more must not be."""
    listed = yaml.safe_load((KNATIVE / "kustomization.yaml").read_text("utf-8"))["resources"]

    assert listed == [name for name in FILES if name not in OPTIONAL]
    assert set(FILES) >= OPTIONAL


@each_manifest
def test_names_its_namespace(manifest: Manifest) -> None:
    """Applied by itself, a file lands where it belongs; nothing is for a whole cluster."""
    metadata = manifest.document["metadata"]

    assert metadata.get("namespace") == (None if manifest.kind == "Namespace" else NAMESPACE)
    assert not manifest.kind.startswith("Cluster")


@each_manifest
def test_holds_no_secret(manifest: Manifest) -> None:
    """A Secret that is in the tree is one that everybody knows."""
    assert manifest.kind != "Secret"


# ------------------------------------------------------------------------------------ settings


def test_every_setting_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that nobody reads would be a wish; one with a wrong value would stop every pod."""
    values = only("ConfigMap", "integr8s")["data"]
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    settings = Settings.read()

    assert {name.removeprefix("INTEGR8S_").lower() for name in values} <= set(Settings.model_fields)
    assert settings.enable_event_streaming
    assert settings.namespace == NAMESPACE
    assert settings.secure_cookies


def test_config_map_has_nothing_that_nobody_may_read() -> None:
    """Passwords, keys, and addresses that have passwords in them."""
    values = only("ConfigMap", "integr8s")["data"]
    names = {name.removeprefix("INTEGR8S_").lower() for name in values}
    secret = {
        name for name, one in Settings.model_fields.items() if "SecretStr" in str(one.annotation)
    }

    assert not names & secret


def test_brokers_have_a_complete_name() -> None:
    """KEDA looks it up too, from another namespace."""
    servers = only("ConfigMap", "integr8s")["data"]["INTEGR8S_KAFKA_SERVERS"]
    [source] = only("KafkaSource", "submit")["spec"]["bootstrapServers"]

    assert servers.partition(":")[0].endswith(".svc.cluster.local")
    assert source == servers


def test_database_is_the_one_that_triggers_ask() -> None:
    """KEDA has its own word for it, in every trigger."""
    values = only("ConfigMap", "integr8s")["data"]
    asked = {
        trigger["metadata"]["dbName"]
        for one in EVERY
        if one.kind == "ScaledObject"
        for trigger in one.document["spec"]["triggers"]
        if trigger["type"] == "mongodb"
    }

    assert asked == {values["INTEGR8S_MONGO_DATABASE"]}


# ----------------------------------------------------------------------------- namespace, rights


def test_namespace_refuses_what_is_not_restricted() -> None:
    """Whoever may make pods in it still makes none that could leave its sandbox."""
    labels = only("Namespace", NAMESPACE)["metadata"]["labels"]

    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn")} == {
        "restricted"
    }


def test_quota_counts_scripts_and_leaves_room_for_every_slot() -> None:
    """Only pods with a deadline count; as many as an installation may have slots fit in."""
    spec = only("ResourceQuota", "executors")["spec"]
    [limit] = [
        one
        for one in Settings.model_fields["max_concurrent_executions"].metadata
        if hasattr(one, "le")
    ]

    assert spec["scopes"] == ["Terminating"]
    assert int(spec["hard"]["pods"]) > limit.le
    assert set(spec["hard"]) == {"pods", "limits.cpu", "limits.memory"}


@each_account
def test_rights_are_the_least(account: str) -> None:
    """Nothing but what the table says, for nobody but who is in it."""
    binding = only("RoleBinding", account)

    assert rights(only("Role", account)) == RIGHTS[account]
    assert binding["roleRef"]["name"] == account
    assert [subject["name"] for subject in binding["subjects"]] == [account]


def test_nobody_else_has_rights() -> None:
    """Roles and accounts with a token are those of the table."""
    roles = {one.name for one in ALL if one.kind == "Role"}
    with_token = {
        one.name
        for one in ALL
        if one.kind == "ServiceAccount"
        and one.document.get("automountServiceAccountToken") is not False
    }

    assert roles == with_token == set(RIGHTS)


def test_nobody_may_read_secrets_or_enter_pods() -> None:
    """Not even by a wildcard."""
    granted = {
        (resource, verb)
        for one in ALL
        if one.kind == "Role"
        for resource, verbs in rights(one.document).items()
        for verb in verbs
    }

    assert not [pair for pair in granted if "*" in pair[0] + pair[1]]
    assert not {resource for resource, _ in granted} & {"secrets", "pods/exec", "pods/attach"}


def test_default_account_has_no_token() -> None:
    """Pods of scripts name no account."""
    assert only("ServiceAccount", "default")["automountServiceAccountToken"] is False


# ------------------------------------------------------------------------------------- policies


def test_scripts_are_cut_off() -> None:
    """By the labels that the launcher gives them, in both directions, without an exception."""
    spec = only("NetworkPolicy", "executors")["spec"]

    assert spec["podSelector"]["matchLabels"] == objects.LABELS
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(spec)


def test_scripts_are_cut_off_by_cilium_too() -> None:
    """Denied, so that no other policy opens it."""
    spec = only("CiliumNetworkPolicy", "executors")["spec"]

    assert spec["endpointSelector"]["matchLabels"] == objects.LABELS
    assert spec["ingressDeny"] == [{"fromEntities": ["all"]}]
    assert spec["egressDeny"] == [{"toEntities": ["all"]}]


def test_nobody_calls_what_keda_wakes() -> None:
    """Every pod of ours is closed; only those of Knative Services open, to Knative's namespaces."""
    closed = only("NetworkPolicy", "functions")["spec"]
    opened = only("NetworkPolicy", "served-by-knative")["spec"]
    [rule] = opened["ingress"]
    [sender] = rule["from"]

    assert closed == {
        "podSelector": {"matchLabels": {"app": "integr8s"}},
        "policyTypes": ["Ingress"],
    }
    assert "serving.knative.dev/service" in str(opened["podSelector"])
    assert set(sender) == {"namespaceSelector"}


# ----------------------------------------------------------------------------------- the setup


def test_setup_is_repeated_until_engines_answer() -> None:
    """A Job that gives up in time, and whose pods are told from those of scripts."""
    spec = only("Job", "setup")["spec"]

    assert spec["activeDeadlineSeconds"] > 0
    assert "activeDeadlineSeconds" not in spec["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    assert container["args"] == ["setup"]


# --------------------------------------------------------------------------------------- Knative


@each_service
def test_kn_takes_the_file_as_it_is(service: Manifest) -> None:
    """`kn service apply NAME -f FILE` reads one Service; number and name are those of the file."""
    [document] = list(of_file(service.path))

    assert (document.kind, document.document["apiVersion"]) == ("Service", "serving.knative.dev/v1")
    assert re.fullmatch(rf"\d\d-{service.name}\.yaml", service.path.name)


@each_service
def test_pod_has_only_fields_that_knative_knows(service: Manifest) -> None:
    """The others are refused by default; container settings are not those of the pod."""
    known = {
        *("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"),
        *("containerConcurrency", "timeoutSeconds", "containers", "volumes"),
    }

    assert set(service.pod()) <= known
    # True is refused; whoever has a token leaves the field out.
    assert service.pod().get("automountServiceAccountToken") is not True


@each_service
def test_service_sleeps_and_is_bounded(service: Manifest) -> None:
    """From zero to a known number; the annotations are those of the template."""
    scaling = annotations(service)

    assert scaling["min-scale"] == "0"
    assert int(scaling["max-scale"]) >= 1
    assert "annotations" not in service.document["metadata"]


@each_service
def test_readiness_is_asked_without_a_period(service: Manifest) -> None:
    """Only then does Knative ask many times a second; it refuses a time limit beside that."""
    probe = service.container()["readinessProbe"]

    assert set(probe) == {"httpGet"}
    assert service.container()["ports"] == [{"containerPort": 8080}]


@each_service
def test_pods_are_told_from_those_of_deployments(service: Manifest) -> None:
    """A Deployment of the same slug must not select them."""
    labels = service.document["spec"]["template"]["metadata"]["labels"]
    selectors = [
        one.document["spec"]["selector"]["matchLabels"] for one in EVERY if one.kind == "Deployment"
    ]

    assert labels["app"] == "integr8s"
    assert labels not in selectors


def test_gateway_holds_streams() -> None:
    """An open stream is a request: any number at once, as long as Knative allows, counted."""
    [gateway] = [one for one in SERVICES if one.name == "gateway"]

    assert gateway.container()["args"] == ["gateway"]
    assert gateway.pod()["containerConcurrency"] == 0
    assert gateway.pod()["timeoutSeconds"] == 600
    assert annotations(gateway)["target"] == "200"


def test_gateway_is_probed_where_it_answers() -> None:
    """Its health is part of its API."""
    [gateway] = [one for one in SERVICES if one.name == "gateway"]
    operations = json.loads((ROOT / "gateway" / "openapi.json").read_text("utf-8"))["paths"]
    probed = {
        gateway.container()[probe]["httpGet"]["path"]
        for probe in ("readinessProbe", "livenessProbe")
    }

    assert probed == {"/api/v1/health/ready", "/api/v1/health/live"}
    assert probed <= set(operations)


@each_http
def test_function_takes_events_over_http(service: Manifest) -> None:
    """Its slug, its probes, only from within the cluster, no more at once than it bears."""
    spec = spec_of(service.name)
    container = service.container()
    labels = service.document["metadata"]["labels"]

    assert service.name in SPECS
    assert container["args"] == ["http", service.name]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/readiness"
    assert labels["networking.knative.dev/visibility"] == "cluster-local"
    assert service.pod()["containerConcurrency"] <= spec.concurrency
    assert timedelta(seconds=service.pod()["timeoutSeconds"]) > spec.time_limit


def test_functions_over_http_are_those_that_events_are_sent_to() -> None:
    """A Service that nothing calls would be one too many, a sink that is none would lose events."""
    sinks = {
        reference["name"]
        for one in ALL
        if one.kind in {"Broker", "Trigger", "PingSource", "KafkaSource"}
        for reference in references(one.document["spec"])
        if reference["kind"] == "Service"
    }

    assert sinks == {one.name for one in HTTP}


def references(value: object) -> list[Mapping[str, Any]]:
    """Return every `ref` below a value."""
    match value:
        case {"ref": {"kind": _, "name": _} as found}:
            return [found]
        case dict():
            return [found for one in value.values() for found in references(one)]
        case _:
            return []


# -------------------------------------------------------------------------------------- Eventing


@each_delivering
def test_what_is_not_taken_is_kept(manifest: Manifest) -> None:
    """Without a sink, and without waiting between tries, refused events are gone for good."""
    delivery = manifest.document["spec"]["delivery"]
    [sink] = references(delivery["deadLetterSink"])

    assert sink["name"] == "retry-dead-letters"
    assert delivery["retry"] > 0
    assert delivery["backoffDelay"] == "PT1S"


def test_trigger_filters_by_a_type_that_its_subscriber_consumes() -> None:
    """And delivers in order, which is not the default."""
    trigger = only("Trigger", "submit")
    name = trigger["spec"]["subscriber"]["ref"]["name"]

    assert trigger["spec"]["broker"] == only("Broker", "default")["metadata"]["name"]
    assert trigger["spec"]["filter"]["attributes"] == {"type": ExecutionSubmit.TYPE}
    assert ExecutionSubmit in spec_of(name).consumes
    annotation = "kafka.eventing.knative.dev/delivery.order"
    assert trigger["metadata"]["annotations"][annotation] == "ordered"


def test_source_reads_what_the_pump_would() -> None:
    """The topic and the group of the function, from the start."""
    spec = only("KafkaSource", "submit")["spec"]

    assert spec["topics"] == list(spec_of("submit").topics)
    assert (spec["consumerGroup"], spec["initialOffset"]) == ("submit", "earliest")


def test_pulse_lets_its_function_sleep() -> None:
    """More often than every 90 s would keep it awake."""
    assert only("PingSource", "fire-timers")["spec"]["schedule"] == "*/5 * * * *"


def test_every_name_of_a_file_in_a_comment_is_one() -> None:
    """Comments lead to other files; those that moved lead nowhere."""
    named = {
        (path.name, found)
        for path in KNATIVE.glob("*.yaml")
        for found in re.findall(r"\b(?:knative|keda|docs)/[\w./-]+\w", path.read_text("utf-8"))
    }

    assert not [pair for pair in named if not Path(ROOT, pair[1]).exists()]
