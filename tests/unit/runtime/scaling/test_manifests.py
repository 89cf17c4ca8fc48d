"""Reading ScaledObjects, and refusing what is not computed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.runtime.scaling import (
    CronTrigger,
    KafkaTrigger,
    ManifestError,
    MongoTrigger,
    WorkloadTrigger,
    load,
    parse,
)
from shared.runtime.scaling.objects import (
    SCALE_DOWN,
    Annotations,
    Behavior,
    Fallback,
    Policy,
    Rules,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KAFKA = {
    "bootstrapServers": "kafka:9092",
    "consumerGroup": "worker",
    "topic": "tasks",
    "version": "2.8.0",
}
CRON = {"timezone": "UTC", "start": "0 * * * *", "end": "1 * * * *", "desiredReplicas": "2"}
MONGO = {
    "dbName": "integr8s",
    "collection": "timers",
    "query": '{"due_at": {"$exists": true}, "$expr": {"$lte": ["$due_at", "$$NOW"]}}',
    "queryValue": "100",
}


def trigger(kind: str, metadata: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a trigger as it stands in a manifest."""
    return {"type": kind, "name": "one", "metadata": metadata, **fields}


def document(*triggers: Any, annotations: Any = None, **spec: Any) -> dict[str, Any]:
    """Return a ScaledObject, by default with one kafka trigger."""
    return {
        "kind": "ScaledObject",
        "metadata": {"name": "worker", **({"annotations": annotations} if annotations else {})},
        "spec": {
            "scaleTargetRef": {"name": "worker"},
            "triggers": list(triggers) or [trigger("kafka", KAFKA)],
            **spec,
        },
    }


def test_defaults_are_those_of_keda() -> None:
    """What is not written is what KEDA takes."""
    scaled = parse(document())

    assert (scaled.polling_interval, scaled.cooldown_period) == (
        timedelta(seconds=30),
        timedelta(seconds=300),
    )
    assert (scaled.min_replicas, scaled.max_replicas, scaled.idle_replicas) == (0, 100, None)
    assert scaled.behavior is None


def test_kafka_defaults_are_those_of_keda() -> None:
    """Ten records a replica, and latest."""
    [read] = parse(document(trigger("kafka", KAFKA))).triggers

    assert read == KafkaTrigger(
        name="one",
        topic="tasks",
        group="worker",
        threshold=10,
        activation=0,
        offset_reset_policy="latest",
    )


def test_workload_is_read() -> None:
    """Labels, and how many pods one replica carries."""
    metadata = {"podSelector": "app=integr8s,component=executor", "value": "1000"}

    [read] = parse(document(trigger("kubernetes-workload", metadata))).triggers

    assert read == WorkloadTrigger(
        name="one", labels={"app": "integr8s", "component": "executor"}, threshold=1000
    )


def test_query_is_read_as_a_filter() -> None:
    """The server's present time becomes the caller's."""
    [read] = parse(document(trigger("mongodb", MONGO))).triggers

    assert isinstance(read, MongoTrigger)
    assert read.filter_at(NOW) == {"due_at": {"$exists": True, "$lte": NOW}}


def test_brokers_may_come_from_the_environment() -> None:
    """Which broker KEDA asks is nothing that is computed here: both spellings mean the same."""
    metadata = {name: value for name, value in KAFKA.items() if name != "bootstrapServers"}
    from_environment = {**metadata, "bootstrapServersFromEnv": "INTEGR8S_KAFKA_SERVERS"}

    read = parse(document(trigger("kafka", from_environment)))

    assert read == parse(document())


@pytest.mark.parametrize(
    ("field", "watches"), [("wake_at", True), ("due_at", False)], ids=["outbox", "documents"]
)
def test_outbox_is_told_from_documents(field: str, *, watches: bool) -> None:
    """A query for overdue events is known by its field."""
    query = '{"$expr": {"$lte": ["$FIELD", "$$NOW"]}}'.replace("FIELD", field)

    [read] = parse(document(trigger("mongodb", {**MONGO, "query": query}))).triggers

    assert isinstance(read, MongoTrigger)
    assert read.watches_outbox is watches


def test_plain_condition_stays() -> None:
    """A field that is compared with a value keeps its condition beside the time's."""
    query = '{"state": "waiting", "$expr": {"$lt": ["$state", "$$NOW"]}}'

    [read] = parse(document(trigger("mongodb", {**MONGO, "query": query}))).triggers

    assert isinstance(read, MongoTrigger)
    assert read.filter_at(NOW) == {"state": {"$eq": "waiting", "$lt": NOW}}


