"""The body of a submit, from files and options."""

import base64
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.cli.errors import USAGE, Failure
from gateway.cli.values import JsonObject

REFUSED = 126
_BY_EXTENSION = {
    ".py": "python",
    ".js": "node",
    ".cjs": "node",
    ".rb": "ruby",
    ".sh": "bash",
    ".bash": "bash",
    ".go": "go",
}
_BY_INTERPRETER = {
    "python": "python",
    "node": "node",
    "nodejs": "node",
    "ruby": "ruby",
    "bash": "bash",
    "sh": "bash",
    "go": "go",
}
_SHEBANG = re.compile(r"#!\s*(?P<path>\S+)(?P<rest>[^\n]*)")
_STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for on the command line."""

    script: str
    """A path, or `-` for standard input."""
    lang: str | None = None
    version: str | None = None
    stdin: str | None = None
    args: Sequence[str] = ()
    files: Sequence[str] = ()
    """Each `PATH` or `NAME=PATH`."""
    timeout: int | None = None
    priority: str | None = None


def body_of(wish: Wish, standard_input: BinaryIO | None = None) -> JsonObject:
    """Return the body of a submit.

    Raises:
        Failure: A file cannot be read, or what runs it cannot be told from its name.
    """
    if wish.script == _STDIN and wish.stdin == _STDIN:
        raise Failure(
            "Standard input cannot be the script and its input at once.",
            remedy="Give one of them as a file.",
            exit_code=USAGE,
        )
    source = standard_input or sys.stdin.buffer
    script = _text(_read(wish.script, source), wish.script)
    body: JsonObject = {"script": script}
    lang = wish.lang or language_of(wish.script, script)
    further = {
        "lang": lang,
        "lang_version": wish.version,
        "args": list(wish.args) or None,
        "timeout_seconds": wish.timeout,
        "priority": wish.priority,
        "files": [_file(given, source) for given in wish.files] or None,
    }
    body.update({name: value for name, value in further.items() if value is not None})
    if wish.stdin is not None:
        body.update(_content("stdin", _read(wish.stdin, source)))
    return body


def language_of(name: str, script: str) -> str | None:
    """Return the language by extension, else by the first line; None leaves it to the server.

    Raises:
        Failure: A file whose name and first line say nothing.
    """
    known = _BY_EXTENSION.get(Path(name).suffix.lower()) or _by_first_line(script)
    if known is None and name != _STDIN:
        raise Failure(
            f"What runs {name} cannot be told from its name or its first line.",
            remedy="Say it with --lang, for example --lang python.",
            exit_code=USAGE,
        )
    return known


def _by_first_line(script: str) -> str | None:
    found = _SHEBANG.match(script)
    if found is None:
        return None
    words = [found["path"], *found["rest"].split()]
    names = [word.rpartition("/")[2] for word in words]
    if names[0] == "env":
        names = [name for name in names[1:] if not name.startswith("-") and "=" not in name]
    interpreter = re.sub(r"[\d.]+$", "", names[0]) if names else ""
    return _BY_INTERPRETER.get(interpreter)


def _read(name: str, standard_input: BinaryIO) -> bytes:
    if name == _STDIN:
        return standard_input.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"{name} cannot be read: {error.strerror}.", exit_code=USAGE) from error


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        shown = "Standard input" if name == _STDIN else name
        raise Failure(
            f"{shown} is not valid UTF-8 at byte {error.start}; scripts are text.",
            exit_code=REFUSED,
        ) from error


def _file(given: str, standard_input: BinaryIO) -> JsonObject:
    name, separator, path = given.partition("=")
    if not separator:
        name, path = Path(given).name, given
    return {"name": name, **_content("content", _read(path, standard_input))}


def _content(field: str, data: bytes) -> JsonObject:
    try:
        return {field: data.decode()}
    except UnicodeDecodeError:
        return {f"{field}_base64": base64.b64encode(data).decode()}
