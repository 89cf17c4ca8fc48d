"""The command that operators type."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.engines.kubernetes.engine import kubectl


class Kubectl:
    """Speaks to one cluster."""

    def __init__(self, kubeconfig: str) -> None:
        """Find the cluster in a kubeconfig."""
        self.kubeconfig = Path(kubeconfig)
        self._command = [str(kubectl()), "--kubeconfig", kubeconfig]

    def __call__(self, *words: str, text: str | None = None, seconds: float = 120) -> str:
        """Run it; return what it prints.

        Raises:
            AssertionError: It failed, with its own words, or took longer.
        """
        try:
            done = subprocess.run(
                [*self._command, *words],
                input=text,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"kubectl {' '.join(words)}: no end in {seconds:g} s") from error
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr.strip()}"
        return done.stdout

    def manifest(self, **document: Any) -> None:
        """Apply one object."""
        self("apply", "-f", "-", text=json.dumps(document))
