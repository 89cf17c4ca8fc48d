"""What an installation allows an execution, and how many at once."""

from dataclasses import dataclass
from datetime import timedelta

from shared.domain.executions import QUEUE_LENGTH, QUEUE_LIMIT, QUEUED_PER_USER


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """Limits and capacities; the effective ones are copied into each execution at its submit."""

    max_timeout_seconds: int = 300
    default_timeout_seconds: int = 30
    cpu_limit: str = "2000m"
    memory_limit: str = "512Mi"
    cpu_request: str = "200m"
    memory_request: str = "128Mi"
    output_limit_bytes: int = 512 * 1024
    max_concurrent_executions: int = 10
    """Slots of the default pool."""
    max_concurrent_per_user: int = 5
    pool_cpu_millicores: int = 32_000
    pool_memory_bytes: int = 64 * 1024**3
    queue_length: int = QUEUE_LENGTH
    queued_per_user: int = QUEUED_PER_USER
    queue_limit: timedelta = QUEUE_LIMIT
    namespace: str = ""
    """Where pods are made; empty in the sandbox of one machine."""
