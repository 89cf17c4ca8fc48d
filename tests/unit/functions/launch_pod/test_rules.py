"""The pod that an execution's document stands for."""

from datetime import timedelta

from functions.launch_pod import rules
from shared.domain.identifiers import saga_id_of
from tests import builders
from tests.builders import EXECUTION_ID


def test_the_pod_is_named_after_its_execution() -> None:
    """The name is what makes a second launch impossible."""
    spec = rules.pod_spec(builders.execution())

    assert spec.name == f"exec-{EXECUTION_ID}"
    assert spec.saga_id == saga_id_of(EXECUTION_ID)


def test_script_and_inputs_arrive_exact() -> None:
    """Any text, any bytes."""
    document = builders.execution(script="print('ß\0')", stdin=b"\xff", args=["a b", ""])
    document["files"] = [{"name": "f", "size": 1, "sha256": "", "content": b"\x00"}]

    spec = rules.pod_spec(document)

    assert (spec.script, spec.stdin) == ("print('ß\0')".encode(), b"\xff")
    assert (spec.args, spec.files) == (("a b", ""), (("f", b"\x00"),))


def test_limits_are_those_of_the_acceptance() -> None:
    """Not those of today's settings."""
    document = builders.execution(timeout_seconds=7)
    document["limits"] |= {"memory_limit": "1Gi", "cpu_limit": "500m", "output_limit_bytes": 9}

    spec = rules.pod_spec(document)

    assert spec.timeout == timedelta(seconds=7)
    assert spec.limits.memory_bytes == 1024**3
    assert spec.limits.cpu_millicores == 500
    assert spec.limits.output_kept_bytes == 9


def test_a_script_knows_its_execution() -> None:
    """By an environment variable."""
    environment = rules.pod_spec(builders.execution()).runtime.environment

    assert environment["EXECUTION_ID"] == EXECUTION_ID
