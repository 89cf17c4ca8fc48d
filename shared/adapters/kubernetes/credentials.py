"""Where the API server is and who we are there: a pod's own account, or a kubeconfig."""

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.domain.errors import StartupError

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS: Final = 60.0
"""The kubelet renews a projected token long before it ends; clients read it again every minute."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to speak with one API server."""

    server: str
    trust: ssl.SSLContext
    token: Callable[[], str | None]
    """Returns what stands behind `Authorization`, None where a certificate speaks for us."""
    server_name: str | None = None
    """What its certificate is for, where that is not its address."""


def find(
    kubeconfig: Path | None = None, *, now: Callable[[], float] = time.monotonic
) -> Credentials:
    """Return the credentials of this process.

    Raises:
        StartupError: There are none.
    """
    if kubeconfig is None and (_ACCOUNT / "token").is_file():
        return _of_account(now)
    return _of_file(kubeconfig)


def _of_account(now: Callable[[], float]) -> Credentials:
    """Return those of the pod that this process runs in.

    The official client could say the same, but importing it takes as long as the rest of a start
    from zero; three files and two variables are all that it reads.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")  # noqa: TID251 - the kubelet's, no setting
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")  # noqa: TID251
    if not host:
        raise StartupError(
            "There is a service account here, but no address of the API server.",
            remedy="Let the kubelet set KUBERNETES_SERVICE_HOST, as it does for every pod.",
        )
    address = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{address}:{port}",
        trust=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
        token=_TokenFile(_ACCOUNT / "token", now).bearer,
    )


class _TokenFile:
    """A projected token, read again before it could have become stale."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._token = ""
        self._read_at = float("-inf")

    def bearer(self) -> str:
        """Return the header's value."""
        now = self._now()
        if now - self._read_at >= _TOKEN_SECONDS:
            self._token = self._path.read_text().strip()
            self._read_at = now
        return f"Bearer {self._token}"


def _of_file(kubeconfig: Path | None) -> Credentials:
    try:
        from kubernetes import client, config  # noqa: PLC0415 - see _of_account
    except ImportError as error:
        raise StartupError(
            "There is no service account here, and nothing that reads a kubeconfig.",
            remedy="Let the pod have its account's token (automountServiceAccountToken); outside"
            " of a cluster install integr8s[cluster].",
        ) from error

    found: Any = client.Configuration()
    load: Any = config.load_kube_config
    try:
        load(str(kubeconfig) if kubeconfig is not None else None, client_configuration=found)
    except (config.ConfigException, OSError) as error:
        raise StartupError(
            f"There is no way to the API server: {str(error).rstrip('.')}.",
            remedy="Run in a pod with a service account, or set KUBECONFIG.",
        ) from error
    return Credentials(
        server=found.host,
        trust=_trust(found),
        token=lambda: _authorization(found),
        server_name=getattr(found, "tls_server_name", None) or None,
    )


def _trust(found: Any) -> ssl.SSLContext:
    trust = ssl.create_default_context(cafile=found.ssl_ca_cert)
    if found.cert_file:
        trust.load_cert_chain(found.cert_file, found.key_file)
    if not found.verify_ssl:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust


def _authorization(found: Any) -> str | None:
    """Ask the official client, which renews what a login helper gave it."""
    settings = found.auth_settings().get("BearerToken", {})
    word = settings.get("value")
    return str(word) if word else None
