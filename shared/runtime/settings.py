"""Settings: read once from the environment, by the process entry, and passed on as values."""

import contextlib
import os
import re
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.domain.errors import StartupError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.runtimes import LANGUAGES

_LOCAL_SHARE = ".local/share/integr8s"
_SERVER = re.compile(r"\s*(\[[0-9a-fA-F:.]+\]|[^\s:]+):\d{1,5}\s*")


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return Path(base) / "integr8s" if base else Path.home() / _LOCAL_SHARE


class Settings(BaseSettings):
    """One process of integr8s. Every field is read from `INTEGR8S_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="INTEGR8S_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,  # as a shell's ${NAME:-default}: an empty password is none
        use_attribute_docstrings=True,
        populate_by_name=True,
    )

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Where everything is kept: database, keys, socket of Redis. One process at a time."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback wants TLS in front."""
    port: int = Field(
        default=8000, ge=0, le=65535, validation_alias=AliasChoices("INTEGR8S_PORT", "PORT")
    )
    """Port to listen on; 0 picks a free one. `PORT`, as Knative sets it, is read too."""
    admin_username: str = "admin"
    """Name of the administrator that the first start creates."""
    admin_password: SecretStr | None = Field(default=None, min_length=8)
    """Password of that administrator; without it a random one is printed once."""
    secret_key: SecretStr | None = Field(default=None, min_length=32)
    """Signs sessions, at least 32 characters; without it one is made and kept in the data dir."""
    rate_limit_enabled: bool = True
    """Switch of the rate limits."""
    development_mode: bool = False
    """Serves the OpenAPI document; never for production."""
    secure_cookies: bool = False
    """Cookies only over TLS; must be on unless listening on a loopback address."""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
    ] = "INFO"
    """Least severity that is logged: DEBUG, INFO, WARNING, ERROR, CRITICAL."""
    max_concurrent_executions: int = Field(default=10, ge=1, le=100)
    """Slots: scripts that run at once."""
    max_concurrent_per_user: int = Field(default=5, ge=1, le=100)
    """Scripts of one user that run at once."""
    max_timeout_seconds: int = Field(default=300, ge=1, le=3600)
    """Longest time limit that a request may ask for."""
    memory_limit: str = Field(default="512Mi", pattern=r"^\d{1,9}(Ki|Mi|Gi)$")
    """Memory of one script, all its processes and temporary files together."""
    cpu_limit: str = Field(default="2000m", pattern=r"^\d{1,9}m$")
    """Processor share of one script."""
    output_limit_bytes: int = Field(default=512 * 1024, ge=64 * 1024, le=1024 * 1024)
    """Kept of each output stream; the rest is dropped and marked."""
    queue_length: int = Field(default=10_000, ge=1)
    """Executions that may wait; more are refused with 503."""
    queued_per_user: int = Field(default=100, ge=1)
    """Executions of one user that may wait; more are refused with 429."""
    allow_weak_limits: bool = False
    """Go on where control groups are missing and memory can only be limited per process."""
    cpu_request: str = Field(default="200m", pattern=r"^\d{1,9}m$")
    """Cluster: processor share that is set aside for one script."""
    memory_request: str = Field(default="128Mi", pattern=r"^\d{1,9}(Ki|Mi|Gi)$")
    """Cluster: memory that is set aside for one script."""

    stream_longest_seconds: int = Field(default=0, ge=0)
    """A stream that was open for almost this long is asked to connect again; 0: never. Where a
    proxy cuts requests after a fixed time, such as Knative after 600 s, choose less than that."""

    enable_event_streaming: bool = False
    """The cluster profile: Kafka, MongoDB, Redis and Kubernetes instead of this machine alone."""
    kafka_servers: str = "kafka:9092"
    """Cluster: brokers to begin with, `host:port` with commas between."""
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """Cluster: how to sign in to Kafka; empty where it has no accounts."""
    kafka_username: str = ""
    """Cluster: account at Kafka."""
    kafka_password: SecretStr | None = None
    """Cluster: its password."""
    kafka_tls: bool = False
    """Cluster: speak TLS with Kafka."""
    kafka_ca_file: Path | None = None
    """Cluster: certificates that Kafka's is checked by; without it those of the system."""
    mongo_url: SecretStr | None = None
    """Cluster: where MongoDB is, `mongodb://user:password@host:port/?options`."""
    mongo_database: str = "integr8s"
    """Cluster: name of the database. Triggers in `keda/` name it too."""
    redis_url: SecretStr | None = None
    """Cluster: where Redis is, `redis://` or, with TLS, `rediss://user:password@host:port/0`."""
    redis_ca_file: Path | None = None
    """Cluster: certificates that Redis' is checked by; without it those of the system."""
    topics_profile: Literal["dev", "large"] = "dev"
    """Cluster: partitions of the topics that `setup` makes; later they cannot be changed."""
    topics_replication: int = Field(default=1, ge=1, le=9)
    """Cluster: copies of each topic that `setup` makes."""
    namespace: str = "integr8s"
    """Cluster: where scripts run, and monitor-pods beside them; never `default`."""
    runtime_images: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Cluster: language -> version -> image, as JSON. If given, these and no others are offered."""
    runtime_class: str = ""
    """Cluster: RuntimeClass of the pods of scripts, for a stronger isolation than the node's."""
    priority_class: str = ""
    """Cluster: PriorityClass of the pods of scripts."""
    host_users: bool | None = None
    """Cluster: false gives each pod of a script a user namespace, where the nodes' container
    runtime has them; unset leaves that field out of the pod."""
    first_uid: int | None = Field(default=None, ge=10_000, le=4_000_000_000)
    """Cluster: without user namespaces, give each pod of a script a user id of its own from here
    on; otherwise all of a node share 1000, and the kernel's limits on processes with it."""
    internet_sockets: bool = True
    """Cluster: let scripts open internet sockets, loopback included. Without them scripts are cut
    off even where no network plugin enforces a policy."""
    accept_no_policy: bool = False
    """Cluster: run scripts although the network policy is not enforced. Each start warns."""
    health_port: int = Field(default=8080, ge=0, le=65535)
    """Cluster: where a pump tells whether it lives and whether it is ready."""

    @field_validator("kafka_servers")
    @classmethod
    def _names_brokers(cls, servers: str) -> str:
        for server in servers.split(","):
            if not _SERVER.fullmatch(server):
                raise ValueError("write host:port, with commas between several brokers")
        return servers

    @field_validator("runtime_images")
    @classmethod
    def _runs_what_is_known(cls, images: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for name, versions in images.items():
            known = LANGUAGES[name].versions if name in LANGUAGES else ()
            if not known:
                raise ValueError(f"{name} is none of {', '.join(LANGUAGES)}")
            if not versions or set(versions) - set(known):
                raise ValueError(f"{name} has versions {', '.join(known)}; name at least one")
        return images

    @classmethod
    def read(cls) -> "Settings":
        """Read the environment.

        Raises:
            StartupError: A variable has a value that it cannot have.
        """
        try:
            return cls()
        except SettingsError as error:
            # Raised before anything is checked, where the value is no JSON.
            raise _unusable("RUNTIME_IMAGES", "it is not JSON") from error
        except ValidationError as error:
            first = error.errors()[0]
            path = "_".join(str(part) for part in first["loc"][:1]).upper()
            raise _unusable(path, first["msg"].removeprefix("Value error, ")) from error

    @cached_property
    def execution(self) -> ExecutionSettings:
        """Return what an execution is allowed."""
        return ExecutionSettings(
            max_timeout_seconds=self.max_timeout_seconds,
            default_timeout_seconds=min(30, self.max_timeout_seconds),
            cpu_limit=self.cpu_limit,
            memory_limit=self.memory_limit,
            cpu_request=self.cpu_request,
            memory_request=self.memory_request,
            namespace=self.namespace if self.enable_event_streaming else "",
            output_limit_bytes=self.output_limit_bytes,
            max_concurrent_executions=self.max_concurrent_executions,
            max_concurrent_per_user=self.max_concurrent_per_user,
            queue_length=self.queue_length,
            queued_per_user=self.queued_per_user,
        )

    def secret(self) -> str:
        """Return the signing key: the given one, or that of the data directory, made if missing.

        Raises:
            StartupError: This is a cluster, and none was given.
        """
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        if self.enable_event_streaming:
            raise StartupError(
                "INTEGR8S_SECRET_KEY is not set.",
                remedy="All gateways of a cluster need the same one: put 32 or more random"
                " characters into the Secret `integr8s`.",
            )
        path = self.data_dir / "secret.key"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        key = secrets.token_urlsafe(48)
        # Written aside and moved: a crash in between must not leave an empty key that signs.
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        return key


def _unusable(name: str, why: str) -> StartupError:
    variable = name if name in ("PORT", "INTEGR8S_PORT") else f"INTEGR8S_{name}"
    return StartupError(
        f"{variable} is not usable: {why}.",
        remedy="Correct it; `integr8s settings-help` lists every setting.",
    )
