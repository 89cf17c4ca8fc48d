"""Every command: its options, its help, and where its work is done."""

import os
import sys
from typing import Annotated

import typer

from gateway.cli.errors import ApiRefusal, Failure
from gateway.cli.values import JsonObject

_BROKEN_PIPE = 141
"""As a shell reports a process that SIGPIPE ended."""
_INTERRUPTED = 130

_MAIN = """Run scripts in isolation and watch them live.

\b
  integr8s up -d                     start everything on this machine
  integr8s run hello.py              run a script, follow its output
  echo 'puts 42' | integr8s run --lang ruby -
  integr8s scaling --watch           see functions wake up and go to sleep
  integr8s down                      stop everything
"""

app = typer.Typer(
    name="integr8s",
    help=_MAIN,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: markup would cost as much again as the rest of the start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no phases.")]
ExecutionId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of an execution.", show_default=False)
]


def run_app() -> int:
    """Run the command of this process's arguments; return its exit code."""
    try:
        code = app(standalone_mode=False)
    except Failure as failure:
        return _show_failure(failure)
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        # Whoever read our output has seen enough. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except typer.Exit as leaving:
        return leaving.exit_code
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # a wrong option or argument: usage, what is wrong, and what was probably meant
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _show_failure(failure: Failure) -> int:
    sys.stderr.write(f"integr8s: {failure.message}\n")
    if failure.remedy:
        sys.stderr.write(f"  {failure.remedy}\n")
    if isinstance(failure, ApiRefusal):
        _show_fields(failure.problem.get("errors") or [])
    return failure.exit_code


def _show_fields(errors: list[JsonObject]) -> None:
    """Show every wrong field, where the sentence names only the first of several."""
    if len(errors) > 1:
        for one in errors:
            where = ".".join(str(part) for part in one["loc"][1:])
            sys.stderr.write(f"  {where}: {one['msg']}\n")


def _version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"integr8s {version('integr8s')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    _version(wanted=version)


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Go on in the background once it is ready.")
    ] = False,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Log as JSON lines, for a log collector.")
    ] = False,
) -> int:
    """Start everything on this machine, and stay until Ctrl-C."""
    from gateway.cli import system

    return system.up(detach=detach, json_logs=json_logs)


@app.command()
def down(
    force: Annotated[
        bool, typer.Option("--force", help="Kill it. Nothing that was accepted is lost.")
    ] = False,
) -> int:
    """Stop what runs on this data directory, and wait until it has."""
    from gateway.cli import system

    return system.down(force=force)


@app.command()
def status(*, json: Json = False) -> int:
    """Tell what runs and what sleeps. Exit code 3: nothing runs."""
    from gateway.cli import system

    return system.status(json=json)


