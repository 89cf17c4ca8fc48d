"""The processes of integr8s, for machines: `python -m gateway [WHAT]`, with JSON lines as log.

Without WHAT it is the embedded system, as `integr8s up`. On a cluster the image is started with
`gateway`, `pump SLUG`, `http SLUG` or `setup`; a pump is on its way from zero, so nothing is
imported here that another one of them needs.
"""

import sys

from gateway.cli.errors import Failure


def main() -> int:
    """Become what the arguments say; return the exit code."""
    try:
        return _become()
    except Failure as failure:
        sys.stderr.write(f"integr8s: {failure.message}\n  {failure.remedy}\n")
        return failure.exit_code


def _become() -> int:
    match sys.argv[1:2]:
        case ["pump"] | ["http"]:
            from shared.runtime.__main__ import main as function

            return function(sys.argv[1:])
        case ["gateway"]:
            from gateway.cli.cluster import gateway

            return gateway(json_logs=True)
        case ["setup"]:
            from gateway.cli.cluster import setup

            return setup(json_logs=True)
        case _:
            from gateway.cli.serving import up_for_machines

            return up_for_machines()


if __name__ == "__main__":
    sys.exit(main())
