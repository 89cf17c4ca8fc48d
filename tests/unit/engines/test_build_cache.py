"""Expensive things are made once, whole, and again when their inputs change."""

import threading
from pathlib import Path

import pytest

from tests.engines.build_cache import built

pytestmark = pytest.mark.usefixtures("state")


def test_same_inputs_are_built_once() -> None:
    """The second time the folder is there already."""
    made: list[Path] = []

    first = built("thing", ["flags"], made.append)
    second = built("thing", ["flags"], made.append)

    assert first == second
    assert len(made) == 1


def test_changed_input_is_built_anew(tmp_path: Path) -> None:
    """A file counts by its content, not by its age."""
    source = tmp_path / "main.go"
    source.write_text("one")
    first = built("thing", [source], lambda folder: folder.joinpath("result").touch())
    source.write_text("two")

    second = built("thing", [source], lambda folder: folder.joinpath("result").touch())

    assert first != second
    assert (first / "result").exists()


def test_borders_between_inputs_count() -> None:
    """Two lists whose texts are equal when put together are two inputs."""
    first = built("thing", ["ab", "c"], lambda _: None)

    assert first != built("thing", ["a", "bc"], lambda _: None)


def test_result_appears_complete() -> None:
    """While it is being made nothing has its final name."""
    seen: list[bool] = []

    def make(folder: Path) -> None:
        (folder / "half").touch()
        seen.extend(path.suffix == ".partial" for path in folder.parent.iterdir() if path.is_dir())

    done = built("thing", ["x"], make)

    assert seen == [True]
    assert (done / "half").exists()


def test_failed_build_leaves_nothing() -> None:
    """The next one starts from an empty folder, and its result is the one that is kept."""

    def fail(folder: Path) -> None:
        (folder / "rubbish").touch()
        raise ValueError("no compiler")

    with pytest.raises(ValueError, match="no compiler"):
        built("thing", ["x"], fail)

    assert list(built("thing", ["x"], lambda _: None).iterdir()) == []


def test_remains_of_a_killed_builder_are_removed(state: Path) -> None:
    """A partial folder is never taken for a result, nor built upon."""
    done = built("thing", ["x"], lambda _: None)
    partial = done.with_name(f"{done.name}.partial")
    done.rename(partial)
    (partial / "rubbish").touch()

    again = built("thing", ["x"], lambda _: None)

    assert list(again.iterdir()) == []
    assert not state.joinpath(partial).exists()


def test_builders_wait_for_each_other() -> None:
    """Of two at the same moment one makes it, the other gets what the first has made."""
    made: list[Path] = []
    entered, may_end = threading.Event(), threading.Event()

    def make(folder: Path) -> None:
        made.append(folder)
        entered.set()
        assert may_end.wait(10)

    found: list[Path] = []
    builders = [
        threading.Thread(target=lambda: found.append(built("thing", ["x"], make))) for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    assert entered.wait(10)
    may_end.set()
    for builder in builders:
        builder.join(10)

    assert len(made) == 1
    assert found[0] == found[1]