def test_cron_is_read() -> None:
    """A window with its replicas."""
    [read] = parse(document(trigger("cron", CRON))).triggers

    assert isinstance(read, CronTrigger)
    assert (read.desired_replicas, read.is_open(NOW)) == (2, True)


def test_missing_parts_of_a_behavior_are_filled_in() -> None:
    """One window is written, all the rest is as Kubernetes fills it in."""
    advanced = {
        "horizontalPodAutoscalerConfig": {
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}
        }
    }

    scaled = parse(document(advanced=advanced))

    assert scaled.behavior == Behavior(
        down=Rules(policies=SCALE_DOWN.policies, window=timedelta(seconds=60))
    )


def test_policies_are_read() -> None:
    """Policies, their choice and a tolerance."""
    up = {
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 30}],
        "selectPolicy": "Min",
        "tolerance": "0.05",
        "stabilizationWindowSeconds": 5,
    }

    scaled = parse(
        document(advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": up}}})
    )

    assert scaled.behavior == Behavior(
        up=Rules(
            policies=(Policy("Percent", 50, timedelta(seconds=30)),),
            select="Min",
            window=timedelta(seconds=5),
            tolerance=0.05,
        )
    )


def test_fallback_is_read() -> None:
    """A threshold and a number."""
    scaled = parse(document(fallback={"failureThreshold": 3, "replicas": 2}))

    assert scaled.fallback == Fallback(failure_threshold=3, replicas=2)


@pytest.mark.parametrize(
    ("value", "paused"),
    [("true", True), ("1", True), ("on", True), ("", True), ("false", False), ("0", False)],
)
def test_annotation_that_is_no_boolean_counts_as_true(value: str, *, paused: bool) -> None:
    """As KEDA reads it, only a real false is false."""
    scaled = parse(document(annotations={"autoscaling.keda.sh/paused": value}))

    assert scaled.annotations.paused is paused


def test_pauses_are_read() -> None:
    """Each annotation by its name."""
    prefix = "autoscaling.keda.sh/"

    scaled = parse(
        document(
            annotations={
                f"{prefix}paused-replicas": "4",
                f"{prefix}paused-scale-in": "true",
                f"{prefix}paused-scale-out": "true",
                f"{prefix}force-activation": "true",
            }
        )
    )

    assert scaled.annotations == Annotations(
        paused_replicas=4, paused_scale_in=True, paused_scale_out=True, force_activation=True
    )


def kafka(**metadata: Any) -> dict[str, Any]:
    """Return a ScaledObject whose kafka trigger has other metadata."""
    return document(trigger("kafka", {**KAFKA, **metadata}))


def mongo(query: str) -> dict[str, Any]:
    """Return a ScaledObject with this query."""
    return document(trigger("mongodb", {**MONGO, "query": query}))


def behavior(scale_up: Any) -> dict[str, Any]:
    """Return a ScaledObject with this way of scaling up."""
    return document(advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": scale_up}}})


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        *(
            pytest.param(kafka(**{flag: "true"}), f"{flag} cannot be computed", id=flag)
            for flag in (
                "allowIdleConsumers",
                "limitToPartitionsWithLag",
                "ensureEvenDistributionOfPartitions",
                "excludePersistentLag",
                "scaleToZeroOnInvalidOffset",
                "partitionLimitation",
                "password",
            )
        ),
        pytest.param(kafka(topic=None), "topic must be a text", id="no-topic"),
        pytest.param(kafka(version=None), "version must be a text", id="no-version"),
        pytest.param(kafka(bootstrapServers=None), "exactly one of bootstrap", id="no-broker"),
        pytest.param(kafka(bootstrapServers=9092), "must be a text", id="number-as-broker"),
        pytest.param(
            kafka(bootstrapServersFromEnv="BROKERS"), "exactly one of bootstrap", id="two-brokers"
        ),
        pytest.param(kafka(lagThreshold=5), "lagThreshold must be a text", id="unquoted"),
        pytest.param(kafka(lagThreshold="0"), "of at least 1, in quotes", id="no-threshold"),
        pytest.param(kafka(lagThreshold="many"), "of at least 1, in quotes", id="word"),
        pytest.param(kafka(offsetResetPolicy="newest"), "earliest or latest", id="policy"),
        pytest.param(document(pollingInterval="1"), "without quotes", id="quoted"),
        pytest.param(document(pollingInterval=0), "at least 1", id="no-interval"),
        pytest.param(document(cooldownPeriod=True), "whole number", id="boolean"),
        pytest.param(document(minReplicaCount=5, maxReplicaCount=2), "is above", id="crossed"),
        pytest.param(document(idleReplicaCount=0), "must be below", id="idle"),
        pytest.param(document(advanced={"scalingModifiers": {}}), "scalingModifiers", id="formula"),
        pytest.param(document(surprise=1), "surprise cannot be computed", id="unknown"),
        pytest.param(document(triggers=[]), "must not be empty", id="no-trigger"),
        pytest.param(document(triggers={}), "must be a list", id="no-list"),
        pytest.param(document(triggers=["kafka"]), "must be a mapping", id="no-mapping"),
        pytest.param(document(*[trigger("kafka", KAFKA)] * 2), "have one name", id="twice"),
        pytest.param(document(trigger("redis", {})), "type must be kafka or", id="type"),
        pytest.param(
            document(trigger("kafka", KAFKA, metricType="Value")), "AverageValue", id="metric"
        ),
        pytest.param(
            document(scaleTargetRef={"name": "worker", "kind": "Job"}), "Deployment", id="kind"
        ),
        pytest.param(
            document(trigger("kubernetes-workload", {"podSelector": "a!=b", "value": "1"})),
            "list of key=value",
            id="selector",
        ),
        pytest.param(mongo("{}"), "not empty", id="empty-query"),
        pytest.param(mongo("due"), "no JSON", id="no-json"),
        pytest.param(mongo('{"$where": "1"}'), "Documents port", id="where"),
        pytest.param(mongo('{"a": {"$regex": "x"}}'), "Documents port", id="regex"),
        pytest.param(mongo('{"$expr": {"$lte": ["$a", "$b"]}}'), "the present", id="two-fields"),
        pytest.param(mongo('{"$expr": {"$eq": ["$a", "$$NOW"]}}'), "the present", id="equality"),
        pytest.param(
            document(trigger("cron", {**CRON, "end": CRON["start"]})), "must differ", id="same"
        ),
        pytest.param(document(trigger("cron", {**CRON, "start": "x"})), "five fields", id="cron"),
        pytest.param(behavior({"tolerance": "much"}), "tolerance must be", id="tolerance"),
        pytest.param(behavior({"tolerance": "1"}), "tolerance must be", id="all-tolerance"),
        pytest.param(behavior({"selectPolicy": "Best"}), "Max or Min or Disabled", id="select"),
        pytest.param(
            document(fallback={"failureThreshold": 1, "replicas": 1, "behavior": "x"}),
            "static or",
            id="fallback",
        ),
        pytest.param(
            document(annotations={"autoscaling.keda.sh/paused-replicas": "few"}),
            "whole number",
            id="paused-replicas",
        ),
    ],
)
def test_what_is_not_computed_is_refused(refused: dict[str, Any], sentence: str) -> None:
    """One sentence says where and why."""
    with pytest.raises(ManifestError, match=sentence):
        parse(refused)


