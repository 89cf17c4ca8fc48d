"""integr8s on a cluster of this machine, to be tried by hand: `python -m tests.cluster --help`."""

import argparse
import base64
import json
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster import installing, sign_in
from tests.cluster.installing import NAMESPACE
from tests.cluster.kubectl import Kubectl
from tests.engines import catalogue, doctor, lifecycle, paths
from tests.engines.engine import EngineError, say
from tests.engines.images import executors, function
from tests.engines.knative.call import Route, route
from tests.engines.kubernetes.engine import kubectl

_INTERRUPTED = 130
_ENGINES = ("kafka", "mongo", "redis", "kubernetes", "keda", "knative")
_DESCRIPTION = """\
integr8s as an operator installs it, on a Kubernetes of this machine without containers or registry.

  up       build and start the engines, build and import the images, apply this tree's manifests;
           an installation that is there is brought up to date and keeps what it stored
  env      print the settings for kubectl and integr8s: eval "$(... env)"
  remove   remove the installation; the engines go on
  down     stop the engines; what is installed is there again after the next `up`

Each may be repeated, and interrupted: the next `up` goes on. The first one builds for ten minutes
or more; what was built is kept.
"""


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="./taskw cluster",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=_COMMANDS, metavar="command", help="see above")
    try:
        return _COMMANDS[parser.parse_args(arguments).command]()
    except (EngineError, AssertionError) as error:
        lifecycle.complain(str(error))
        return 1
    except KeyboardInterrupt:
        lifecycle.complain("interrupted; `./taskw cluster up` goes on, `./taskw cluster down` ends")
        return _INTERRUPTED


def _up() -> int:
    doctor.refuse(doctor.lacks(_ENGINES) + function.lacks() + executors.lacks())
    engines = catalogue.with_needs(_ENGINES)
    lifecycle.start_all(engines)
    say("images: building and importing what is new")
    function.import_function()
    executors.import_executors()
    environment = lifecycle.settings_of(engines)
    command = Kubectl(environment["KUBECONFIG"])
    say(f"integr8s: applying knative/ and keda/ to the namespace {NAMESPACE}")
    if not installing.is_installed(command):
        installing.make_secrets(command, installing.settings_in(environment))
    installing.apply(command)
    say(_WELCOME.rstrip())
    return 0


_WELCOME = """
integr8s runs, and every function sleeps. In a shell:

  eval "$(./taskw cluster env)"
  kubectl get pods -n integr8s -w &
  integr8s run gateway/examples/primes.py
  integr8s doctor
"""


def _env() -> int:
    found = _ways_to(_ENGINES)
    command = Kubectl(found["KUBECONFIG"])
    if not installing.is_installed(command):
        raise EngineError("nothing is installed on the cluster: ./taskw cluster up")
    there = route(Path(found["KUBECONFIG"]), NAMESPACE, "gateway")
    host = there.headers["Host"]
    found |= {
        "INTEGR8S_ENABLE_EVENT_STREAMING": "true",
        "INTEGR8S_URL": f"http://{host}",
        "INTEGR8S_API_KEY": _key(command, there),
    }
    for name, value in found.items():
        say(f"export {name}={shlex.quote(value)}")
    programs = (
        f"{shlex.quote(str(Path(sys.executable).parent))}:{shlex.quote(str(kubectl().parent))}"
    )
    say(f'export PATH={programs}:"$PATH"')
    if not _resolves(host):
        address = urlsplit(there.url).hostname
        lifecycle.complain(
            f"{host} means nothing to this machine yet; as root: "
            f"echo '{address} {host}' >> /etc/hosts"
        )
    return 0


def _ways_to(names: Sequence[str]) -> dict[str, str]:
    """Return the settings by which engines are reached, the cluster's among them.

    Raises:
        EngineError: No cluster runs.
    """
    found = lifecycle.settings_of(catalogue.with_needs(names))
    if "KUBECONFIG" not in found:
        raise EngineError("no cluster runs on this machine: ./taskw cluster up")
    return found


def _key(command: Kubectl, there: Route) -> str:
    """Return the API key of an earlier call, or a new one where that is not known any more."""
    file = paths.STATE / "cluster" / "api-key"
    if file.exists() and sign_in.is_known(there, kept := file.read_text()):
        return kept
    secret = json.loads(command("get", "secret", "integr8s-gateway", "-n", NAMESPACE, "-o", "json"))
    password = base64.b64decode(secret["data"]["INTEGR8S_ADMIN_PASSWORD"]).decode()
    key = sign_in.new_key(there, password, "by hand")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(key)
    return key


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 80)
    except OSError:
        return False
    return True


def _remove() -> int:
    installing.uninstall(Kubectl(_ways_to(["kubernetes"])["KUBECONFIG"]))
    return 0


def _down() -> int:
    engines = catalogue.with_dependents(_ENGINES)
    return lifecycle.stop_all([one for one in engines if lifecycle.has_traces(one)])


_COMMANDS: dict[str, Callable[[], int]] = {
    "up": _up,
    "env": _env,
    "remove": _remove,
    "down": _down,
}


if __name__ == "__main__":
    sys.exit(main())
