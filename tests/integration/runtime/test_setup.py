"""What must be in the engines before anything runs: made, found, or named where it differs."""

import asyncio
import json

import pytest
from pymongo import MongoClient

from tests.integration.runtime.own_engines import OwnEngines
from tests.integration.runtime.system import System, User

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def marks(output: str) -> dict[str, str]:
    """Return the mark of each thing that was found."""
    lines = [line for line in output.splitlines() if line[:2] in ("+ ", "= ", "~ ", "! ")]
    return {" ".join(line.split()[1:3]): line[0] for line in lines}


def test_a_setup_may_be_repeated(system: System) -> None:
    """The second time everything is as it should be."""
    first = system.command("setup")
    second = system.command("setup")

    assert (first.returncode, second.returncode) == (0, 0)
    assert {"topic timers", "group coordinate", "index users.wake_at_1"} <= set(marks(first.stdout))
    assert set(marks(second.stdout).values()) == {"="}


@pytest.mark.parametrize(
    ("setting", "value", "seen", "remedy"),
    [
        ("PROFILE", "large", "has 3 partitions, 12 wanted", "delete the topic"),
        ("REPLICATION", "3", "has 1 copies, 3 wanted", "kafka-reassign-partitions"),
    ],
)
def test_a_topic_with_less_than_asked_for_is_named(
    system: System, setting: str, value: str, seen: str, remedy: str
) -> None:
    """With what an operator can do; nothing is changed, and the exit code says so."""
    system.set_up()

    asked = system.command("topics", "apply", **{f"INTEGR8S_TOPICS_{setting}": value})
    after = system.command("topics", "apply")

    lines = asked.stdout.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith("! topic timers")]
    assert asked.returncode == 1
    assert seen in lines[place]
    assert remedy in lines[place + 1]
    assert after.returncode == 0
    assert set(marks(after.stdout).values()) == {"="}


def test_an_older_index_is_named(system: System) -> None:
    """It is left alone, all others are made, and the remedy is a command."""
    address = system.engines.addresses["INTEGR8S_MONGO_URL"]
    with MongoClient[dict[str, object]](address) as client:
        client[system.database]["users"].create_index([("wake_at", 1)], name="older")

        asked = system.command("indexes", "apply")
        client[system.database]["users"].drop_index("older")
        mended = system.command("indexes", "apply")

    assert asked.returncode == 1
    assert marks(asked.stdout)["index users.older"] == "!"
    assert 'db.users.dropIndex("older")' in asked.stdout
    assert marks(asked.stdout)["index executions.wake_at_1"] == "+"
    assert mended.returncode == 0
    assert marks(mended.stdout)["index users.wake_at_1"] == "+"


async def test_who_is_too_early_is_not_turned_away(system: System, engines: OwnEngines) -> None:
    """A broker answers before it can coordinate groups; a command waits for that by itself."""
    system.set_up()
    await asyncio.to_thread(engines.kill, "kafka")

    asking = asyncio.create_task(asyncio.to_thread(system.command, "topics", "apply"))
    await asyncio.to_thread(engines.start, "kafka")
    asked = await asking

    assert asked.returncode == 0, asked.stderr
    assert "waiting" in asked.stderr
    assert set(marks(asked.stdout).values()) == {"="}


def test_doctor_finds_a_sound_installation_sound(system: System, engines: OwnEngines) -> None:
    """And what is missing, with the command that makes it."""
    engines.wipe("kafka")  # what other tests said in there has its documents elsewhere
    bare = system.command("doctor")
    system.set_up()
    sound = system.command("doctor")

    assert bare.returncode == 1
    assert "index users.wake_at_1 is missing" in bare.stdout
    assert "-> Run `integr8s indexes apply`." in bare.stdout
    assert "topic timers is missing" in bare.stdout
    assert sound.returncode == 0, sound.stdout
    assert not any(line.startswith("fail") for line in sound.stdout.splitlines())
    assert "invariant 18" in sound.stdout


def test_doctor_names_what_breaks_a_rule(system: System, engines: OwnEngines) -> None:
    """Here an accepted execution, whose event was said and whose document somebody removed."""
    engines.wipe("kafka")
    system.set_up()
    with system.gateway() as gateway:
        execution_id = User(gateway).submit()
        gateway.entry.stop()  # in order, so that its event is said
    with MongoClient[dict[str, object]](engines.addresses["INTEGR8S_MONGO_URL"]) as client:
        client[system.database]["executions"].delete_one({"_id": execution_id})

    asked = system.command("doctor", "--json")

    found = {one["check"]: one for one in json.loads(asked.stdout)["findings"]}
    assert asked.returncode == 1
    assert [name for name, one in found.items() if one["state"] == "fail"] == ["invariant 1"]
    assert execution_id in found["invariant 1"]["seen"]
    assert "report it" in found["invariant 1"]["remedy"]
    assert "1 for coordinate" in found["lag"]["seen"]
