"""Bodies, queries and answers of the API, as models: for checking what comes, and for OpenAPI."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.domain.executions import Priority, Status

_USERNAME = re.compile(r"[A-Za-z0-9._\-@+]{3,64}", re.ASCII)
_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Scope = Literal["execute", "read", "scripts", "cloudevents", "alerts", "admin"]


def _username(text: str) -> str:
    if not _USERNAME.fullmatch(text):
        raise ValueError("3 to 64 letters, digits, and . _ - @ +")
    return text


def _email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    labels = domain.split(".")
    sound = (
        at
        and len(text) <= 254  # noqa: PLR2004 - RFC 5321 with its brackets
        and _LOCAL.fullmatch(local)
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not sound:
        raise ValueError("must be an e-mail address such as ada@example.org")
    return text


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def _zoned(value: object) -> object:
    """Read a time without a zone as UTC, as existing clients write it in addresses."""
    if isinstance(value, str):
        text = value.replace(" ", "+", 1) if "T" in value else value
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return value
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_zoned)]
Username = Annotated[str, AfterValidator(_username)]
Email = Annotated[str, AfterValidator(_email)]
OneLine = Annotated[str, AfterValidator(_one_line)]


class Body(BaseModel):
    """A request body of an operation that clients use already: unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class NewBody(BaseModel):
    """A request body of a new operation: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Query(BaseModel):
    """The query of an address: texts that stand for values."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Answer(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- health and facts


class Live(Answer):
    """The process turns."""

    status: Literal["ok"]
    uptime_seconds: int
    timestamp: str


class Ready(Answer):
    """Whether work can be taken."""

    status: Literal["ready", "degraded", "unready"]
    checks: dict[str, Literal["ok", "degraded", "down"]]


class ExampleScripts(Answer):
    """One script per language."""

    scripts: dict[str, str]


class RuntimeInfo(Answer):
    """What is offered of a language."""

    versions: list[str]
    file_ext: str


class Limits(Answer):
    """What an execution may use, and what can run."""

    cpu_limit: str
    memory_limit: str
    cpu_request: str
    memory_request: str
    execution_timeout: int
    supported_runtimes: dict[str, RuntimeInfo]
    max_timeout_seconds: int
    script_max_chars: int
    stdin_max_bytes: int
    files_max_bytes: int
    output_limit_bytes: int
    priorities: list[Priority]


# --- sign-in


class LoginForm(Body):
    """The fields of the sign-in form that are read."""

    username: str = Field(min_length=1, max_length=256)
    password: str = Field(min_length=1, max_length=1024)


class Registration(Body):
    """A new account. `role` and `is_active` are accepted and ignored."""

    username: Username
    email: Email
    password: str = Field(max_length=128)


class User(Answer):
    """An account."""

    user_id: str
    username: str
    email: str
    role: str
    is_active: bool
    is_superuser: bool
    created_at: str
    updated_at: str
    last_login_at: str | None
    bypass_rate_limit: bool | None
    global_multiplier: float | None
    has_custom_limits: bool | None


class SignedIn(Answer):
    """Who is signed in from now on."""

    message: str
    username: str
    role: str
    csrf_token: str


class Said(Answer):
    """A sentence."""

    message: str


# --- executions


class FileInput(BaseModel):
    """A file beside the script: `content` or `content_base64`."""

    name: str
    content: str | None = None
    content_base64: str | None = None


class ExecuteBody(BaseModel):
    """What to run. Checked by `submit`; this describes it."""

    script: str = Field(max_length=50_000)
    lang: str = "python"
    lang_version: str | None = None
    stdin: str | None = None
    stdin_base64: str | None = None
    args: list[str] = []
    timeout_seconds: int | None = None
    priority: Priority = Priority.NORMAL
    files: list[FileInput] = []


class Submitted(Answer):
    """The execution that a request became. It is not done: follow it, or ask for its result."""

    execution_id: str
    status: Literal["queued"]


class Usage(Answer):
    """Counters of the kernel."""

    execution_time_wall_seconds: float
    cpu_time_seconds: float | None = None
    cpu_time_jiffies: int | None
    clk_tck_hertz: int
    peak_memory_kb: int | None
    source: Literal["cgroup", "wait4"]


class Result(Answer):
    """What became of an execution, or is known so far."""

    execution_id: str
    status: Status
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_base64: str | None
    stderr_base64: str | None
    lang: str
    lang_version: str
    resource_usage: Usage | None
    exit_code: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    priority: Priority
    created_at: str
    updated_at: str
    scheduled_at: str | None
    started_at: str | None
    finished_at: str | None
    retry_of: str | None


class FileInfo(Answer):
    """A file that lay beside the script."""

    name: str
    size: int


