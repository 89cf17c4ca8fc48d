"""The server process: `python -m gateway` is `integr8s up` for machines, with its log as JSON."""

import sys

from gateway.cli.serving import up_for_machines

if __name__ == "__main__":
    sys.exit(up_for_machines())
