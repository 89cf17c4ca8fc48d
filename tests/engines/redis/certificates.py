"""A certificate authority of our own, and the one certificate that it signs."""

import subprocess
from pathlib import Path

from tests.engines import doctor
from tests.engines.engine import EngineError

_SETTINGS = Path(__file__).with_name("certificates.cnf")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
_DAYS = "3650"


def make(folder: Path) -> None:
    """Fill a folder with ca.crt, server.crt and server.key, unless they are there.

    Raises:
        EngineError: openssl failed.
    """
    if (folder / "server.crt").exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _request(folder, "ca", "/CN=integr8s engines CA")
    # Written last: as long as this file is missing all of them are made again.
    signer = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
    _request(folder, "server", "/CN=localhost", signer)


def _request(folder: Path, kind: str, subject: str, signer: list[str] | None = None) -> None:
    partial = folder / f"{kind}.partial"
    done = subprocess.run(
        [
            doctor.program("openssl") or "openssl",
            *("req", "-x509", "-config", str(_SETTINGS), "-extensions", kind),
            *("-subj", subject, "-days", _DAYS, *_KEY),
            *("-keyout", str(folder / f"{kind}.key"), "-out", str(partial)),
            *(signer or []),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise EngineError(f"openssl made no certificate of the {kind}: {done.stderr.strip()}")
    partial.rename(folder / f"{kind}.crt")
    (folder / f"{kind}.key").chmod(0o600)
