"""Starts and stops the engines on this machine: `python -m tests.engines --help`."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from tests.engines import catalogue, doctor, lifecycle, paths, process
from tests.engines.engine import Engine, EngineError, say

_MEBIBYTE = 1024 * 1024
_INTERRUPTED = 130
_REQUIRE = "INTEGR8S_REQUIRE_ENGINES"
"""Set where a tier that is skipped for want of a tool must not go unnoticed."""
_DESCRIPTION = """\
The real engines that the project runs on, started on this machine without containers.

  start    build what is missing, then start the named engines and all that they need
  check    ask each of the named engines for an answer
  status   show what runs, where, how large it is and where its log is
  env      print the settings by which clients reach what runs: eval "$(... env)"
  logs     print the end of the logs, also of what was stopped
  run      start what does not run, run the command behind -- with the settings of env, and
           stop again what was started for it; its exit code is the command's. Engines of yours
           that INTEGR8S_KAFKA_SERVERS, INTEGR8S_MONGO_URL, INTEGR8S_REDIS_URL or KUBECONFIG name
           are used instead
  stop     end the named engines and all that need them, in reverse order
  doctor   name everything that is missing on this machine, with its remedy

Without names each command means all engines, but stop means those that were started from the
same state. Every command may be repeated and may be interrupted; whatever an interrupted start has
left, stop ends.
"""
_EPILOG = f"""\
engines:   {", ".join(catalogue.NAMES)}
cache:     {paths.CACHE}
           what was built; kept, and shared by all checkouts ($INTEGR8S_ENGINES_CACHE)
state:     {paths.STATE}
           data, logs, passwords of this checkout ($INTEGR8S_ENGINES_STATE); stop --wipe deletes
           the part of each engine that it stops
ports:     the usual ones; $INTEGR8S_ENGINES_REDIS_PORT and the like move an engine, for every
           command alike

examples:  python -m tests.engines start kafka redis
           eval "$(python -m tests.engines env)"
           python -m tests.engines run redis -- python -m pytest tests/contract
           python -m tests.engines stop --wipe
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    mine, theirs = _split(sys.argv[1:] if arguments is None else arguments)
    given = _parser().parse_intermixed_args(mine)
    given.program = theirs
    try:
        return _COMMANDS[given.command](given)
    except EngineError as error:
        lifecycle.complain(str(error))
        return 1
    except KeyboardInterrupt:
        lifecycle.complain("interrupted; `python -m tests.engines stop` ends what was started")
        return _INTERRUPTED


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what stands before the first --, and what stands behind it."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.engines",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=_COMMANDS, metavar="command", help="see above")
    parser.add_argument("names", nargs="*", metavar="engine", help="see below; default: all")
    parser.add_argument("--wipe", action="store_true", help="stop: delete their data as well")
    return parser


# ---------------------------------------------------------------------------------------- commands


def _start(given: argparse.Namespace) -> int:
    _refuse_gaps(given)
    lifecycle.start_all(_chosen(given))
    return 0


def _run(given: argparse.Namespace) -> int:
    if not given.program:
        raise EngineError("run takes a command: python -m tests.engines run redis -- COMMAND")
    engines = _chosen(given)
    for engine in engines:
        if variable := lifecycle.given_by(engine):
            say(f"{engine.name}: yours, by {variable}")
    missing = doctor.lacks([one.name for one in engines if lifecycle.given_by(one) is None])
    if missing and not os.environ.get(_REQUIRE):  # noqa: TID251 - a test runner has no settings
        say(f"SKIPPED: {shlex.join(given.program)}\n{doctor.listed(missing)}")
        return 0
    doctor.refuse(missing)
    with lifecycle.running(engines) as settings:
        return _run_program(given.program, settings)


def _check(given: argparse.Namespace) -> int:
    return lifecycle.each(_chosen(given), lambda engine: say(lifecycle.checked(engine)))


