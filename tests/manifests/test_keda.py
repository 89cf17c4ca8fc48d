"""The files under keda/: what KEDA, Kubernetes and our own autoscaler read."""

import importlib
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.events.topics import TOPICS, Topic
from shared.ports.collections import COLLECTIONS
from shared.ports.functions import FunctionSpec
from shared.runtime.scaling import (
    PREWAKE,
    KafkaTrigger,
    MongoTrigger,
    ScaledObject,
    WorkloadTrigger,
    load,
)

ROOT = Path(__file__).parents[2]
KEDA = ROOT / "keda"
NO_FUNCTIONS = {"authentication", "kustomization"}
SLUGS = sorted(path.stem for path in KEDA.glob("*.yaml") if path.stem not in NO_FUNCTIONS)
SCALED = load(KEDA)
BEHIND_SUBMIT = ["launch-pod", "monitor-pods", "persist-result", "relay-events", "saga-step"]
WITH_TOKEN = {"launch-pod", "monitor-pods"}
KAFKA = [
    (slug, trigger)
    for slug, scaled in SCALED.items()
    for trigger in scaled.triggers
    if isinstance(trigger, KafkaTrigger)
]
SPECS = sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("functions/*/spec.py"))
PROFILES = sorted(path.name for path in (KEDA / "overlays").iterdir())

each_function = pytest.mark.parametrize("slug", SLUGS)
each_spec = pytest.mark.parametrize("slug", SPECS)
each_kafka = pytest.mark.parametrize(
    ("slug", "trigger"),
    [pytest.param(slug, trigger, id=f"{slug}-{trigger.name}") for slug, trigger in KAFKA],
)
each_profile = pytest.mark.parametrize("profile", PROFILES)


def documents(path: Path) -> Mapping[str, dict[str, Any]]:
    """Return the documents of a file, by kind."""
    return {
        document["kind"]: document
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    }


def deployment(slug: str) -> dict[str, Any]:
    """Return a function's Deployment."""
    return documents(KEDA / f"{slug}.yaml")["Deployment"]


def pod(slug: str) -> dict[str, Any]:
    """Return the spec of its pods."""
    found: dict[str, Any] = deployment(slug)["spec"]["template"]["spec"]
    return found


def container(slug: str) -> dict[str, Any]:
    """Return its only container."""
    [only] = pod(slug)["containers"]
    return dict(only)


def raw_triggers(slug: str) -> list[dict[str, Any]]:
    """Return its triggers as they are written."""
    found: list[dict[str, Any]] = documents(KEDA / f"{slug}.yaml")["ScaledObject"]["spec"][
        "triggers"
    ]
    return found


def spec_of(slug: str) -> FunctionSpec:
    """Return what the function says of itself."""
    module = importlib.import_module(f"functions.{slug.replace('-', '_')}.spec")
    spec: FunctionSpec = module.SPEC
    return spec


def partitions(scaled: ScaledObject, *, large: bool = False) -> int:
    """Return the partitions of the widest topic that a function's own group reads, at least 1."""
    own = [
        TOPICS[Topic(trigger.topic)].partitions_large
        if large
        else TOPICS[Topic(trigger.topic)].partitions
        for trigger in scaled.triggers
        if isinstance(trigger, KafkaTrigger) and trigger.group == scaled.name
    ]
    return max(own, default=1)


@each_function
def test_file_has_a_deployment_and_its_scaled_object(slug: str) -> None:
    """Two documents with one name, which is the slug."""
    found = documents(KEDA / f"{slug}.yaml")

    assert list(found) == ["Deployment", "ScaledObject"]
    assert {document["metadata"]["name"] for document in found.values()} == {slug}
    assert SCALED[slug].target == slug


def test_each_function_has_a_file() -> None:
    """A function that nobody starts would be code for nobody, and the other way round."""
    assert set(SPECS) <= set(SLUGS)
    assert {slug.replace("-", "_") for slug in SLUGS} <= {
        path.name for path in (ROOT / "functions").iterdir()
    }


