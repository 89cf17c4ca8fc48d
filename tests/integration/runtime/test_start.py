"""How processes of the cluster profile begin: late engines, wrong passwords, nobody to sign in."""

import pytest

from tests.integration.runtime.own_engines import OwnEngines
from tests.integration.runtime.system import SECRET, System, User, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
WRONG = "open-sesame-0123456789"


def test_a_pump_works_once_kafka_appears(system: System, engines: OwnEngines) -> None:
    """It says what it waits for, is not ready meanwhile, and needs no restart."""
    system.set_up()
    with system.gateway() as gateway:
        user = User(gateway)
        engines.stop("kafka")
        execution_id = user.submit()

        with system.start("pump", "coordinate") as pump:
            pump.entry.wait_for("waiting for the event log: no answer from Kafka", times=2)
            before = pump.readiness()
            engines.start("kafka")
            pump.entry.wait_for("consumes its topics")
            after = pump.readiness()
            until(lambda: user.status_of(execution_id) == "scheduled", "it is scheduled")

    assert before[0] == 503
    assert before[1]["checks"] == {"event_log": "down", "documents": "ok"}
    assert after == (200, {"status": "ready", "checks": {"event_log": "ok", "documents": "ok"}})


MONGO = "INTEGR8S_MONGO_URL"
REDIS = "INTEGR8S_REDIS_URL"
KAFKA = "INTEGR8S_KAFKA_SERVERS"


@pytest.mark.parametrize(
    ("process", "engine", "remedy"),
    [
        ("pump coordinate", MONGO, "Correct user and password in INTEGR8S_MONGO_URL"),
        ("http persist-result", MONGO, "Correct user and password in INTEGR8S_MONGO_URL"),
        ("gateway", MONGO, "Correct user and password in INTEGR8S_MONGO_URL"),
        ("setup", MONGO, "Correct user and password in INTEGR8S_MONGO_URL"),
        ("pump relay-events", REDIS, "Correct user and password in INTEGR8S_REDIS_URL"),
        ("gateway", REDIS, "Correct user and password in INTEGR8S_REDIS_URL"),
        ("pump coordinate", KAFKA, "INTEGR8S_KAFKA_SASL_MECHANISM"),
        ("setup", KAFKA, "INTEGR8S_KAFKA_SASL_MECHANISM"),
    ],
)
def test_who_is_not_let_in_ends_with_one_sentence(
    system: System, process: str, engine: str, remedy: str
) -> None:
    """And the remedy; no traceback, no password, no waiting."""
    address = system.engines.addresses[engine]
    changes = {
        MONGO: {MONGO: address.replace("://", f"://me:{WRONG}@")},
        REDIS: {REDIS: f"redis://:{WRONG}@{address.rpartition('@')[2]}"},
        # A port without accounts does not know what to do with one.
        KAFKA: {
            "INTEGR8S_KAFKA_SASL_MECHANISM": "PLAIN",
            "INTEGR8S_KAFKA_USERNAME": "me",
            "INTEGR8S_KAFKA_PASSWORD": WRONG,
        },
    }[engine]

    with system.start(*process.split(), **changes) as started:
        code = started.entry.ended()

    told = started.entry.output
    assert code == 1
    assert remedy in told
    assert "Traceback" not in told
    assert WRONG not in told
    assert SECRET not in told


def test_a_gateway_without_an_administrator_asks_for_a_password(system: System) -> None:
    """A random one would be known to nobody where logs are collected; later none is needed."""
    system.set_up()
    with system.start("gateway", INTEGR8S_ADMIN_PASSWORD="") as without:
        code = without.entry.ended()
    with system.gateway() as first:
        User(first)
    with system.start("gateway", INTEGR8S_ADMIN_PASSWORD="") as later:
        later.entry.wait_for("the gateway is ready")
        ready = later.ready()

    assert code == 1
    assert "INTEGR8S_ADMIN_PASSWORD is not set" in without.entry.output
    assert "Traceback" not in without.entry.output
    assert ready[0] == 200
