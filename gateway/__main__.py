"""The processes of integr8s, for machines: `python -m gateway [WHAT]`, with JSON lines as log.

Without WHAT it is the embedded system, as `integr8s up`. On a cluster the image is started with
`gateway`, `pump SLUG`, `http SLUG` or `setup`; a pump is on its way from zero, so nothing is
imported here that another one of them needs.
"""

import sys

from gateway.cli.errors import USAGE, Failure

_USAGE = """usage: python -m gateway [WHAT]

What this process becomes, with JSON lines as log:

  (nothing)   the embedded system on this machine, as integr8s up
  gateway     cluster: the HTTP front
  pump SLUG   one function, consuming its topics
  http SLUG   one function, taking its events over HTTP
  setup       cluster: make topics, first offsets and indexes, then end

Everything is configured by INTEGR8S_* variables: integr8s settings-help.
"""
_INTERRUPTED = 130


def main() -> int:
    """Become what the arguments say; return the exit code."""
    try:
        return _become(sys.argv[1:])
    except Failure as failure:
        sys.stderr.write(f"integr8s: {failure.message}\n")
        if failure.remedy:
            sys.stderr.write(f"  {failure.remedy}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


def _become(arguments: list[str]) -> int:
    match arguments:
        case ["-h" | "--help"] | ["gateway" | "setup", "-h" | "--help"]:
            sys.stdout.write(_USAGE)
            return 0
        case ["pump" | "http", *_]:
            from shared.runtime.__main__ import main as function

            return function(arguments)
        case ["gateway"]:
            from gateway.cli.cluster import gateway

            return gateway(json_logs=True)
        case ["setup"]:
            from gateway.cli.cluster import setup

            return setup(json_logs=True)
        case ["gateway" | "setup" as what, *more]:
            raise Failure(
                f"{what} takes no arguments, and there is {more[0]}.",
                remedy="It is configured by INTEGR8S_* variables: integr8s settings-help.",
                exit_code=USAGE,
            )
        case _:
            from gateway.cli.serving import up_for_machines

            return up_for_machines()


if __name__ == "__main__":
    sys.exit(main())