@each_spec
def test_topics_are_those_of_the_spec(slug: str) -> None:
    """One trigger per topic that the function consumes, with its slug as group; no other."""
    own = [
        trigger.topic
        for trigger in SCALED[slug].triggers
        if isinstance(trigger, KafkaTrigger) and trigger.group == slug
    ]

    assert sorted(own) == sorted(spec_of(slug).topics)


@each_spec
def test_slug_is_that_of_the_spec(slug: str) -> None:
    """Folder, slug and file have one name."""
    assert spec_of(slug).slug == slug


@each_spec
def test_grace_outlives_the_longest_handler(slug: str) -> None:
    """A handler that began before the signal may end, and 15 s are left to commit and leave."""
    needed = spec_of(slug).time_limit + timedelta(seconds=15)

    assert timedelta(seconds=pod(slug)["terminationGracePeriodSeconds"]) >= needed


@each_function
def test_sleeps_and_is_looked_at_each_second(slug: str) -> None:
    """Polled each second, from zero up."""
    scaled = SCALED[slug]

    assert (scaled.polling_interval, scaled.min_replicas) == (timedelta(seconds=1), 0)
    assert (scaled.idle_replicas, scaled.fallback) == (None, None)


@each_function
def test_maximum_is_the_partitions_of_the_widest_topic(slug: str) -> None:
    """More members would sit idle, and KEDA's own cap lets one too many through."""
    assert SCALED[slug].max_replicas == partitions(SCALED[slug])


@each_function
def test_cooldown_is_a_few_seconds(slug: str) -> None:
    """Long enough for the pause between two steps, short enough to be seen."""
    assert timedelta(seconds=5) <= SCALED[slug].cooldown_period <= timedelta(seconds=10)


@pytest.mark.parametrize("slug", BEHIND_SUBMIT)
def test_cooldown_is_at_least_that_of_the_head(slug: str) -> None:
    """Who is woken by coordinate's lag may not sleep earlier: the lag is gone in no time."""
    assert SCALED[slug].cooldown_period >= SCALED["coordinate"].cooldown_period


@each_function
def test_behavior_is_written(slug: str) -> None:
    """Without one an older algorithm decides, with a memory across sleep."""
    config = documents(KEDA / f"{slug}.yaml")["ScaledObject"]["spec"]["advanced"]

    assert set(config["horizontalPodAutoscalerConfig"]["behavior"]) == {"scaleUp", "scaleDown"}


@each_function
def test_manifest_carries_no_annotation(slug: str) -> None:
    """Pauses are written by hand on a cluster, never in a file."""
    metadata = documents(KEDA / f"{slug}.yaml")["ScaledObject"]["metadata"]

    assert set(metadata) == {"name", "labels"}


@pytest.mark.parametrize("slug", BEHIND_SUBMIT)
def test_prewake_watches_the_head(slug: str) -> None:
    """Each function behind submit starts with coordinate, without adding replicas for its lag."""
    [prewake] = [trigger for trigger in SCALED[slug].triggers if trigger.name == PREWAKE]

    assert prewake == KafkaTrigger(
        name=PREWAKE,
        topic="execution_events",
        group="coordinate",
        threshold=1000,
        offset_reset_policy="earliest",
    )


def test_only_those_behind_submit_are_prewoken() -> None:
    """Nobody else starts for an execution that is not theirs."""
    assert [slug for slug, trigger in KAFKA if trigger.name == PREWAKE] == BEHIND_SUBMIT


@each_kafka
def test_kafka_reads_from_the_start(slug: str, trigger: KafkaTrigger) -> None:
    """With latest the record that wakes is skipped."""
    assert trigger.offset_reset_policy == "earliest", slug


@each_kafka
def test_kafka_group_is_a_function(slug: str, trigger: KafkaTrigger) -> None:
    """A group that nobody is in would have lag for ever."""
    group = SCALED[trigger.group]

    assert trigger.topic in {
        other.topic
        for other in group.triggers
        if isinstance(other, KafkaTrigger) and other.group == group.name
    }, slug