class Execution(Answer):
    """An execution without its output."""

    execution_id: str
    user_id: str
    status: Status
    lang: str
    lang_version: str
    script: str
    args: list[str]
    timeout_seconds: int
    files: list[FileInfo]
    priority: Priority
    position: int | None
    estimated_wait_seconds: float | None
    resource_usage: Usage | None
    exit_code: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    created_at: str
    updated_at: str
    scheduled_at: str | None
    started_at: str | None
    finished_at: str | None
    retry_of: str | None
    saga_id: str
    pod_name: str | None
    cancel_requested_at: str | None
    cancel_reason: str | None


class CancelBody(Body):
    """Why it shall end."""

    reason: str | None = Field(default=None, max_length=500)


class CancelAnswer(Answer):
    """What became of the wish."""

    execution_id: str
    status: Literal["cancellation_requested", "already_cancelled"]
    message: str
    event_id: str | None


class EventsQuery(Query):
    """Which events of an execution."""

    event_types: list[str] = []
    limit: int = Field(default=100, ge=1, le=1000)
    after_seq: int = Field(default=0, ge=0, lt=1 << 53)


class EventMetadata(Answer):
    """Who said it, and what it follows from."""

    service_name: str
    service_version: str
    user_id: str | None
    environment: str
    correlation_id: str
    causation_id: str | None
    replay_id: str | None


class EventAnswer(BaseModel):
    """An event; the fields of its payload stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_id: str
    event_type: str
    event_version: str
    timestamp: str
    aggregate_id: str | None
    seq: int | None
    metadata: EventMetadata


class ExecutionsQuery(Query):
    """Which of one's executions."""

    status: Status | None = None
    lang: str | None = Field(default=None, max_length=32)
    start_time: Instant | None = None
    end_time: Instant | None = None
    limit: int = Field(default=50, ge=1, le=200)
    skip: int = Field(default=0, ge=0, lt=1 << 31)
    cursor: str | None = Field(default=None, max_length=4096)


class Executions(Answer):
    """A page of executions, newest first."""

    executions: list[Result]
    total: int
    limit: int
    skip: int
    has_more: bool
    next_cursor: str | None


# --- streams


class StreamQuery(Query):
    """What a stream shall hold, and from where on."""

    include: str | None = Field(default=None, max_length=256)
    last_event_id: str | None = None
    token: str | None = Field(default=None, max_length=4096)


class TicketBody(NewBody):
    """What a stream ticket is for."""

    kind: Literal["execution"]
    resource_id: str = Field(min_length=1, max_length=64)


class Ticket(Answer):
    """Opens one stream, once, within a minute."""

    ticket: str
    expires_in: int


# --- API keys


class KeyBody(NewBody):
    """A new API key."""

    name: OneLine = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(min_length=1, max_length=6)
    expires_in_days: int = Field(default=90, ge=1, le=365)


class NewKey(Answer):
    """A key that was made. It is shown once."""

    key_id: str
    name: str
    key: str
    prefix: str
    scopes: list[Scope]
    expires_at: str


class Key(Answer):
    """A key without its secret."""

    key_id: str
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: str
    expires_at: str
    last_used_at: str | None
    last_used_address: str | None


class Keys(Answer):
    """One's keys that are valid."""

    api_keys: list[Key]


# --- administration


class Pool(Answer):
    """One pool of slots."""

    name: str
    slots: int
    used: int
    cpu_millicores: int | None
    memory_bytes: int | None


class TopUser(Answer):
    """Who uses most."""

    user_id: str
    queued: int
    running: int


class Queue(Answer):
    """What waits and what runs."""

    queue_depth: int
    active_count: int
    max_concurrent: int
    by_priority: dict[Priority, int]
    oldest_wait_seconds: float | None
    pools: list[Pool]
    top_users: list[TopUser]


class FunctionScaling(Answer):
    """One function: asleep or awake, and why."""

    slug: str
    replicas: int
    min: int
    max: int
    lag: dict[str, int]
    active: bool
    last_active_at: str | None
    sleeps_at: str | None
    reason: str
    last_cold_start_seconds: float | None


class ScalingAnswer(Answer):
    """Every function."""

    functions: list[FunctionScaling]


class HistoryQuery(Query):
    """How far back."""

    minutes: int = Field(default=60, ge=1, le=1440)


class ScalingChange(Answer):
    """One change of a function's replicas."""

    at: str
    replicas: int
    lag: int
    reason: str


class ScalingHistory(Answer):
    """The changes of one function's replicas, oldest first."""

    slug: str
    minutes: int
    points: list[ScalingChange]


# --- other systems


class BatchItem(Answer):
    """What became of one event of a batch."""

    id: str
    source: str
    status: str
    execution_id: str | None = None
    problem: dict[str, Any] | None = None


class BatchAnswer(Answer):
    """What became of each event, in order."""

    results: list[BatchItem]


# --- errors


class ProblemField(Answer):
    """One wrong field."""

    loc: list[str | int]
    msg: str
    type: str


class ProblemAnswer(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    errors: list[ProblemField] | None = None
    context: dict[str, int] | None = None
    retry_after: int | None = None
    reset_at: int | None = None
