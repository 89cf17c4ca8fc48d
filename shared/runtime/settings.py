"""Settings: read once from the environment, by the process entry, and passed on as values."""

import contextlib
import os
import secrets
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.domain.errors import StartupError
from shared.domain.execution_settings import ExecutionSettings

_LOCAL_SHARE = ".local/share/integr8s"


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return Path(base) / "integr8s" if base else Path.home() / _LOCAL_SHARE


class Settings(BaseSettings):
    """One process of integr8s. Every field is read from `INTEGR8S_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="INTEGR8S_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Where everything is kept: database, keys, socket of Redis. One process at a time."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback wants TLS in front."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    admin_username: str = "admin"
    """Name of the administrator that the first start creates."""
    admin_password: SecretStr | None = None
    """Password of that administrator; without it a random one is printed once."""
    secret_key: SecretStr | None = Field(default=None, min_length=32)
    """Signs sessions, at least 32 characters; without it one is made and kept in the data dir."""
    rate_limit_enabled: bool = True
    """Switch of the rate limits."""
    development_mode: bool = False
    """Serves the OpenAPI document; never for production."""
    secure_cookies: bool = False
    """Cookies only over TLS; must be on unless listening on a loopback address."""
    log_level: str = "INFO"
    """Least severity that is logged: DEBUG, INFO, WARNING, ERROR."""
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

    @classmethod
    def read(cls) -> "Settings":
        """Read the environment.

        Raises:
            StartupError: A variable has a value that it cannot have.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = f"INTEGR8S_{'_'.join(str(part) for part in first['loc'])}".upper()
            raise StartupError(
                f"{name} is not usable: {first['msg']}.",
                remedy="Correct it; `integr8s settings-help` lists every setting.",
            ) from error

    @cached_property
    def execution(self) -> ExecutionSettings:
        """Return what an execution is allowed."""
        return ExecutionSettings(
            max_timeout_seconds=self.max_timeout_seconds,
            default_timeout_seconds=min(30, self.max_timeout_seconds),
            cpu_limit=self.cpu_limit,
            memory_limit=self.memory_limit,
            output_limit_bytes=self.output_limit_bytes,
            max_concurrent_executions=self.max_concurrent_executions,
            max_concurrent_per_user=self.max_concurrent_per_user,
            queue_length=self.queue_length,
            queued_per_user=self.queued_per_user,
        )

    def secret(self) -> str:
        """Return the signing key: the given one, or that of the data directory, made if missing."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
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
