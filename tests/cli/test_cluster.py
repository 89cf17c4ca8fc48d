"""Processes of the cluster profile before any engine answers, and what keeps them from starting."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.entries import Entry, free_port, get
from tests.cli.processes import Shell

pytestmark = pytest.mark.slow
SECRET = "correct-horse-battery-staple-0123456789"
NOWHERE = "127.0.0.1:9"
"""The port of `discard`, at which nobody listens."""
AT_ONCE = 3.0
"""Seconds; a question that is open takes five, and a machine that is idle 0.2."""


class Waiting(NamedTuple):
    """A process that waits for its engines."""

    entry: Entry
    environment: dict[str, str]

    @property
    def port(self) -> int:
        """Return where it answers."""
        return int(self.environment["INTEGR8S_PORT"])

    @property
    def health_port(self) -> int:
        """Return where a pump answers those who probe it."""
        return int(self.environment["INTEGR8S_HEALTH_PORT"])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return settings that are complete, of engines that are all away."""
    return _settings(tmp_path)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Waiting]]:
    """Return processes that were all started at once: what they say comes every five seconds."""
    with ExitStack() as stack:
        started = {}
        for words in ("pump coordinate", "gateway", "http persist-result", "setup"):
            environment = _settings(tmp_path_factory.mktemp("data"))
            entry = Entry(*words.split(), environment=environment)
            started[words.split()[0]] = Waiting(stack.enter_context(entry), environment)
        yield started


def _settings(folder: Path) -> dict[str, str]:
    return {
        "INTEGR8S_ENABLE_EVENT_STREAMING": "true",
        "INTEGR8S_DATA_DIR": str(folder),
        "INTEGR8S_KAFKA_SERVERS": NOWHERE,
        "INTEGR8S_MONGO_URL": f"mongodb://integr8s:{SECRET}@{NOWHERE}",
        "INTEGR8S_REDIS_URL": f"redis://:{SECRET}@{NOWHERE}/0",
        "INTEGR8S_SECRET_KEY": SECRET,
        "INTEGR8S_PORT": str(free_port()),
        "INTEGR8S_HEALTH_PORT": str(free_port()),
    }


def test_a_pump_without_engines_says_what_it_waits_for(waiting: Mapping[str, Waiting]) -> None:
    """A line for each every few seconds; alive, not ready, and gone as soon as it is asked to."""
    pump = waiting["pump"].entry
    pump.wait_for("waiting for the event log", times=2)
    pump.wait_for("waiting for the documents", times=2)
    live = get(waiting["pump"].health_port, "/health/liveness")
    ready = get(waiting["pump"].health_port, "/health/readiness")
    code, seconds = pump.stop()

    assert live == (200, {"status": "ok"})
    assert ready == (
        503,
        {"status": "unready", "checks": {"event_log": "down", "documents": "down"}},
    )
    assert code == 0
    assert seconds < AT_ONCE
    assert SECRET not in pump.output
    assert all(json.loads(line) for line in pump.output.splitlines())


def test_a_gateway_without_engines_answers_and_says_why_not(
    waiting: Mapping[str, Waiting],
) -> None:
    """It is there for whoever asks, from its first second on."""
    gateway = waiting["gateway"].entry
    gateway.wait_for("the gateway listens")
    gateway.wait_for("going on without the signals")
    live, _ = get(waiting["gateway"].port, "/api/v1/health/live")
    ready = get(waiting["gateway"].port, "/api/v1/health/ready")
    code, seconds = gateway.stop()

    assert live == 200
    assert ready == (
        503,
        {
            "status": "unready",
            "checks": {"event_log": "down", "documents": "down", "signals": "degraded"},
        },
    )
    assert code == 0
    assert seconds < AT_ONCE
    assert "is ready" not in gateway.output
    assert SECRET not in gateway.output


def test_a_function_over_http_without_engines_says_why_not(
    waiting: Mapping[str, Waiting],
) -> None:
    """As a Knative Service it takes nothing yet, and tells the prober."""
    function = waiting["http"].entry
    function.wait_for("waiting for the event log")
    status, told = get(waiting["http"].port, "/health/readiness")
    code, seconds = function.stop()

    assert (status, told["checks"]["documents"]) == (503, "down")
    assert code == 0
    assert seconds < AT_ONCE


