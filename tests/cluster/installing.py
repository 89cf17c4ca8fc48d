"""Installs this tree on the test cluster, and removes it: the steps of docs/cluster.md."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.runtime.settings import Settings
from tests.cluster.kubectl import Kubectl
from tests.engines import paths
from tests.engines.kubernetes import network

NAMESPACE: Final = "integr8s"
OVERLAY: Final = Path(__file__).parent / "overlay"
_KNATIVE: Final = "services.serving.knative.dev"
_SCALED: Final = "scaledobjects.keda.sh"
_MAKERS: Final = (_KNATIVE, _SCALED, "deployments", "jobs")
"""What would make new pods."""
_CREDENTIALS: Final = "triggerauthentications.keda.sh"
_NO_FINALIZERS: Final = '{"metadata":{"finalizers":null}}'
_TRIES: Final = 3
_GONE_SECONDS: Final = 180
_READY_SECONDS: Final = 180


def settings_in(environment: Mapping[str, str]) -> Settings:
    """Return what this process reaches the engines by; pods use other addresses of the same.

    The password of the administrator and the key that signs sessions are made up here.

    Raises:
        AssertionError: An engine's address is missing.
    """
    return Settings(
        enable_event_streaming=True,
        kafka_servers=value(environment, "INTEGR8S_KAFKA_SERVERS"),
        mongo_url=value(environment, "INTEGR8S_MONGO_URL"),
        redis_url=value(environment, "INTEGR8S_REDIS_URL"),
        admin_password=secrets.token_urlsafe(16),
        secret_key=secrets.token_urlsafe(48),
    )


def value(environment: Mapping[str, str], name: str) -> str:
    """Return a setting by which an engine of the tests is reached.

    Raises:
        AssertionError: There is none.
    """
    found = environment.get(name)
    assert found, f"{name} is not set: ./taskw test:cluster and bench:cluster set it"
    return found


def is_installed(command: Kubectl) -> bool:
    """Return whether its Secrets are there, which are made once."""
    secret = ("secret", "integr8s-gateway", "-n", NAMESPACE)
    return bool(command("get", *secret, "--ignore-not-found", "-o", "name").strip())


def make_secrets(command: Kubectl, settings: Settings) -> None:
    """Make the namespace and the Secrets, with the addresses as pods see them."""
    assert settings.mongo_url is not None
    assert settings.redis_url is not None
    assert settings.secret_key is not None
    assert settings.admin_password is not None
    command("apply", "-f", str(paths.ROOT / "knative" / "00-namespace.yaml"))
    mongo = _inside(settings.mongo_url.get_secret_value())
    redis = _inside(settings.redis_url.get_secret_value())
    gateway = {
        "INTEGR8S_SECRET_KEY": settings.secret_key.get_secret_value(),
        "INTEGR8S_ADMIN_PASSWORD": settings.admin_password.get_secret_value(),
    }
    for name, values in (
        ("integr8s", {"INTEGR8S_MONGO_URL": mongo, "INTEGR8S_REDIS_URL": redis}),
        ("integr8s-gateway", gateway),
        (
            "integr8s-kafka",
            {"sasl": "none", "username": "", "password": "", "tls": "disable", "ca": ""},
        ),
        ("integr8s-mongo", {"connectionString": mongo}),
    ):
        command.manifest(
            apiVersion="v1",
            kind="Secret",
            metadata={"name": name, "namespace": NAMESPACE},
            stringData=values,
        )


def _inside(address: str) -> str:
    return address.replace("127.0.0.1", network.ADDRESS)


def apply(command: Kubectl) -> None:
    """Apply everything and wait until it is ready; what is there already is brought up to date.

    Raises:
        AssertionError: Something does not come up; with what the cluster says.
    """
    # A Job cannot be changed.
    command("delete", "job", "setup", "-n", NAMESPACE, "--ignore-not-found")
    command("apply", "-k", str(OVERLAY / "front"))
    _wait(command, "job/setup", until="condition=complete")
    command("apply", "-k", str(OVERLAY / "functions"))
    for kind in (_KNATIVE, _SCALED):
        _wait(command, kind, "--all", until="condition=Ready")


def _wait(command: Kubectl, *what: str, until: str) -> None:
    command(
        *("wait", *what, "-n", NAMESPACE, f"--for={until}", f"--timeout={_READY_SECONDS}s"),
        seconds=_READY_SECONDS + 10,
    )


def uninstall(command: Kubectl) -> None:
    """Remove the namespace with all that is in it."""
    if not command("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        return
    for kind in _MAKERS:
        command("delete", kind, "--all", "-n", NAMESPACE, "--wait=false", "--ignore-not-found")
    # Nobody is left who lets pods of scripts go, and KEDA was seen to keep its credentials for more
    # than three minutes. And a pod of the gateway may take ten minutes: whoever deletes namespaces
    # reads that and looks again after five.
    command("delete", _CREDENTIALS, "--all", "-n", NAMESPACE, "--wait=false", "--ignore-not-found")
    for which in (["pods", "-l", "app=integr8s,component=executor"], [_CREDENTIALS]):
        for held in command("get", *which, "-n", NAMESPACE, "-o", "name").split():
            with suppress(AssertionError):  # it went by itself
                command("patch", held, "-n", NAMESPACE, "--type=merge", "-p", _NO_FINALIZERS)
    for _ in range(_TRIES):  # one that is being made is not in the first list
        command("delete", "pods", "--all", "-n", NAMESPACE, "--grace-period=0", "--force")
    command("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=_GONE_SECONDS)
