"""The body of a submit, from what was typed."""

import base64
import io
from pathlib import Path

import pytest

from gateway.cli.errors import Failure
from gateway.cli.scripts import Wish, body_of, language_of


@pytest.mark.parametrize(
    ("name", "script", "language"),
    [
        ("a.py", "", "python"),
        ("a.JS", "", "node"),
        ("a.rb", "", "ruby"),
        ("a.sh", "", "bash"),
        ("a.go", "", "go"),
        ("a", "#!/usr/bin/python3.11 -u\n", "python"),
        ("a", "#!/usr/bin/env node\n", "node"),
        ("a", "#!/usr/bin/env -S LANG=C ruby -w\n", "ruby"),
        ("a", "#! /bin/sh\n", "bash"),
        ("a.py", "#!/bin/sh\n", "python"),
        ("-", "#!/bin/bash\n", "bash"),
        ("-", "print(1)", None),
    ],
)
def test_language_is_told_by_name_then_by_first_line(
    name: str, script: str, language: str | None
) -> None:
    """Standard input without a first line is left to the server's default."""
    assert language_of(name, script) == language


@pytest.mark.parametrize("script", ["print(1)", "#!/usr/bin/env", "#!/usr/bin/perl"])
def test_language_that_cannot_be_told_is_asked_for(script: str) -> None:
    """A guess could run the wrong thing."""
    with pytest.raises(Failure, match="--lang"):
        language_of("script", script)


def test_only_what_was_asked_for_is_sent(tmp_path: Path) -> None:
    """Defaults are the server's business."""
    path = tmp_path / "a.py"
    path.write_text("print(1)")

    assert body_of(Wish(script=str(path))) == {"script": "print(1)", "lang": "python"}


def test_bytes_that_are_no_text_travel_as_base64(tmp_path: Path) -> None:
    """Inputs may be anything; scripts are text."""
    (tmp_path / "a.py").write_text("")
    (tmp_path / "x.bin").write_bytes(b"\xff\x00")

    body = body_of(
        Wish(script=str(tmp_path / "a.py"), stdin="-", files=[f"in={tmp_path / 'x.bin'}"]),
        io.BytesIO(b"\xfe"),
    )

    assert base64.b64decode(body["stdin_base64"]) == b"\xfe"
    assert body["files"] == [{"name": "in", "content_base64": "/wA="}]


def test_file_without_a_name_keeps_its_own(tmp_path: Path) -> None:
    """Without the folders above it."""
    (tmp_path / "data.csv").write_text("1,2")

    body = body_of(Wish(script="-", files=[str(tmp_path / "data.csv")]), io.BytesIO(b"print(1)"))

    assert body["files"] == [{"name": "data.csv", "content": "1,2"}]


def test_script_that_is_no_text_names_the_place() -> None:
    """The byte where reading stopped."""
    with pytest.raises(Failure, match="at byte 2") as failed:
        body_of(Wish(script="-"), io.BytesIO(b"ab\xff"))

    assert failed.value.exit_code == 126
