"""Submit, look, cancel, run again."""

import base64
from datetime import timedelta

import pytest

from gateway.schemas import Execution, Executions, Result
from tests.gateway.site import Site

EXECUTE = "/api/v1/execute"
UNKNOWN = "019b76da-a800-7e1b-b06c-000000000000"


async def test_a_script_is_accepted_with_a_receipt(site: Site) -> None:
    """The receipt names the execution and where to look for it."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, json={"script": "print('é')", "lang": "python"})

    assert (answer.status, answer.json["status"]) == (200, "queued")
    location = answer.header("location")
    assert location == f"/api/v1/executions/{answer.json['execution_id']}"
    shown = (await browser.get(location)).json
    assert Execution.model_validate(shown).script == "print('é')"
    assert shown["position"] == 1


async def test_a_key_with_the_scope_needs_no_csrf_token(site: Site) -> None:
    """Programs submit with an API key alone."""
    robot = await site.key(await site.user(), "execute")

    assert (await robot.post(EXECUTE, json={"script": ""})).status == 200


@pytest.mark.parametrize(
    ("body", "status", "loc"),
    [
        pytest.param({}, 422, ["body", "script"], id="no-script"),
        pytest.param({"script": 1}, 422, ["body", "script"], id="number"),
        pytest.param({"script": "", "lang": "cobol"}, 422, ["body", "lang"], id="language"),
        pytest.param({"script": "", "lang_version": "2"}, 422, ["body", "lang_version"], id="old"),
        pytest.param(
            {"script": "", "timeout_seconds": True}, 422, ["body", "timeout_seconds"], id="bool"
        ),
        pytest.param(
            {"script": "", "timeout_seconds": 10**18}, 422, ["body", "timeout_seconds"], id="huge"
        ),
        pytest.param({"script": "x" * 50_001}, 422, ["body", "script"], id="too-long"),
    ],
)
async def test_a_bad_body_is_refused_with_a_pointer(
    site: Site, body: dict[str, object], status: int, loc: list[str]
) -> None:
    """The refusal points to the field and leaves nothing behind."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, json=body)

    assert answer.status == status
    assert answer.json["errors"][0]["loc"] == loc
    assert isinstance(answer.json["detail"], str)
    assert await site.ports.executions.count() == 0


async def test_high_priority_is_for_those_who_may(site: Site) -> None:
    """A user is refused, an administrator is not."""
    body = {"script": "", "priority": "high"}

    refused = await (await site.user()).post(EXECUTE, json=body)
    taken = await (await site.admin()).post(EXECUTE, json=body)

    assert (refused.status, refused.json["code"]) == (403, "priority_not_allowed")
    assert taken.status == 200


async def test_the_same_key_gives_the_same_execution(site: Site) -> None:
    """A repeat is answered with the first id and says so; a quoted key is the same key."""
    browser = await site.user()

    first = await browser.post(EXECUTE, json={"script": "1"}, headers={"idempotency-key": "k1"})
    again = await browser.post(EXECUTE, json={"script": "1"}, headers={"idempotency-key": '"k1"'})

    assert first.json == again.json
    assert (first.header("idempotency-replayed"), again.header("idempotency-replayed")) == (
        None,
        "true",
    )


async def test_a_key_means_another_thing_for_another_user(site: Site) -> None:
    """Keys of two users never meet."""
    headers = {"idempotency-key": "k1"}

    mine = await (await site.user("ada")).post(EXECUTE, json={"script": "1"}, headers=headers)
    theirs = await (await site.user("bob")).post(EXECUTE, json={"script": "2"}, headers=headers)

    assert mine.json["execution_id"] != theirs.json["execution_id"]


