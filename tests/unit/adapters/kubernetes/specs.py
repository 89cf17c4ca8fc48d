"""A pod's spec for tests that need no particular one."""

from typing import Any

from shared.domain.runtimes import LANGUAGES
from shared.ports.cluster import PodSpec, Runtime


def pod_spec(name: str = "exec-1", **more: Any) -> PodSpec:
    """Return one pod."""
    language = LANGUAGES["python"]
    runtime = Runtime(
        language="python",
        version="3.11",
        image="localhost/python:3.11",
        command=language.command,
        filename=language.filename,
        environment=language.environment_of_run(),
    )
    wanted: dict[str, Any] = {
        "name": name,
        "execution_id": name.removeprefix("exec-"),
        "saga_id": "saga-1",
        "user_id": "user/1",
        "runtime": runtime,
        "script": b"print(1)",
    }
    return PodSpec(**(wanted | more))
