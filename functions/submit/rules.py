"""What a valid request is, and the document that it becomes."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.domain.errors import FieldError, Refusal
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import PRIVILEGED, Priority, Status, rank
from shared.domain.input_limits import ALL_BYTES, SCRIPT_CHARS, STDIN_BYTES
from shared.domain.quantities import memory_bytes, memory_quantity
from shared.domain.runtimes import LANGUAGES, Offer

ARGS = 32
ARG_CHARS = 1_024
ARGS_BYTES = 8 * 1024
FILES = 16
DEFAULT_LANGUAGE = "python"
DEFAULT_VERSION = "3.11"

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A valid request: what to run, with what, under which limits."""

    script: str
    lang: str
    lang_version: str
    image: str
    """Where it runs on a cluster; fixed at submit, like every other limit."""
    args: tuple[str, ...] = ()
    stdin: bytes | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    timeout_seconds: int
    priority: Priority


@dataclass(slots=True)
class _Reading:
    """A body that is being read: the errors so far, so that one answer names them all."""

    body: Mapping[str, Any]
    errors: list[FieldError] = field(default_factory=list)

    def wrong(self, loc: tuple[str | int, ...], msg: str, kind: str) -> None:
        """Note a wrong field."""
        self.errors.append(FieldError(("body", *loc), msg, kind))

    def text(self, name: str, default: str | None) -> str:
        """Return a text field; absent and null take the default, None makes it required."""
        value = self.body.get(name)
        if value is None:
            if default is None:
                self.wrong((name,), "this field is required, as a text", "missing")
            return default or ""
        if not isinstance(value, str):
            self.wrong((name,), f"must be a text, not {_kind(value)}", "string_type")
            return default or ""
        if not _is_encodable(value):
            self.wrong((name,), "must be valid Unicode without lone surrogates", "string_unicode")
            return default or ""
        return value

    def data(
        self, holder: Mapping[str, Any], name: str, loc: tuple[str | int, ...]
    ) -> bytes | None:
        """Return the bytes of `name` or `name`_base64 of an object; None where both are absent."""
        plain, encoded = holder.get(name), holder.get(f"{name}_base64")
        if plain is not None and encoded is not None:
            self.wrong((*loc, name), f"give {name} or {name}_base64, not both", "value_error")
        elif plain is not None:
            if isinstance(plain, str) and _is_encodable(plain):
                return plain.encode()
            self.wrong((*loc, name), f"must be a text, not {_kind(plain)}", "string_type")
        elif encoded is not None:
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError, TypeError):
                self.wrong((*loc, f"{name}_base64"), "must be valid base64", "base64")
        return None


def order(
    body: Mapping[str, Any],
    *,
    offer: Offer,
    settings: ExecutionSettings,
    may_raise_priority: bool,
) -> Order:
    """Return the valid order that a request body stands for.

    Raises:
        Refusal: With every wrong field, or the one reason why it cannot run here.
    """
    reading = _Reading(body)
    script = reading.text("script", None)
    lang = reading.text("lang", DEFAULT_LANGUAGE)
    version = body.get("lang_version")
    if version is not None and not isinstance(version, str):
        reading.wrong(("lang_version",), f"must be a text, not {_kind(version)}", "string_type")
    args = _args(reading)
    stdin = reading.data(body, "stdin", ())
    files = _files(reading)
    timeout = _timeout(reading, lang, settings)
    priority = _priority(reading)
    if reading.errors:
        first = reading.errors[0]
        where = ".".join(str(part) for part in first.loc[1:])
        raise Refusal("validation_failed", f"{where}: {first.msg}.", errors=reading.errors)
    _refuse_sizes(script, stdin, files)
    chosen = _version(lang, version, offer)
    if LANGUAGES[lang].filename in {name for name, _ in files}:
        detail = f"files: the name {LANGUAGES[lang].filename} is the script's own."
        error = FieldError(("body", "files"), "clashes with the script's name", "value_error")
        raise Refusal("validation_failed", detail, errors=[error])
    if priority in PRIVILEGED and not may_raise_priority:
        detail = f"The priority {priority} is for administrators; use normal, low or background."
        raise Refusal("priority_not_allowed", detail)
    return Order(
        script=script,
        lang=lang,
        lang_version=chosen,
        image=offer.image(lang, chosen),
        args=args,
        stdin=stdin,
        files=files,
        timeout_seconds=timeout,
        priority=priority,
    )


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _args(reading: _Reading) -> tuple[str, ...]:
    args = reading.body.get("args")
    if args is None:
        return ()
    if not isinstance(args, list):
        reading.wrong(("args",), f"must be a list of texts, not {_kind(args)}", "list_type")
        return ()
    if len(args) > ARGS:
        reading.wrong(("args",), f"at most {ARGS} items, not {len(args)}", "too_long")
        return ()
    for position, arg in enumerate(args):
        if not isinstance(arg, str) or not _is_encodable(arg) or "\0" in arg:
            reading.wrong(("args", position), "must be a text without NUL", "string_type")
        elif len(arg) > ARG_CHARS:
            message = f"at most {ARG_CHARS} characters, not {len(arg)}"
            reading.wrong(("args", position), message, "too_long")
    if not reading.errors and sum(len(arg.encode()) for arg in args) > ARGS_BYTES:
        reading.wrong(("args",), f"at most {ARGS_BYTES} bytes in all", "too_long")
    return () if reading.errors else tuple(args)


