"""The pod that an execution's document stands for, and how much time one gets to go."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared.domain.identifiers import pod_name_of, saga_id_of
from shared.domain.quantities import memory_bytes, millicores
from shared.domain.runtimes import LANGUAGES
from shared.ports.cluster import Limits, PodSpec, Runtime


def pod_spec(execution: Mapping[str, Any]) -> PodSpec:
    """Return the pod of an execution, under the limits that were fixed when it was accepted."""
    limits = execution["limits"]
    language = LANGUAGES[execution["lang"]]
    environment = {"EXECUTION_ID": execution["execution_id"], **language.environment_of_run()}
    return PodSpec(
        name=pod_name_of(execution["execution_id"]),
        execution_id=execution["execution_id"],
        saga_id=saga_id_of(execution["execution_id"]),
        user_id=execution["user_id"],
        runtime=Runtime(
            language=execution["lang"],
            version=execution["lang_version"],
            image=limits["image"],
            command=tuple(limits["command"]),
            filename=limits["filename"],
            environment=environment,
        ),
        script=execution["script"].encode(),
        args=tuple(execution["args"]),
        stdin=execution.get("stdin"),
        files=tuple((file["name"], file["content"]) for file in execution["files"]),
        timeout=timedelta(seconds=execution["timeout_seconds"]),
        limits=Limits(
            cpu_millicores=millicores(limits["cpu_limit"]),
            memory_bytes=memory_bytes(limits["memory_limit"]),
            cpu_request_millicores=millicores(limits["cpu_request"]),
            memory_request_bytes=memory_bytes(limits["memory_request"]),
            tmp_bytes=limits["tmp_bytes"],
            output_kept_bytes=limits["output_limit_bytes"],
        ),
    )