@each_kafka
def test_kafka_wakes_for_one_record(slug: str, trigger: KafkaTrigger) -> None:
    """No record may wait for a second one."""
    assert trigger.activation == 0, slug


@each_function
def test_kafka_version_is_written(slug: str) -> None:
    """Unset it means a protocol that a broker may refuse any day."""
    versions = {
        trigger["metadata"]["version"]
        for trigger in raw_triggers(slug)
        if trigger["type"] == "kafka"
    }

    assert versions <= {"2.8.0"}


@each_function
def test_credentials_come_from_an_authentication(slug: str) -> None:
    """No engine is reached with what stands in a file."""
    known = {
        document["metadata"]["name"]
        for document in yaml.safe_load_all(
            (KEDA / "authentication.yaml").read_text(encoding="utf-8")
        )
    }
    used = {
        trigger["type"]: trigger.get("authenticationRef", {}).get("name")
        for trigger in raw_triggers(slug)
    }

    assert used.get("kafka", "kafka") == "kafka" in known
    assert used.get("mongodb", "mongo") == "mongo" in known


def test_authentications_hold_no_secret() -> None:
    """They name keys of Secrets."""
    text = (KEDA / "authentication.yaml").read_text(encoding="utf-8")

    for document in yaml.safe_load_all(text):
        assert set(document["spec"]) == {"secretTargetRef"}


def test_monitor_watches_executors_and_the_work_of_launch_pod() -> None:
    """Awake before the first pod is made, until the last one is finished."""
    triggers = {trigger.name: trigger for trigger in SCALED["monitor-pods"].triggers}
    executors = triggers["executors"]
    launching = {
        trigger.topic
        for trigger in SCALED["launch-pod"].triggers
        if isinstance(trigger, KafkaTrigger) and trigger.name != PREWAKE
    }

    assert isinstance(executors, WorkloadTrigger)
    assert executors.labels == {"app": "integr8s", "component": "executor"}
    assert launching == {
        trigger.topic
        for trigger in triggers.values()
        if isinstance(trigger, KafkaTrigger) and trigger.group == "launch-pod"
    }


def test_timers_ask_collections_that_exist() -> None:
    """Due timers and overdue outboxes, each in a collection of ours."""
    asked = [
        trigger for trigger in SCALED["fire-timers"].triggers if isinstance(trigger, MongoTrigger)
    ]

    assert {trigger.collection for trigger in asked} <= set(COLLECTIONS)
    assert [trigger.collection for trigger in asked if not trigger.watches_outbox] == ["timers"]


def test_timers_have_a_net_below_the_queries() -> None:
    """A pulse wakes fire-timers whatever the queries say."""
    assert [trigger["type"] for trigger in raw_triggers("fire-timers")].count("cron") == 1


@each_function
def test_deployment_leaves_replicas_to_the_autoscaler(slug: str) -> None:
    """Applying the files again must not stop, or start, anything."""
    assert "replicas" not in deployment(slug)["spec"]


@each_function
def test_deployment_selects_its_own_pods(slug: str) -> None:
    """Labels of pod and selector agree, and are not those of an executor."""
    spec = deployment(slug)["spec"]

    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == {"app": "integr8s", "component": slug}


@each_function
def test_container_pumps_its_slug(slug: str) -> None:
    """One image for all; the argument says which function."""
    assert (container(slug)["image"], container(slug)["args"]) == ("integr8s", ["pump", slug])


@each_function
def test_only_who_talks_to_the_cluster_has_a_token(slug: str) -> None:
    """Everybody else shares an account that has none."""
    has_token = slug in WITH_TOKEN

    assert pod(slug)["automountServiceAccountToken"] is has_token
    assert pod(slug)["serviceAccountName"] == (slug if has_token else "functions")