@app.command()
def run(  # one option for each field of a submit
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The script; - reads it from standard input.")
    ],
    script_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARG]...", help="Arguments of the script, after --."),
    ] = None,
    lang: Annotated[
        str | None, typer.Option(help="python, node, ruby, bash, go [by extension or #!].")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version of the language.")] = None,
    stdin: Annotated[
        str | None, typer.Option(metavar="FILE", help="The script's standard input; - is this one.")
    ] = None,
    arg: Annotated[list[str] | None, typer.Option(help="An argument of the script.")] = None,
    with_file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="[NAME=]FILE", help="A file to lie beside the script."),
    ] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds that the script may run.")] = None,
    priority: Annotated[
        str | None, typer.Option(help="critical, high, normal, low, background.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key runs it once.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the id and do not wait.")
    ] = False,
    ephemeral: Annotated[
        bool,
        typer.Option("--ephemeral", help="Start a private system if none runs; it ends with this."),
    ] = False,
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run a script and follow it, byte for byte.

    The exit code is the script's; 124 timeout, 125 cancelled, 126 refused, 127 failure of the
    platform. Ctrl-C once lets the script run on, twice cancels it.
    """
    from gateway.cli.run import Manner
    from gateway.cli.run import run as run_script
    from gateway.cli.scripts import Wish

    wish = Wish(
        script=file,
        lang=lang,
        version=version,
        stdin=stdin,
        args=[*(arg or []), *(script_args or [])],
        files=with_file or [],
        timeout=timeout,
        priority=priority,
    )
    manner = Manner(json=json, quiet=quiet)
    return run_script(wish, manner, key=key, detach=detach, ephemeral=ephemeral)


@app.command("list")
def list_executions(
    status: Annotated[
        str | None, typer.Option(help="Only those: queued, running, completed, failed, ...")
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Only those in a language.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    *,
    json: Json = False,
) -> int:
    """List your executions, the newest first."""
    from gateway.cli import executions

    return executions.show_list(status=status, lang=lang, limit=limit, json=json)


@app.command()
def show(execution_id: ExecutionId, *, json: Json = False) -> int:
    """Show an execution: what was asked for, where it is, how it went."""
    from gateway.cli import executions

    return executions.show(execution_id, json=json)


@app.command()
def result(execution_id: ExecutionId, *, json: Json = False) -> int:
    """Print what an execution printed, and how it ended."""
    from gateway.cli import executions

    return executions.result(execution_id, json=json)


@app.command()
def logs(
    execution_id: ExecutionId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow to the end; exit code as of run.")
    ] = False,
    *,
    quiet: Quiet = False,
) -> int:
    """Print what an execution printed so far."""
    from gateway.cli import executions

    return executions.logs(execution_id, follow=follow, quiet=quiet)


@app.command()
def cancel(
    execution_id: ExecutionId,
    reason: Annotated[str | None, typer.Option(help="Kept with the execution.")] = None,
    *,
    json: Json = False,
) -> int:
    """Cancel an execution that has not finished."""
    from gateway.cli import executions

    return executions.cancel(execution_id, reason=reason, json=json)


@app.command()
def scaling(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; in a pipe, only changes.")
    ] = False,
    *,
    json: Json = False,
) -> int:
    """Show which functions are awake, how many replicas, and why."""
    from gateway.cli import scaling as view

    return view.show(watch=watch, json=json)


@app.command()
def doctor(*, json: Json = False) -> int:
    """Check machine, engines and invariants, and say what helps. Exit code 1 on a failure."""
    from gateway.cli import doctor as checks

    return checks.run(json=json)


@app.command()
def pump(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="A function, e.g. coordinate.")],
) -> int:
    """Run one function, consuming its topics.

    Those of a data directory where nothing else runs; in the cluster profile, those in Kafka.
    """
    return _function("pump", slug)


@app.command()
def http(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="A function, e.g. submit.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> int:
    """Serve one function: POST a CloudEvent to it.

    On a data directory where nothing else runs; in the cluster profile, on the cluster's engines.
    """
    more = [f"--host={host}"] if host else []
    more += [f"--port={port}"] if port is not None else []
    return _function("http", slug, *more)


def _function(mode: str, slug: str, *more: str) -> int:
    from shared.runtime.functions import SLUGS

    if slug not in SLUGS:
        raise Failure(f"There is no function {slug}.", remedy=f"These are: {', '.join(SLUGS)}.")
    from shared.runtime.__main__ import main

    return main([mode, slug, *more])


@app.command()
def gateway(
    *,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Log as JSON lines, for a log collector.")
    ] = False,
) -> int:
    """Cluster: serve the HTTP front alone, until Ctrl-C."""
    from gateway.cli import cluster

    return cluster.gateway(json_logs=json_logs)


@app.command()
def setup(
    *,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Log as JSON lines, for a log collector.")
    ] = False,
) -> int:
    """Cluster: make topics and indexes, waiting for the engines; may be repeated."""
    from gateway.cli import cluster

    return cluster.setup(json_logs=json_logs)


topics = typer.Typer(help="Cluster: the topics in Kafka.", no_args_is_help=True)
app.add_typer(topics, name="topics")
indexes = typer.Typer(help="Cluster: the indexes in MongoDB.", no_args_is_help=True)
app.add_typer(indexes, name="indexes")


@topics.command("apply")
def apply_topics() -> int:
    """Make what is missing, bring settings in line, say what differs; may be repeated."""
    from gateway.cli import cluster

    return cluster.topics()


@indexes.command("apply")
def apply_indexes() -> int:
    """Make what is missing, say what differs; may be repeated."""
    from gateway.cli import cluster

    return cluster.indexes()


@topics.callback()
def _topics() -> None:
    """Keep `apply` a word of its own; Typer folds a group with one command."""


@indexes.callback()
def _indexes() -> None:
    """See above."""


@app.command("settings-help")
def settings_help() -> int:
    """List every setting: its variable, its default, what it is set to, what it means."""
    from gateway.cli import settings_help as help_text

    return help_text.show()
