"""The key by which commands of this user reach the system of this machine."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli.local_key import NAME, ensure
from tests.gateway.site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Return a running gateway with its administrator."""
    opened = await Site().open()
    yield opened
    await opened.close()


class KeyFile:
    """The file in which the key is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def text(self) -> str:
        """Return what stands in it."""
        return self.path.read_text(encoding="ascii").strip()

    @property
    def mode(self) -> int:
        """Return who may do what with it."""
        return self.path.stat().st_mode & 0o777

    @property
    def is_there(self) -> bool:
        """Say whether there is one."""
        return self.path.exists()

    def remove(self) -> None:
        """Lose it."""
        self.path.unlink()

    def write(self, text: str) -> None:
        """Put something else into it."""
        self.path.write_text(text, encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    """Return the file, which is not there yet."""
    return KeyFile(tmp_path / "cli.key")


async def made(site: Site, file: KeyFile) -> str:
    """See to the key, as each start does, and return it."""
    assert await ensure(site.ports, file.path, username="admin")
    return file.text


async def status_with(site: Site, key: str) -> int:
    """Return the answer to a request that only administrators may make."""
    answer = await site.browser(key=key).get("/api/v1/admin/scaling")
    return int(answer.status)


async def test_key_opens_everything_for_its_owner_alone(site: Site, file: KeyFile) -> None:
    """It stands in a file that nobody else can read."""
    key = await made(site, file)

    assert await status_with(site, key) == 200
    assert file.mode == 0o600


async def test_next_start_keeps_the_key(site: Site, file: KeyFile) -> None:
    """Commands that run meanwhile are not locked out."""
    assert await made(site, file) == await made(site, file)


async def test_lost_key_is_replaced_and_ends(site: Site, file: KeyFile) -> None:
    """Whoever found the old file can do nothing with it."""
    old = await made(site, file)
    file.remove()

    new = await made(site, file)

    assert (await status_with(site, old), await status_with(site, new)) == (401, 200)


@pytest.mark.parametrize("text", ["", "i8s_unknown", "ä"], ids=["empty", "unknown", "damaged"])
async def test_file_without_a_key_of_ours_is_replaced(site: Site, file: KeyFile, text: str) -> None:
    """Whatever happened to it."""
    file.write(text)

    assert await status_with(site, await made(site, file)) == 200


async def test_revoked_key_is_replaced(site: Site, file: KeyFile) -> None:
    """An administrator who revokes it only has to start the system again."""
    old = await made(site, file)
    (document,) = await site.ports.api_keys.find({"name": NAME})
    await site.ports.api_keys.change(document["key_id"], set={"revoked_at": site.clock.now()})

    assert await made(site, file) != old


async def test_key_is_renewed_before_it_expires(site: Site, file: KeyFile) -> None:
    """A system that starts once a month never meets an expired one."""
    old = await made(site, file)
    await site.clock.advance(timedelta(days=340))

    new = await made(site, file)

    assert new != old
    assert await status_with(site, new) == 200


async def test_owner_who_is_no_administrator_any_more_loses_it(site: Site, file: KeyFile) -> None:
    """Nobody gets rights by a file that was left."""
    await made(site, file)
    (admin,) = await site.ports.users.find({"username_key": "admin"})
    await site.ports.users.change(admin["user_id"], set={"role": "user"})

    assert not await ensure(site.ports, file.path, username="admin")
    assert not file.is_there