@each_function
def test_pump_is_probed_where_it_answers(slug: str) -> None:
    """By the name of the port; a start may take a minute before it counts as hung."""
    probed = {
        name: container(slug)[f"{name}Probe"]["httpGet"]
        for name in ("startup", "liveness", "readiness")
    }
    startup = container(slug)["startupProbe"]

    assert container(slug)["ports"] == [{"name": "health", "containerPort": 8080}]
    assert probed == {
        "startup": {"path": "/health/liveness", "port": "health"},
        "liveness": {"path": "/health/liveness", "port": "health"},
        "readiness": {"path": "/health/readiness", "port": "health"},
    }
    assert startup["periodSeconds"] * startup["failureThreshold"] == 60


@each_function
def test_brokers_are_those_of_the_function(slug: str) -> None:
    """KEDA takes them from the container, as the function does, not from a name of its own."""
    asked = [trigger["metadata"] for trigger in raw_triggers(slug) if trigger["type"] == "kafka"]
    [first, *_] = container(slug)["envFrom"]

    assert {one.get("bootstrapServersFromEnv") for one in asked} <= {"INTEGR8S_KAFKA_SERVERS"}
    assert first == {"configMapRef": {"name": "integr8s"}}


def kustomization(folder: Path) -> dict[str, Any]:
    """Return the kustomization of a folder."""
    found: dict[str, Any] = yaml.safe_load(
        (folder / "kustomization.yaml").read_text(encoding="utf-8")
    )
    return found


def test_kustomization_lists_every_file() -> None:
    """A file that is not listed is never applied."""
    files = sorted(path.name for path in KEDA.glob("*.yaml") if path.stem != "kustomization")

    assert sorted(kustomization(KEDA)["resources"]) == files


def test_zero_is_the_default_profile() -> None:
    """Who says nothing gets functions that sleep."""
    assert kustomization(KEDA)["components"] == ["overlays/zero"]


def operations(patch: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return each operation of a patch with the slugs that it is for."""
    wanted = re.compile(patch["target"].get("name", ".*"))
    return [
        (slug, operation)
        for slug in SLUGS
        if wanted.fullmatch(slug)
        for operation in yaml.safe_load(patch["patch"])
    ]


@each_profile
def test_profile_patches_what_is_there(profile: str) -> None:
    """Each patch is for ScaledObjects of ours, and replaces a field that they have."""
    component = kustomization(KEDA / "overlays" / profile)

    assert component["kind"] == "Component"
    for patch in component["patches"]:
        assert patch["target"]["kind"] == "ScaledObject"
        changes = operations(patch)
        assert changes
        for slug, operation in changes:
            field = operation["path"].removeprefix("/spec/")
            assert operation["op"] == "replace"
            assert field in documents(KEDA / f"{slug}.yaml")["ScaledObject"]["spec"]


@each_profile
def test_names_in_a_profile_are_functions(profile: str) -> None:
    """A name that was misspelt would patch nothing, silently."""
    named = {
        name
        for patch in kustomization(KEDA / "overlays" / profile)["patches"]
        for name in patch["target"].get("name", "").split("|")
        if name
    }

    assert named <= set(SLUGS)


def test_zero_profile_changes_nothing() -> None:
    """What a single machine computes from the files is what the cluster does by default."""
    for patch in kustomization(KEDA / "overlays" / "zero")["patches"]:
        for slug, operation in operations(patch):
            field = operation["path"].removeprefix("/spec/")
            spec = documents(KEDA / f"{slug}.yaml")["ScaledObject"]["spec"]
            assert spec[field] == operation["value"]


def test_large_profile_follows_the_large_topics() -> None:
    """A function that is not named keeps its maximum, which is right for those that read none."""
    maxima = {slug: scaled.max_replicas for slug, scaled in SCALED.items()}
    for patch in kustomization(KEDA / "overlays" / "large")["patches"]:
        maxima |= {slug: operation["value"] for slug, operation in operations(patch)}

    assert maxima == {slug: partitions(scaled, large=True) for slug, scaled in SCALED.items()}
