"""ScaledObjects from YAML, refused wherever they say what we do not compute.

KEDA ignores unknown fields and treats some values in surprising ways; here each is refused with a
sentence, so that a decision which is shown is the decision that the cluster would take.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from shared.domain.errors import StartupError
from shared.runtime.scaling.cron import Schedule, parse_schedule
from shared.runtime.scaling.objects import (
    SCALE_DOWN,
    SCALE_UP,
    Annotations,
    Behavior,
    CronTrigger,
    Fallback,
    FallbackBehavior,
    KafkaTrigger,
    MongoTrigger,
    OffsetResetPolicy,
    Policy,
    Rules,
    ScaledObject,
    SelectPolicy,
    Trigger,
    WorkloadTrigger,
)

_OPERATORS = frozenset({"$eq", "$ne", "$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$exists"})
_MOMENT_OPERATORS = frozenset({"$lt", "$lte", "$gt", "$gte"})
_FALSE = frozenset({"0", "f", "F", "false", "False", "FALSE"})


class ManifestError(StartupError):
    """A ScaledObject that cannot be read, or says what we do not compute."""

    def __init__(self, where: str, problem: str) -> None:
        """Name the place in the document and what is wrong with it."""
        super().__init__(f"{where}: {problem}.", remedy="Correct the manifest.")


def load(directory: Path) -> Mapping[str, ScaledObject]:
    """Return the ScaledObjects of a directory's YAML files, by name, in order of the names.

    Other documents in the files are left alone, and so are files below the directory: overlays
    belong to a cluster.

    Raises:
        ManifestError: A document is refused, a name comes twice, or there is none at all.
    """
    found: dict[str, ScaledObject] = {}
    for path in sorted(directory.glob("*.yaml")):
        for document in _documents(path):
            scaled = parse(document)
            if scaled.name in found:
                raise ManifestError(path.name, f"{scaled.name} is defined twice")
            found[scaled.name] = scaled
    if not found:
        raise ManifestError(str(directory), "no ScaledObject is here")
    return dict(sorted(found.items()))


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ManifestError(path.name, "this is no YAML that can be read") from error
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "ScaledObject":
            yield document


def parse(document: Mapping[str, Any]) -> ScaledObject:
    """Return what a ScaledObject's document says.

    Raises:
        ManifestError: With the place and the reason.
    """
    metadata = _Section("metadata", document.get("metadata"))
    name = metadata.text("name")
    spec = _Section(f"{name}: spec", document.get("spec"))
    advanced = spec.section("advanced")
    target = spec.section("scaleTargetRef", required=True)
    target.choice("kind", ("Deployment",), default="Deployment")
    scaled = ScaledObject(
        name=name,
        target=target.text("name"),
        triggers=_triggers(spec),
        polling_interval=spec.seconds("pollingInterval", default=30, least=1),
        cooldown_period=spec.seconds("cooldownPeriod", default=300),
        initial_cooldown_period=spec.seconds("initialCooldownPeriod", default=0),
        min_replicas=spec.number("minReplicaCount", default=0),
        max_replicas=spec.number("maxReplicaCount", default=100, least=1),
        idle_replicas=spec.optional_number("idleReplicaCount"),
        fallback=_fallback(spec),
        behavior=_behavior(advanced.section("horizontalPodAutoscalerConfig")),
        annotations=_annotations(metadata),
    )
    target.only("name", "kind", "apiVersion", "envSourceContainerName")
    advanced.only("horizontalPodAutoscalerConfig")
    spec.only("scaleTargetRef", "triggers", "fallback", "advanced")
    _check_bounds(scaled)
    return scaled


def _check_bounds(scaled: ScaledObject) -> None:
    where = f"{scaled.name}: spec"
    if scaled.min_replicas > scaled.max_replicas:
        raise ManifestError(where, "minReplicaCount is above maxReplicaCount")
    if scaled.idle_replicas is not None and scaled.idle_replicas >= scaled.min_replicas:
        raise ManifestError(where, "idleReplicaCount must be below minReplicaCount")


class _Section:
    """One mapping of the document; remembers what was asked of it, so that the rest is refused."""

    def __init__(self, where: str, fields: object) -> None:
        self.where = where
        if not isinstance(fields, Mapping):
            raise ManifestError(where, "this must be a mapping")
        self.fields: Mapping[str, Any] = fields
        self._known: set[str] = set()

    def error(self, problem: str) -> ManifestError:
        return ManifestError(self.where, problem)

    def only(self, *others: str) -> None:
        """Refuse every field that was neither read nor is named here."""
        unknown = sorted(set(map(str, self.fields)) - self._known - set(others))
        if unknown:
            raise self.error(f"{', '.join(unknown)} cannot be computed here and may not be used")

    def section(self, name: str, *, required: bool = False) -> "_Section":
        fields = self.take(name)
        return _Section(f"{self.where}.{name}", {} if fields is None and not required else fields)

    def take(self, name: str, default: object = None) -> Any:
        self._known.add(name)
        return self.fields.get(name, default)

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str) or not value:
            raise self.error(f"{name} must be a text")
        return value

    def choice(self, name: str, allowed: Collection[str], *, default: str) -> str:
        value = self.text(name, default=default)
        if value not in allowed:
            raise self.error(f"{name} must be {' or '.join(allowed)}, not {value}")
        return value

    def number(self, name: str, *, default: int | None = None, least: int = 0) -> int:
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(f"{name} must be a whole number of at least {least}, without quotes")
        return value

    def optional_number(self, name: str) -> int | None:
        return None if self.take(name) is None else self.number(name)

    def one_of(self, *names: str) -> str:
        """Read the one field of these that is written: with two, KEDA takes one without a word."""
        given = [name for name in names if self.take(name) is not None]
        if len(given) != 1:
            raise self.error(f"exactly one of {' and '.join(names)} must be written")
        return self.text(given[0])

    def seconds(self, name: str, *, default: int | None = None, least: int = 0) -> timedelta:
        return timedelta(seconds=self.number(name, default=default, least=least))

    def quoted_number(self, name: str, *, default: int | None = None, least: int = 0) -> int:
        text = self.text(name, default=None if default is None else str(default))
        if not text.isdecimal() or int(text) < least:
            raise self.error(f"{name} must be a whole number of at least {least}, in quotes")
        return int(text)

    def elements(self, name: str) -> list[Any]:
        value = self.take(name)
        if not isinstance(value, list):
            raise self.error(f"{name} must be a list")
        return value


def _triggers(spec: _Section) -> tuple[Trigger, ...]:
    listed = spec.elements("triggers")
    triggers = tuple(
        _trigger(_Section(f"{spec.where}.triggers[{index}]", fields))
        for index, fields in enumerate(listed)
    )
    if not triggers:
        raise spec.error("triggers must not be empty")
    if len({trigger.name for trigger in triggers}) < len(triggers):
        raise spec.error("two triggers have one name")
    return triggers


def _trigger(section: _Section) -> Trigger:
    kind = section.choice("type", tuple(_READERS), default="")
    section.choice("metricType", ("AverageValue",), default="AverageValue")
    metadata = section.section("metadata", required=True)
    trigger = _READERS[kind](section.text("name"), metadata)
    section.only("authenticationRef", "useCachedMetrics")
    metadata.only()
    return trigger


def _kafka(name: str, metadata: _Section) -> KafkaTrigger:
    # A name of the servers would be looked up in the autoscaler's namespace, not in the function's;
    # from the environment it is the address that the function itself uses.
    metadata.one_of("bootstrapServers", "bootstrapServersFromEnv")
    # Unset it means protocol 1.0.0, which upgrades of the broker have broken before.
    metadata.text("version")
    policy = metadata.choice("offsetResetPolicy", get_args(OffsetResetPolicy), default="latest")
    return KafkaTrigger(
        name=name,
        # Without a topic only what the group committed counts: a new group would never wake.
        topic=metadata.text("topic"),
        group=metadata.text("consumerGroup"),
        threshold=metadata.quoted_number("lagThreshold", default=10, least=1),
        activation=metadata.quoted_number("activationLagThreshold", default=0),
        offset_reset_policy=cast(OffsetResetPolicy, policy),
    )


def _workload(name: str, metadata: _Section) -> WorkloadTrigger:
    labels: dict[str, str] = {}
    for part in metadata.text("podSelector").split(","):
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key.endswith("!") or value.startswith("="):
            raise metadata.error("podSelector must be a list of key=value")
        labels[key.strip()] = value.strip()
    return WorkloadTrigger(
        name=name,
        labels=labels,
        threshold=metadata.quoted_number("value", least=1),
        activation=metadata.quoted_number("activationValue", default=0),
    )


def _mongo(name: str, metadata: _Section) -> MongoTrigger:
    conditions, moments = _query(metadata)
    return MongoTrigger(
        name=name,
        database=metadata.text("dbName"),
        collection=metadata.text("collection"),
        conditions=conditions,
        moments=moments,
        threshold=metadata.quoted_number("queryValue", least=1),
        activation=metadata.quoted_number("activationQueryValue", default=0),
    )


def _query(metadata: _Section) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    try:
        query = json.loads(metadata.text("query"))
    except ValueError as error:
        raise metadata.error("query is no JSON") from error
    if not isinstance(query, dict) or not query:
        raise metadata.error("query must be a JSON object that is not empty")
    moments = _moments(metadata, query.pop("$expr", None))
    for name, value in query.items():
        if name.startswith("$") or not _is_plain(value):
            raise metadata.error(f"query: {name} uses what the Documents port does not have")
    return query, moments


def _is_plain(value: object) -> bool:
    return not isinstance(value, dict) or value.keys() <= _OPERATORS


def _moments(metadata: _Section, expression: object) -> Mapping[str, str]:
    """Read `{"$lte": ["$field", "$$NOW"]}`: the one expression whose text need not change."""
    match expression:
        case None:
            return {}
        case {**comparisons} if len(comparisons) == 1:
            [(operator, sides)] = comparisons.items()
            name = _compared_with_now(sides)
            if name and operator in _MOMENT_OPERATORS:
                return {name: operator}
        case _:
            pass
    raise metadata.error('query: $expr must compare one field with the present, as ["$f", "$$NOW"]')


def _compared_with_now(sides: object) -> str:
    """Return the field of `["$field", "$$NOW"]`, or nothing where it is anything else."""
    match sides:
        case [str(side), "$$NOW"] if side.startswith("$") and not side.startswith("$$"):
            return side.removeprefix("$")
        case _:
            return ""


def _cron(name: str, metadata: _Section) -> CronTrigger:
    timezone = metadata.text("timezone")
    start, end = metadata.text("start"), metadata.text("end")
    if start == end:
        raise metadata.error("start and end must differ")
    return CronTrigger(
        name=name,
        start=_schedule(metadata, start, timezone),
        end=_schedule(metadata, end, timezone),
        desired_replicas=metadata.quoted_number("desiredReplicas", least=1),
    )


def _schedule(metadata: _Section, text: str, timezone: str) -> Schedule:
    try:
        return parse_schedule(text, timezone=timezone)
    except ValueError as error:
        raise metadata.error(str(error)) from error


_READERS: Mapping[str, Callable[[str, _Section], Trigger]] = {
    "kafka": _kafka,
    "kubernetes-workload": _workload,
    "mongodb": _mongo,
    "cron": _cron,
}


def _fallback(spec: _Section) -> Fallback | None:
    if spec.take("fallback") is None:
        return None
    section = spec.section("fallback")
    behavior = section.choice("behavior", get_args(FallbackBehavior), default="static")
    fallback = Fallback(
        failure_threshold=section.number("failureThreshold"),
        replicas=section.number("replicas"),
        behavior=cast(FallbackBehavior, behavior),
    )
    section.only()
    return fallback


def _behavior(config: _Section) -> Behavior | None:
    if config.take("behavior") is None:
        config.only()
        return None
    section = config.section("behavior")
    behavior = Behavior(
        up=_rules(section.section("scaleUp"), SCALE_UP),
        down=_rules(section.section("scaleDown"), SCALE_DOWN),
    )
    section.only()
    config.only()
    return behavior


def _rules(section: _Section, given: Rules) -> Rules:
    """Read one direction; what is missing is filled in as Kubernetes does it."""
    window = section.optional_number("stabilizationWindowSeconds")
    select = section.choice("selectPolicy", get_args(SelectPolicy), default=given.select)
    rules = Rules(
        policies=_policies(section) or given.policies,
        select=cast(SelectPolicy, select),
        window=given.window if window is None else timedelta(seconds=window),
        tolerance=_tolerance(section),
    )
    section.only()
    return rules


def _policies(section: _Section) -> Sequence[Policy]:
    if section.take("policies") is None:
        return ()
    return tuple(
        _policy(_Section(f"{section.where}.policies[{index}]", fields))
        for index, fields in enumerate(section.elements("policies"))
    )


def _policy(section: _Section) -> Policy:
    kind = section.choice("type", ("Pods", "Percent"), default="")
    policy = Policy(
        cast(Literal["Pods", "Percent"], kind),
        section.number("value", least=1),
        section.seconds("periodSeconds", least=1),
    )
    section.only()
    return policy


def _tolerance(section: _Section) -> float | None:
    value = section.take("tolerance")
    if value is None:
        return None
    try:
        tolerance = float(value)
    except (TypeError, ValueError) as error:
        raise section.error("tolerance must be a share such as 0.1") from error
    if not 0 <= tolerance < 1:
        raise section.error("tolerance must be a share from 0 to below 1")
    return tolerance


def _annotations(metadata: _Section) -> Annotations:
    section = metadata.section("annotations")
    return Annotations(
        paused=_flag(section, "paused"),
        paused_replicas=_paused_replicas(section),
        paused_scale_in=_flag(section, "paused-scale-in"),
        paused_scale_out=_flag(section, "paused-scale-out"),
        force_activation=_flag(section, "force-activation"),
    )


def _flag(section: _Section, name: str) -> bool:
    """Read an annotation as KEDA does: a value that is no boolean counts as true."""
    value = section.take(f"autoscaling.keda.sh/{name}")
    return value is not None and str(value) not in _FALSE


def _paused_replicas(section: _Section) -> int | None:
    name = "autoscaling.keda.sh/paused-replicas"
    return None if section.take(name) is None else section.quoted_number(name)