def _stop(given: argparse.Namespace) -> int:
    return lifecycle.stop_all(_to_stop(given.names), wiping=given.wipe)


def _status(given: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [("NAME", "STATE", "PID", "ADDRESS", "MEMORY", "LOG")]
    for engine in _chosen(given):
        rows += _rows_of(engine)
    if not given.names:
        rows += map(_row_of, _others())
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(map(str.ljust, row, widths)).rstrip())
    return 0


def _env(given: argparse.Namespace) -> int:
    for name, value in lifecycle.settings_of(_chosen(given)).items():
        say(f"export {name}={shlex.quote(value)}")
    return 0


def _logs(given: argparse.Namespace) -> int:
    chosen = map(catalogue.load, given.names) if given.names else catalogue.all_loadable()
    for log in (log for engine in chosen for log in engine.logs() if log.exists()):
        say(f"==> {log} <==\n{process.tail(log)}\n")
    return 0


def _doctor(given: argparse.Namespace) -> int:
    _refuse_gaps(given)
    say("nothing is missing")
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "start": _start,
    "check": _check,
    "status": _status,
    "env": _env,
    "run": _run,
    "logs": _logs,
    "stop": _stop,
    "doctor": _doctor,
}


# ------------------------------------------------------------------------------------- one engine


def _chosen(given: argparse.Namespace) -> list[Engine]:
    """Return the named engines and what they need, or all of them."""
    return catalogue.with_needs(given.names) if given.names else catalogue.all_loadable()


def _refuse_gaps(given: argparse.Namespace) -> None:
    doctor.refuse(doctor.lacks(given.names or catalogue.NAMES))


def _run_program(command: Sequence[str], settings: Mapping[str, str]) -> int:
    """Run a program to its end; return its exit code, as a shell would."""
    environment = {**os.environ, **settings}  # noqa: TID251 - passed on to a process
    try:
        program = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error}") from error
    while True:
        # Ctrl-C goes to the program as well, which may have much to put away before it ends.
        with suppress(KeyboardInterrupt):
            code = program.wait()
            return code if code >= 0 else 128 - code


def _to_stop(names: Sequence[str]) -> list[Engine]:
    """Return the named engines and, of all others or of their dependents, those of this state.

    Some engines clean up things that a machine has only once. Asked without having been started
    here, they would take them away from whoever did start them: another checkout.
    """
    engines = catalogue.with_dependents(names or [one.name for one in catalogue.all_loadable()])
    return [engine for engine in engines if engine.name in names or lifecycle.has_traces(engine)]


def _rows_of(engine: Engine) -> Iterator[tuple[str, ...]]:
    """Give one line for each process of an engine, or one for the engine where it has none."""
    is_running = lifecycle.is_running(engine)
    address = _address_of(engine) if is_running else "-"
    names = lifecycle.processes_of(engine)
    if not names:
        yield engine.name, "running" if is_running else "stopped", "-", address, "-", "-"
    for name in names:
        yield _row_of(name, address)


def _row_of(name: str, address: str = "-") -> tuple[str, ...]:
    log = str(process.log_of(name))
    if found := process.running(name):
        memory = f"{process.memory_bytes(found) // _MEBIBYTE} MiB"
        return name, "running", str(found.pid), address, memory, log
    return name, "died", "-", "-", "-", log


def _others() -> list[str]:
    """Return the processes that are parts of an engine under names of their own."""
    known = {name for engine in catalogue.all_loadable() for name in lifecycle.processes_of(engine)}
    return [name for name in process.recorded() if name not in known]


def _address_of(engine: Engine) -> str:
    """Return the first of its settings, without the login that an address may hold."""
    first = next(iter(engine.environment().values()), "-")
    address = urlsplit(first)
    return first.replace(f"{address.netloc.rpartition('@')[0]}@", "") if "@" in first else first


if __name__ == "__main__":
    # A reader that has seen enough (`logs | head`) is no error.
    try:
        sys.exit(main())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