def _files(reading: _Reading) -> tuple[tuple[str, bytes], ...]:
    files = reading.body.get("files")
    if files is None:
        return ()
    if not isinstance(files, list):
        reading.wrong(("files",), f"must be a list, not {_kind(files)}", "list_type")
        return ()
    if len(files) > FILES:
        reading.wrong(("files",), f"at most {FILES} files, not {len(files)}", "too_long")
        return ()
    found: dict[str, bytes] = {}
    for position, file in enumerate(files):
        loc = ("files", position)
        if not isinstance(file, dict):
            reading.wrong(loc, "must be an object with name and content", "dict_type")
            continue
        name = file.get("name")
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            message = "1 to 100 letters, digits, dots, dashes, underscores, no dot in front"
            reading.wrong((*loc, "name"), message, "value_error")
            continue
        if name in found:
            reading.wrong((*loc, "name"), "stands there twice", "value_error")
        content = reading.data(file, "content", loc)
        if content is None and "content" not in file and "content_base64" not in file:
            reading.wrong((*loc, "content"), "this field is required", "missing")
        found[name] = content or b""
    return tuple(found.items())


def _timeout(reading: _Reading, lang: str, settings: ExecutionSettings) -> int:
    limit = settings.max_timeout_seconds
    default = settings.default_timeout_seconds
    if lang in LANGUAGES:
        default = max(default, int(LANGUAGES[lang].default_timeout.total_seconds()))
    value = reading.body.get("timeout_seconds")
    if value is None:
        return min(default, limit)
    if isinstance(value, bool) or not isinstance(value, int):
        reading.wrong(("timeout_seconds",), f"must be a whole number, 1 to {limit}", "int_type")
        return default
    if not 1 <= value <= limit:
        message = f"must be from 1 to {limit}, not {value}"
        reading.wrong(("timeout_seconds",), message, "out_of_range")
    return value


def _priority(reading: _Reading) -> Priority:
    name = reading.text("priority", Priority.NORMAL)
    if name not in set(Priority):
        reading.wrong(("priority",), f"one of {', '.join(Priority)}", "enum")
        return Priority.NORMAL
    return Priority(name)


def _refuse_sizes(script: str, stdin: bytes | None, files: tuple[tuple[str, bytes], ...]) -> None:
    _refuse_over(len(script), SCRIPT_CHARS, "script", "characters", "script_too_long")
    _refuse_over(len(stdin or b""), STDIN_BYTES, "stdin", "bytes", "input_too_large")
    together = len(script.encode()) + len(stdin or b"") + sum(len(data) for _, data in files)
    _refuse_over(together, ALL_BYTES, "files", "bytes with script and stdin", "input_too_large")


def _refuse_over(value: int, limit: int, name: str, unit: str, code: str) -> None:
    if value > limit:
        detail = f"{name}: {value} {unit}; at most {limit} are accepted."
        error = FieldError(("body", name), f"at most {limit} {unit}, not {value}", "too_long")
        raise Refusal(code, detail, errors=[error], context={"limit": limit, "current": value})


def _version(lang: str, version: str | None, offer: Offer) -> str:
    if lang not in offer:
        names = ", ".join(language.name for language in offer) or "none"
        error = FieldError(("body", "lang"), f"one of {names}", "enum")
        detail = f"The language {lang[:40]!r} does not run here; choose one of {names}."
        raise Refusal("unsupported_language", detail, errors=[error])
    if version is None:
        return offer.default_version(lang)
    if version not in offer.versions(lang):
        names = ", ".join(offer.versions(lang))
        error = FieldError(("body", "lang_version"), f"one of {names}", "enum")
        detail = f"{lang} {version[:40]!r} does not run here; choose one of {names}."
        raise Refusal("unsupported_version", detail, errors=[error])
    return version


def execution_document(
    wanted: Order,
    *,
    execution_id: str,
    user_id: str,
    at: datetime,
    settings: ExecutionSettings,
    trace: Mapping[str, str],
    source: str | None = None,
    retry_of: str | None = None,
) -> dict[str, Any]:
    """Return the document of an accepted execution, with every limit that applies to it."""
    language = LANGUAGES[wanted.lang]
    memory = max(memory_bytes(settings.memory_limit), language.least_memory_bytes)
    return {
        "execution_id": execution_id,
        "user_id": user_id,
        "status": Status.QUEUED.value,
        "rank": rank(at, wanted.priority),
        "priority": wanted.priority.value,
        "script": wanted.script,
        "lang": wanted.lang,
        "lang_version": wanted.lang_version,
        "args": list(wanted.args),
        "stdin": wanted.stdin,
        "files": [
            {
                "name": name,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "content": content,
            }
            for name, content in wanted.files
        ],
        "timeout_seconds": wanted.timeout_seconds,
        "limits": {
            "image": wanted.image,
            "command": list(language.command),
            "filename": language.filename,
            "cpu_limit": settings.cpu_limit,
            "memory_limit": memory_quantity(memory),
            "cpu_request": settings.cpu_request,
            "memory_request": settings.memory_request,
            "tmp_bytes": language.tmp_bytes,
            "output_limit_bytes": settings.output_limit_bytes,
        },
        "source": source,
        "retry_of": retry_of,
        "accepted_at": at,
        "created_at": at,
        "updated_at": at,
        "correlation_id": trace["correlation_id"],
        "traceparent": trace["traceparent"],
    }


def fingerprint(body: Mapping[str, Any], path: str, dumps: Callable[[Any], bytes]) -> str:
    """Return the SHA-256 of the canonical JSON and the path: the same request, the same text."""
    return hashlib.sha256(path.encode() + b"\n" + dumps(body)).hexdigest()
