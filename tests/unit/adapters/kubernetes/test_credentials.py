"""How a process finds its way to the API server."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.adapters.kubernetes import credentials
from shared.domain.errors import StartupError

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://api:6443", tls-server-name: other}}]
users: [{name: u, user: {token: secret}}]
"""


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's own account."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=x", "-keyout", "/dev/null", "-out", tmp_path / "ca.crt"),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "token").write_text("first\n")
    monkeypatch.setattr(credentials, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_pod_uses_its_account(account: Path) -> None:
    """Address from the kubelet, token and certificate from its files."""
    found = credentials.find()

    assert found.server == "https://10.96.0.1:443"
    assert found.token() == "Bearer first"
    assert (account / "ca.crt").is_file()


def test_address_may_be_of_version_6(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it needs brackets."""
    assert account.is_dir()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")

    assert credentials.find().server == "https://[fd00::1]:443"


def test_token_is_read_again(account: Path) -> None:
    """The kubelet renews it; a process that runs for days must notice."""
    moments = iter([0.0, 59.0, 61.0])
    found = credentials.find(now=lambda: next(moments))
    tokens = [found.token()]
    (account / "token").write_text("second")
    tokens += [found.token(), found.token()]

    assert tokens == ["Bearer first", "Bearer first", "Bearer second"]


def test_account_without_an_address_is_refused(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the variable."""
    assert account.is_dir()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")

    with pytest.raises(StartupError, match="KUBERNETES_SERVICE_HOST"):
        credentials.find()


def test_kubeconfig_is_read_by_the_official_client(tmp_path: Path) -> None:
    """With all that it may say: tokens, certificates, login helpers, another name."""
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    found = credentials.find(path)

    assert found.server == "https://api:6443"
    assert found.token() == "Bearer secret"
    assert found.server_name == "other"


def test_without_any_way_the_start_is_refused(tmp_path: Path) -> None:
    """The remedy names both ways."""
    with pytest.raises(StartupError, match="KUBECONFIG"):
        credentials.find(tmp_path / "missing")


def test_import_does_not_load_the_official_client() -> None:
    """It takes longer than the rest of a start from zero; in a pod it is not needed."""
    program = (
        "import sys, shared.adapters.kubernetes.cluster\n"
        "print(*({'kubernetes', 'yaml', 'requests', 'aiohttp', 'urllib3'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout == b"\n"