@pytest.mark.parametrize(
    ("process", "variable", "value", "told"),
    [
        ("gateway", "INTEGR8S_SECRET_KEY", "", "INTEGR8S_SECRET_KEY"),
        ("gateway", "INTEGR8S_HOST", "0.0.0.0", "secure_cookies"),  # noqa: S104 - refused
        ("pump coordinate", "INTEGR8S_MONGO_URL", f"mongodb://me:{SECRET}", "no URL"),
        ("pump relay-events", "INTEGR8S_REDIS_URL", f"me:{SECRET}@redis", "no URL"),
        ("pump launch-pod", "KUBECONFIG", "/nonexistent", "no way to the API server"),
        ("http submit", "INTEGR8S_RUNTIME_IMAGES", "python", "INTEGR8S_RUNTIME_IMAGES"),
        ("setup", "INTEGR8S_KAFKA_SERVERS", f"me:{SECRET}@kafka", "write host:port"),
    ],
)
def test_what_can_never_work_is_one_sentence(
    environment: dict[str, str], process: str, variable: str, value: str, told: str
) -> None:
    """With the remedy; no traceback, and no secret."""
    with Entry(*process.split(), environment={**environment, variable: value}) as started:
        code = started.ended()

    assert code == 1
    assert told in started.output
    assert "Traceback" not in started.output
    assert SECRET not in started.output
    assert len(started.output.splitlines()) <= 3


@pytest.mark.parametrize("process", ["gateway", "http persist-result"])
def test_a_taken_port_is_named(environment: dict[str, str], process: str) -> None:
    """Before anything else is done."""
    taken = ("127.0.0.1", int(environment["INTEGR8S_PORT"]))
    with (
        socket.create_server(taken),
        Entry(*process.split(), environment=environment) as started,
    ):
        code = started.ended()

    assert code == 1
    assert f"Port {environment['INTEGR8S_PORT']} on 127.0.0.1 is in use" in started.output
    assert "INTEGR8S_PORT" in started.output


def test_a_taken_health_port_is_named(environment: dict[str, str]) -> None:
    """A pump that nobody can probe would be killed as dead, and nobody would know why."""
    taken = ("0.0.0.0", int(environment["INTEGR8S_HEALTH_PORT"]))  # noqa: S104 - as a pump does
    with (
        socket.create_server(taken),
        Entry("pump", "coordinate", environment=environment) as pump,
    ):
        code = pump.ended()

    assert code == 1
    assert "INTEGR8S_HEALTH_PORT" in pump.output


def test_a_setup_that_waits_ends_when_it_is_asked_to(waiting: Mapping[str, Waiting]) -> None:
    """It is process 1 of its container, which nothing ends by default."""
    setup = waiting["setup"].entry
    setup.wait_for("waiting: no answer from Kafka", times=2)
    code, seconds = setup.stop()

    assert code == 130
    assert seconds < AT_ONCE
    assert "Traceback" not in setup.output


def test_a_cluster_command_refuses_one_machine(shell: Shell) -> None:
    """It was called wrongly, which is the exit code 2, and says what helps."""
    ran = shell.run("topics", "apply")

    assert ran.returncode == 2
    assert "INTEGR8S_ENABLE_EVENT_STREAMING=true" in ran.stderr.decode()
    assert not shell.data_dir.exists()


def test_doctor_looks_at_the_cluster_where_that_is_the_profile(
    shell: Shell, environment: dict[str, str]
) -> None:
    """Each engine that is away is a failure of its own, with what may help."""
    ran = Shell(shell.folder, environment).run("doctor", "--json")

    found = {one["check"]: one for one in json.loads(ran.stdout)["findings"]}
    assert ran.returncode == 1
    assert {name: one["state"] for name, one in found.items()} == {
        "settings": "ok",
        "event log": "fail",
        "documents": "fail",
        "signals": "warn",
        "cluster": "warn",
    }
    assert "INTEGR8S_KAFKA_SERVERS" in found["event log"]["remedy"]
    assert SECRET not in ran.stdout.decode() + ran.stderr.decode()
