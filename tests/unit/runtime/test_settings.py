"""Settings are read once, and wrong ones are named."""

from pathlib import Path

import pytest

from shared.domain.errors import StartupError
from shared.runtime.settings import Settings

VALUES = {
    "data_dir": "/somewhere",
    "host": "0.0.0.0",  # noqa: S104 - a value that differs from the default
    "port": "81",
    "admin_username": "root",
    "admin_password": "open sesame",
    "secret_key": "k" * 32,
    "rate_limit_enabled": "false",
    "development_mode": "true",
    "secure_cookies": "true",
    "log_level": "DEBUG",
    "max_concurrent_executions": "3",
    "max_concurrent_per_user": "2",
    "max_timeout_seconds": "9",
    "memory_limit": "1Gi",
    "cpu_limit": "500m",
    "output_limit_bytes": "65536",
    "stream_longest_seconds": "570",
    "queue_length": "4",
    "queued_per_user": "5",
    "allow_weak_limits": "true",
    "cpu_request": "50m",
    "memory_request": "32Mi",
    "enable_event_streaming": "true",
    "kafka_servers": "broker-1:9092,broker-2:9092",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_username": "functions",
    "kafka_password": "open sesame",
    "kafka_tls": "true",
    "kafka_ca_file": "/etc/kafka/ca.crt",
    "mongo_url": "mongodb://mongo:27017",
    "mongo_database": "elsewhere",
    "redis_url": "redis://redis:6379/0",
    "redis_ca_file": "/etc/redis/ca.crt",
    "topics_profile": "large",
    "topics_replication": "3",
    "namespace": "scripts",
    "runtime_images": '{"python": {"3.11": "registry.example/python@sha256:0"}}',
    "runtime_class": "gvisor",
    "host_users": "false",
    "first_uid": "100000",
    "priority_class": "scripts",
    "internet_sockets": "false",
    "accept_no_policy": "true",
    "health_port": "9090",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"INTEGR8S_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_every_setting_has_a_value_here() -> None:
    """A new one is tested, or this fails."""
    assert set(VALUES) == set(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_setting_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the variable that the documentation names."""
    default = getattr(Settings.read(), name)

    monkeypatch.setenv(f"INTEGR8S_{name.upper()}", VALUES[name])

    assert getattr(Settings.read(), name) != default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "99999"),
        ("port", "http"),
        ("secret_key", "short"),
        ("max_concurrent_executions", "0"),
        ("memory_limit", "lots"),
        ("cpu_limit", "2"),
        ("output_limit_bytes", "1"),
        ("queue_length", "0"),
        ("log_level", "loud"),
        ("stream_longest_seconds", "-1"),
        ("admin_password", "short"),
        ("kafka_servers", "kafka"),
        ("kafka_servers", "kafka:9092,"),
        ("kafka_servers", "kafka:port"),
        ("kafka_sasl_mechanism", "GUESS"),
        ("topics_profile", "medium"),
        ("runtime_images", "python"),
        ("runtime_images", "[]"),
        ("runtime_images", '{"cobol": {"1": "image"}}'),
        ("runtime_images", '{"python": {}}'),
        ("runtime_images", '{"python": {"2.7": "image"}}'),
        ("health_port", "-1"),
    ],
)
def test_a_wrong_value_names_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and the remedy, no traceback."""
    monkeypatch.setenv(f"INTEGR8S_{name.upper()}", value)

    with pytest.raises(StartupError, match=f"INTEGR8S_{name.upper()}") as failed:
        Settings.read()

    assert failed.value.remedy


def test_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a secret that stands in the wrong place."""
    monkeypatch.setenv("INTEGR8S_KAFKA_SERVERS", "me:open-sesame@kafka")

    with pytest.raises(StartupError) as failed:
        Settings.read()

    assert "open-sesame" not in str(failed.value)


@pytest.mark.parametrize("servers", ["kafka:9092", "a:1,b:2", "a.b.svc:9092, [::1]:9092"])
def test_brokers_are_named_by_host_and_port(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One or several."""
    monkeypatch.setenv("INTEGR8S_KAFKA_SERVERS", servers)

    assert Settings.read().kafka_servers == servers


@pytest.mark.parametrize("name", sorted(VALUES))
def test_an_empty_variable_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody means an administrator without a password by an empty line in a Secret."""
    default = getattr(Settings.read(), name)

    monkeypatch.setenv(f"INTEGR8S_{name.upper()}", "")

    assert getattr(Settings.read(), name) == default


def test_levels_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As people do."""
    monkeypatch.setenv("INTEGR8S_LOG_LEVEL", "debug")

    assert Settings.read().log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("max_concurrent_executions", "max_concurrent_executions"),
        ("max_concurrent_per_user", "max_concurrent_per_user"),
        ("max_timeout_seconds", "max_timeout_seconds"),
        ("memory_limit", "memory_limit"),
        ("cpu_limit", "cpu_limit"),
        ("output_limit_bytes", "output_limit_bytes"),
        ("queue_length", "queue_length"),
        ("queued_per_user", "queued_per_user"),
    ],
)
def test_limits_reach_the_executions(
    name: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that nobody reads is a lie."""
    monkeypatch.setenv(f"INTEGR8S_{name.upper()}", VALUES[name])

    assert str(getattr(Settings.read().execution, field)) == VALUES[name]


def test_the_default_timeout_stays_below_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every request without one would be refused."""
    monkeypatch.setenv("INTEGR8S_MAX_TIMEOUT_SECONDS", "9")

    assert Settings.read().execution.default_timeout_seconds == 9


def test_data_lie_where_the_desktop_says(tmp_path: Path) -> None:
    """Unless told otherwise."""
    assert Settings.read().data_dir == tmp_path / "integr8s"


def _settings(folder: Path) -> Settings:
    return Settings(data_dir=folder)


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The next start signs with the same key."""
    first = _settings(tmp_path).secret()

    assert len(first) >= 32
    assert _settings(tmp_path).secret() == first
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_a_crash_while_the_secret_is_written_leaves_no_empty_one(tmp_path: Path) -> None:
    """What was begun is begun anew."""
    (tmp_path / "secret.new").touch()

    assert len(_settings(tmp_path).secret()) >= 32
    assert not (tmp_path / "secret.new").exists()


def test_a_given_secret_is_used(tmp_path: Path) -> None:
    """And nothing is written."""
    settings = Settings(data_dir=tmp_path, secret_key="s" * 40)

    assert settings.secret() == "s" * 40
    assert list(tmp_path.iterdir()) == []