def test_error_names_the_place() -> None:
    """The function, the trigger and the field are in the sentence, the remedy beside it."""
    with pytest.raises(ManifestError) as refusal:
        parse(kafka(lagThreshold=5))

    assert refusal.value.message == (
        "worker: spec.triggers[0].metadata: lagThreshold must be a text."
    )


def write(path: Path, name: str) -> None:
    """Write a Deployment and its ScaledObject."""
    path.write_text(
        f"""
kind: Deployment
metadata: {{name: {name}}}
---
kind: ScaledObject
metadata: {{name: {name}}}
spec:
  scaleTargetRef: {{name: {name}}}
  triggers:
    - type: kafka
      name: tasks
      metadata: {{bootstrapServers: "k:1", consumerGroup: g, topic: t, version: 2.8.0}}
""",
        encoding="utf-8",
    )


def test_directory_is_loaded_by_name(tmp_path: Path) -> None:
    """ScaledObjects by name in order; Deployments beside them are left alone."""
    write(tmp_path / "a.yaml", "second")
    write(tmp_path / "b.yaml", "first")

    assert list(load(tmp_path)) == ["first", "second"]


def test_name_may_not_come_twice(tmp_path: Path) -> None:
    """Two objects for one function would fight."""
    write(tmp_path / "a.yaml", "same")
    write(tmp_path / "b.yaml", "same")

    with pytest.raises(ManifestError, match=r"b\.yaml: same is defined twice"):
        load(tmp_path)


def test_empty_directory_is_refused(tmp_path: Path) -> None:
    """Nothing to scale is a wrong path, not an answer."""
    with pytest.raises(ManifestError, match="no ScaledObject is here"):
        load(tmp_path)


def test_broken_yaml_is_refused(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")

    with pytest.raises(ManifestError, match=r"broken\.yaml: this is no YAML"):
        load(tmp_path)