@pytest.mark.parametrize("key", ["", "two words", "é", "x" * 256])
async def test_a_key_that_is_none_is_refused(site: Site, key: str) -> None:
    """Only visible ASCII of a bounded length is a key."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, json={"script": ""}, headers={"idempotency-key": key})

    assert answer.status == 422


async def test_a_full_queue_of_a_user_says_when_to_come_back(site: Site) -> None:
    """The refusal names the limit and carries Retry-After."""
    browser = await site.user()
    for _ in range(5):
        await site.submit(browser)

    answer = await browser.post(EXECUTE, json={"script": ""})

    assert (answer.status, answer.json["code"]) == (429, "user_queue_full")
    assert answer.json["retry_after"] == int(answer.header("retry-after") or 0) >= 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/output/stdout"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ],
)
async def test_somebody_elses_execution_looks_unknown(site: Site, method: str, path: str) -> None:
    """A foreign id and an unknown id are answered alike; an administrator sees it."""
    execution_id = await site.submit(await site.user("ada"))
    other = await site.user("bob")

    foreign = await other.request(method, f"/api/v1/executions/{execution_id}{path}")
    unknown = await other.request(method, f"/api/v1/executions/{UNKNOWN}{path}")

    assert foreign.status == unknown.status == 404
    assert {**foreign.json, "instance": ""} == {**unknown.json, "instance": ""}


async def test_an_administrator_sees_every_execution(site: Site) -> None:
    """Administrators are let in, but not by a key without the scope."""
    execution_id = await site.submit(await site.user("ada"))
    admin = await site.admin()
    robot = await site.key(admin, "read")

    assert (await admin.get(f"/api/v1/executions/{execution_id}")).status == 200
    assert (await robot.get(f"/api/v1/executions/{execution_id}")).status == 404


async def test_the_compatibility_switch_says_403() -> None:
    """Existing tests of clients expect 403 for what belongs to others."""
    site = await Site(compat_foreign_403=True).open()
    execution_id = await site.submit(await site.user("ada"))

    answer = await (await site.user("bob")).get(f"/api/v1/executions/{execution_id}")
    await site.close()

    assert answer.status == 403


@pytest.mark.parametrize("junk", ["nothing", "..", "%00", "A" * 5000, "{}", UNKNOWN.upper()])
async def test_an_id_that_is_none_is_unknown(site: Site, junk: str) -> None:
    """Whatever stands in the address, the store is not asked for it."""
    browser = await site.user()

    assert (await browser.get(f"/api/v1/executions/{junk}")).status == 404


async def test_the_result_has_the_output_so_far(site: Site) -> None:
    """While it runs, what was printed live is the output, bytes included."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ports.executions.change(execution_id, set={"status": "running"})
    raw = base64.b64encode(b"\xff\n").decode()
    output = "execution.output"
    await site.happened(
        execution_id, output, stream="stdout", offset=0, data="é\n", encoding="utf-8"
    )
    await site.happened(
        execution_id, output, stream="stderr", offset=0, data=raw, encoding="base64"
    )

    result = (await browser.get(f"/api/v1/executions/{execution_id}/result")).json

    assert (result["status"], result["stdout"]) == ("running", "é\n")
    assert result["stderr_base64"] == raw
    Result.model_validate(result)


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        pytest.param(None, 200, b"0123456789", None, id="all"),
        pytest.param("bytes=2-4", 206, b"234", "bytes 2-4/10", id="middle"),
        pytest.param("bytes=7-", 206, b"789", "bytes 7-9/10", id="from"),
        pytest.param("bytes=-3", 206, b"789", "bytes 7-9/10", id="last"),
        pytest.param("bytes=-99", 206, b"0123456789", "bytes 0-9/10", id="last-of-more"),
        pytest.param("bytes=5-99", 206, b"56789", "bytes 5-9/10", id="beyond"),
        pytest.param("bytes=0-1,3-4", 200, b"0123456789", None, id="several"),
        pytest.param("bytes=4-2", 200, b"0123456789", None, id="backwards"),
        pytest.param("lines=1-2", 200, b"0123456789", None, id="other-unit"),
    ],
)
async def test_the_bytes_can_be_read_in_parts(
    site: Site, header: str | None, status: int, body: bytes, content_range: str | None
) -> None:
    """One range is honoured; what else is asked for gives everything."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ended(execution_id, stdout=b"0123456789", stdout_truncated=True)
    headers = {"range": header} if header else {}

    answer = await browser.get(f"/api/v1/executions/{execution_id}/output/stdout", headers=headers)

    assert (answer.status, answer.body) == (status, body)
    assert answer.header("content-range") == content_range
    assert answer.header("x-truncated") == "true"
    assert answer.header("content-type") == "application/octet-stream"


async def test_a_range_after_the_end_is_not_satisfiable(site: Site) -> None:
    """416 tells how many bytes there are."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ended(execution_id, stdout=b"0123456789")

    path = f"/api/v1/executions/{execution_id}/output/stdout"
    answer = await browser.get(path, headers={"range": "bytes=10-"})

    assert (answer.status, answer.header("content-range")) == (416, "bytes */10")


async def test_there_is_no_third_output(site: Site) -> None:
    """Only stdout and stderr have bytes."""
    browser = await site.user()
    execution_id = await site.submit(browser)

    answer = await browser.get(f"/api/v1/executions/{execution_id}/output/script")

    assert answer.status == 404


