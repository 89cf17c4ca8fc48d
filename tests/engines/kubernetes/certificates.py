"""Who is who in the cluster: an authority of its own and what it vouches for, made by openssl."""

import base64
import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.engines.engine import EngineError
from tests.engines.kubernetes import host
from tests.engines.kubernetes.network import ADDRESS, API_SERVICE, NODE

_DAYS = 365
_RENEW_SECONDS = 7 * 24 * 3600
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class _Certificate:
    name: str
    subject: str
    names: str = ""
    """What a server is called; a client needs none."""


_CERTIFICATES = (
    _Certificate(
        "apiserver",
        "/CN=kube-apiserver",
        f"IP:{ADDRESS},IP:{API_SERVICE},IP:127.0.0.1,DNS:localhost,DNS:kubernetes"
        ",DNS:kubernetes.default,DNS:kubernetes.default.svc"
        ",DNS:kubernetes.default.svc.cluster.local",
    ),
    _Certificate("admin", "/O=system:masters/CN=admin"),
    _Certificate("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", f"IP:{ADDRESS},DNS:{NODE}"),
    _Certificate("front", "/CN=front-proxy-client"),
)


def ensure_certificates(folder: Path) -> None:
    """Make all keys and certificates unless they are there and last a week longer.

    They are made together or not at all: one of another authority is trusted by nobody, and with a
    new key for service accounts the tokens that the kept cluster has given out are worth nothing.

    Raises:
        EngineError: openssl failed.
    """
    wanted = hashlib.sha256(repr((_CERTIFICATES, _DAYS)).encode()).hexdigest()
    complete = folder / "complete"
    if complete.is_file() and complete.read_text() == wanted and _lasts(folder / "ca.crt"):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    _make_authority(folder)
    for certificate in _CERTIFICATES:
        _make_certificate(folder, certificate)
    _make_key_pair(folder)
    complete.write_text(wanted)


def encoded(path: Path) -> str:
    """Return a file's content as a kubeconfig carries it."""
    return base64.b64encode(path.read_bytes()).decode()


def _lasts(certificate: Path) -> bool:
    with suppress(EngineError):
        host.run(
            "openssl",
            *("x509", "-noout", "-in", str(certificate), "-checkend", str(_RENEW_SECONDS)),
        )
        return True
    return False


def _make_authority(folder: Path) -> None:
    host.run(
        "openssl",
        *("req", "-x509", *_KEY, "-days", str(_DAYS), "-subj", "/CN=integr8s tests"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        *("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")),
    )


def _make_certificate(folder: Path, certificate: _Certificate) -> None:
    out = folder / certificate.name
    names = ("-addext", f"subjectAltName={certificate.names}") if certificate.names else ()
    host.run(
        "openssl",
        *("req", "-x509", *_KEY, "-days", str(_DAYS), "-subj", certificate.subject),
        *("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")),
        *("-addext", "basicConstraints=critical,CA:false"),
        *("-addext", "extendedKeyUsage=serverAuth,clientAuth", *names),
        *("-keyout", f"{out}.key", "-out", f"{out}.crt"),
    )


def _make_key_pair(folder: Path) -> None:
    """Make the pair that tokens of service accounts are signed and checked with."""
    private, public = str(folder / "sa.key"), str(folder / "sa.pub")
    host.run(
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        private,
    )
    host.run("openssl", "pkey", "-in", private, "-pubout", "-out", public)
