"""The certificates with which KEDA's parts know each other, and the API knows them."""

import shutil
import subprocess
from pathlib import Path

from tests.engines.engine import EngineError

FILES = ("ca.crt", "tls.crt", "tls.key")
"""What the kustomization makes a Secret of."""

_DAYS = 365
_RENEW_SECONDS = 7 * 24 * 3600
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(_DAYS))
_SERVICES = ("keda-operator", "keda-metrics-apiserver", "keda-admission-webhooks")


def ensure_certificates(folder: Path) -> None:
    """Make an authority and one certificate for all services, unless they last a week longer.

    Raises:
        EngineError: openssl failed.
    """
    if all((folder / name).is_file() for name in FILES) and _lasts(folder / "tls.crt"):
        return
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    authority, key = folder / "ca.crt", folder / "ca.key"
    _openssl(
        *("req", "-x509", *_KEY, "-subj", "/CN=KEDA of the tests"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        *("-keyout", str(key), "-out", str(authority)),
    )
    _openssl(
        *("req", "-x509", *_KEY, "-subj", "/CN=keda-operator"),
        *("-CA", str(authority), "-CAkey", str(key)),
        *("-addext", "basicConstraints=critical,CA:false"),
        # The metrics adapter is a server to the API and a client of the operator.
        *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
        *("-addext", f"subjectAltName={','.join(_names())}"),
        *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
    )
    key.unlink()  # it vouches for nothing else


def _names() -> list[str]:
    suffixes = ("", ".keda", ".keda.svc", ".keda.svc.cluster.local")
    return [f"DNS:{service}{suffix}" for service in _SERVICES for suffix in suffixes]


def _lasts(certificate: Path) -> bool:
    command = ["x509", "-noout", "-checkend", str(_RENEW_SECONDS), "-in", str(certificate)]
    try:
        _openssl(*command)
    except EngineError:
        return False
    return True


def _openssl(*arguments: str) -> None:
    command = [shutil.which("openssl") or "openssl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