async def test_a_cancel_is_recorded_once_with_its_reason(site: Site) -> None:
    """The first wish is stored with its event; the second says that it came second."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    path = f"/api/v1/executions/{execution_id}/cancel"

    first = await browser.post(path, json={"reason": "too slow"})
    second = await browser.post(path)

    assert first.json["status"] == "cancellation_requested"
    assert first.json["event_id"]
    assert second.json["status"] == "already_cancelled"
    shown = (await browser.get(f"/api/v1/executions/{execution_id}")).json
    assert shown["cancel_reason"] == "too slow"
    leftovers = await site.documents("executions").leftovers(before=site.clock.now(), limit=10)
    said = [event.type for _, events in leftovers for event in events]
    assert said == ["execution.requested", "execution.cancel_requested"]


async def test_a_finished_run_cannot_be_cancelled(site: Site) -> None:
    """400 names the status; a cancelled one is already cancelled."""
    browser = await site.user()
    done, cancelled = await site.submit(browser), await site.submit(browser)
    await site.ended(done)
    await site.ended(cancelled, status="cancelled")

    refused = await browser.post(f"/api/v1/executions/{done}/cancel")
    again = await browser.post(f"/api/v1/executions/{cancelled}/cancel")

    assert (refused.status, refused.json["code"]) == (400, "wrong_state")
    assert (again.status, again.json["status"]) == (200, "already_cancelled")


async def test_a_long_reason_is_refused(site: Site) -> None:
    """500 characters are enough."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    path = f"/api/v1/executions/{execution_id}/cancel"

    assert (await browser.post(path, json={"reason": "x" * 501})).status == 422


async def test_a_finished_run_runs_again_with_its_inputs(site: Site) -> None:
    """Script, arguments, stdin and files are the same, the priority is normal."""
    browser = await site.user()
    body = {
        "args": ["a"],
        "stdin_base64": base64.b64encode(b"\xff").decode(),
        "files": [{"name": "x.txt", "content": "y"}],
        "priority": "low",
    }
    execution_id = await site.submit(browser, **body)
    early = await browser.post(f"/api/v1/executions/{execution_id}/retry")
    await site.ended(execution_id)

    answer = await browser.post(f"/api/v1/executions/{execution_id}/retry")

    assert early.status == 400
    again = await site.ports.executions.get(answer.json["execution_id"])
    assert again is not None
    assert (again["retry_of"], again["priority"]) == (execution_id, "normal")
    assert (again["args"], again["stdin"], again["files"][0]["content"]) == (["a"], b"\xff", b"y")


async def test_events_are_listed_filtered_and_paged(site: Site) -> None:
    """Both spellings of a type filter, and Link leads to the rest."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    for name in ("execution.requested", "execution.queued", "execution.cancel_requested"):
        await site.happened(execution_id, name, position=1)
    path = f"/api/v1/executions/{execution_id}/events"

    page = await browser.get(f"{path}?limit=2")
    rest = await browser.get((page.header("link") or "")[1:].partition(">")[0])
    some = await browser.get(
        f"{path}?event_types=execution_queued,nothing&event_types=execution.cancel_requested"
    )

    assert [event["seq"] for event in page.json] == [1, 2]
    assert [event["seq"] for event in rest.json] == [3]
    assert rest.header("link") is None
    assert [event["event_type"] for event in some.json] == [
        "execution.queued",
        "execution.cancel_requested",
    ]
    assert page.json[0]["metadata"]["service_name"] == "test"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after_seq=-1", "limit=x"])
async def test_bounds_of_paging_are_kept(site: Site, query: str) -> None:
    """What is out of range is refused, not silently changed."""
    browser = await site.user()
    execution_id = await site.submit(browser)

    answer = await browser.get(f"/api/v1/executions/{execution_id}/events?{query}")

    assert answer.status == 422


async def test_ones_own_list_is_paged_without_gaps(site: Site) -> None:
    """A cursor walks through all, also those of one millisecond, while new ones come."""
    browser = await site.user()
    ids = [await site.submit(browser) for _ in range(3)]
    await site.clock.advance(timedelta(seconds=1))
    ids += [await site.submit(browser) for _ in range(2)]
    await site.submit(await site.user("bob"))
    seen: list[str] = []
    path = "/api/v1/user/executions?limit=2"

    first = await browser.get(path)
    await site.clock.advance(timedelta(seconds=1))
    for execution_id in ids[:1]:
        await site.ended(execution_id)
    newest = await site.submit(browser)
    second = await browser.get(f"{path}&cursor={first.json['next_cursor']}")
    third = await browser.get(f"{path}&cursor={second.json['next_cursor']}")
    for page in (first, second, third):
        Executions.model_validate(page.json)
        seen += [one["execution_id"] for one in page.json["executions"]]

    assert sorted(seen) == sorted(ids)
    assert newest not in seen
    assert third.json["next_cursor"] is None


async def test_ones_own_list_is_filtered(site: Site) -> None:
    """Status, language and time narrow it; the answer counts what matches."""
    browser = await site.user()
    await site.submit(browser)
    await site.clock.advance(timedelta(minutes=20))
    bash = await site.submit(browser, lang="bash")

    found = await browser.get(
        "/api/v1/user/executions?lang=bash&status=queued&start_time=2026-01-01T00:10:00Z"
    )

    assert [one["execution_id"] for one in found.json["executions"]] == [bash]
    assert found.json["total"] == 1


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WzEsMl0", "W10", "%00"])
async def test_a_forged_cursor_is_refused(site: Site, cursor: str) -> None:
    """Nothing that a client makes up reaches the store."""
    browser = await site.user()

    answer = await browser.get(f"/api/v1/user/executions?cursor={cursor}")

    assert answer.status == 422
