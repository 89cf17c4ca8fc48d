"""Processes of the cluster profile that die, stop, or lose an engine: nothing accepted is lost."""

import os
import re
import signal

import pytest

from tests.integration.runtime.own_engines import OwnEngines
from tests.integration.runtime.system import System, User, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_pump_that_is_killed_while_it_handles_loses_nothing(
    system: System, engines: OwnEngines
) -> None:
    """What it had begun and not committed is delivered again, to the next one."""
    system.set_up()
    with system.gateway() as gateway:
        user = User(gateway)
        with system.pump("coordinate") as pump:
            os.kill(pump.entry.pid, signal.SIGSTOP)
            execution_id = user.submit()
            engines.pause("mongo")
            try:
                os.kill(pump.entry.pid, signal.SIGCONT)
                pump.entry.wait_for("coordinate waits: ")
                pump.entry.kill()
            finally:
                engines.resume("mongo")
            before = user.status_of(execution_id)

        with system.pump("coordinate"):
            until(lambda: user.status_of(execution_id) == "scheduled", "it is scheduled")
            _, queue, _ = user.ask("/admin/executions/queue")

    assert before == "queued"
    assert queue["active_count"] == 1


def test_a_gateway_that_stops_tells_who_watches(system: System) -> None:
    """A named notice, so that clients connect elsewhere with their last id; then its end."""
    system.set_up()
    with system.gateway() as gateway:
        user = User(gateway)
        with user.stream(user.submit()) as stream:
            head = stream.readline() + stream.readline() + stream.readline()
            os.kill(gateway.entry.pid, signal.SIGTERM)
            rest = stream.read().decode()
        code = gateway.entry.ended()

    assert stream.status == 200
    assert b"retry: 2000" in head
    assert re.findall(r"^event: (\w+)$", rest, re.MULTILINE) == ["shutdown"]
    assert code == 0
    assert "Traceback" not in gateway.entry.output


def test_scripts_are_accepted_while_kafka_is_away(system: System, engines: OwnEngines) -> None:
    """Their events wait in their documents, and go out when it is back; nobody is restarted."""
    system.set_up()
    with system.gateway() as gateway, system.pump("coordinate") as pump:
        user = User(gateway)
        engines.kill("kafka")
        until(lambda: gateway.ready()[1]["status"] == "degraded", "the loss is noticed")
        away = gateway.ready()
        ids = [user.submit() for _ in range(3)]
        held = {user.status_of(one) for one in ids}
        engines.start("kafka")
        until(lambda: {user.status_of(one) for one in ids} == {"scheduled"}, "all are scheduled")
        until(lambda: gateway.ready()[1]["status"] == "ready", "the gateway is well")
        until(lambda: pump.readiness()[0] == 200, "the function is well")

    assert away[0] == 200
    assert away[1]["checks"]["event_log"] == "down"
    assert held == {"queued"}
    assert "the event log does not answer any more" in gateway.entry.output
    assert "the event log answers" in gateway.entry.output
    assert "Traceback" not in gateway.entry.output + pump.entry.output


def test_without_documents_everybody_is_asked_to_come_back(
    system: System, engines: OwnEngines
) -> None:
    """503 with the time to wait; the same process serves when they are back."""
    system.set_up()
    with system.gateway() as gateway, system.pump("coordinate") as pump:
        user = User(gateway)
        execution_id = user.submit()
        until(lambda: user.status_of(execution_id) == "scheduled", "it is scheduled")
        engines.stop("mongo")
        status, told, headers = user.ask(f"/executions/{execution_id}")
        until(lambda: gateway.ready()[0] == 503, "the loss is noticed")
        checks = gateway.ready()[1]["checks"]
        engines.start("mongo")
        until(lambda: gateway.ready()[0] == 200, "the gateway is well")
        until(lambda: pump.readiness()[0] == 200, "the function is well")
        after = user.status_of(execution_id)
        another = user.submit()
        until(lambda: user.status_of(another) == "scheduled", "it is scheduled")

    assert (status, told["code"]) == (503, "unavailable")
    assert int(headers["retry-after"]) >= 1
    assert checks["documents"] == "down"
    assert after == "scheduled"
    assert "Traceback" not in gateway.entry.output + pump.entry.output


def test_without_signals_work_goes_on(system: System, engines: OwnEngines) -> None:
    """Scripts are taken, streams read the history by themselves, and say how it went."""
    system.set_up()
    with (
        system.gateway() as gateway,
        system.pump("coordinate"),
        system.pump("relay-events") as relay,
    ):
        user = User(gateway)
        engines.kill("redis")
        until(lambda: gateway.ready()[1]["checks"]["signals"] == "degraded", "it is noticed")
        away = gateway.ready()[0]
        execution_id = user.submit()
        with user.stream(execution_id) as stream:
            told = b""
            while b'"position":0' not in told:
                line = stream.readline()
                assert line, "the stream ended"
                told += line
        engines.start("redis")
        until(lambda: gateway.ready()[1]["status"] == "ready", "the gateway is well")
        until(lambda: relay.readiness()[1]["status"] == "ready", "the function is well")

    assert away == 200


def test_functions_start_without_signals(system: System, engines: OwnEngines) -> None:
    """A function that is woken while Redis is away does its work, and says what is missing."""
    system.set_up()
    engines.stop("redis")
    with system.pump("relay-events") as relay:
        relay.entry.wait_for("going on without the signals")
        away = relay.readiness()
        engines.start("redis")
        relay.entry.wait_for("the signals answer")
        until(lambda: relay.readiness()[1]["status"] == "ready", "it is well")

    assert (away[0], away[1]["status"]) == (200, "degraded")
